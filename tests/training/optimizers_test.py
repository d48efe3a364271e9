import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.training.optimizers import MomentumSGD, adam, momentum_sgd


def steps(optimizer, weights, gradients):
    """The weights after steps with given gradients."""
    variable = keras.Variable(np.array(weights, "float32"))
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(np.array(gradient, "float32"))], [variable])
    return keras.ops.convert_to_numpy(variable)


def test_sgd_adds_up_momentum():
    optimizer = momentum_sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    # v1 = -0.1 * 1 = -0.1; v2 = 0.9 * v1 - 0.1 * 2 = -0.29; 5 - 0.1 - 0.29
    np.testing.assert_allclose(steps(optimizer, [5.0], [[1.0], [2.0]]), [4.61], rtol=1e-6)


def test_sgd_decays_weights_by_learning_rate_times_weight_decay_apart_from_the_momentum():
    optimizer = momentum_sgd(learning_rate=0.1, weight_decay=0.5)
    # Without a gradient each step leaves 1 - 0.1 * 0.5 of the weight.
    np.testing.assert_allclose(steps(optimizer, [2.0], [[0.0], [0.0]]), [2 * 0.95**2], rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_keras_sgd(nesterov):
    arguments = {"momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.01, "global_clipnorm": 3.0}
    generator = np.random.default_rng(1)
    weights, gradients = generator.normal(size=(4, 3)), generator.normal(size=(5, 4, 3))
    expected = steps(keras.optimizers.SGD(0.1, **arguments), weights, gradients)
    np.testing.assert_allclose(steps(MomentumSGD(0.1, **arguments), weights, gradients), expected, rtol=1e-6)


def test_sgd_follows_a_learning_rate_that_changes_between_compiled_steps():
    optimizer = momentum_sgd(learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    variable = keras.Variable([0.0])
    optimizer.build([variable])
    step = tf.function(lambda: optimizer.apply([tf.constant([1.0])], [variable]))
    step()
    optimizer.learning_rate = 0.5
    step()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), [-1.5], rtol=1e-6)


def test_sgd_scales_a_long_gradient_to_the_norm_and_leaves_a_short_one():
    optimizer = momentum_sgd(learning_rate=1.0, momentum=0.0, weight_decay=0.0, gradient_norm=5.0)
    # |(6, 8)| = 10 is halved to (3, 4), which is as long as allowed and stays.
    np.testing.assert_allclose(steps(optimizer, [0.0, 0.0], [[6.0, 8.0], [3.0, 4.0]]), [-6, -8], rtol=1e-6)


def test_adams_first_step_is_the_learning_rate_whatever_the_gradients_size():
    optimizer = adam(learning_rate=0.02, weight_decay=0.0)
    np.testing.assert_allclose(steps(optimizer, [1.0, 1.0], [[10.0, -0.1]]), [0.98, 1.02], rtol=1e-5)


def test_adams_second_step_follows_the_means_of_gradient_and_square():
    optimizer = adam(learning_rate=0.1, weight_decay=0.0, beta_1=0.5, beta_2=0.75)
    # Gradients 1, then 3. m = 0.5 * 0.5 + 0.5 * 3 = 1.75, corrected by 1 - 0.5^2: 7/3.
    # v = 0.75 * 0.25 + 0.25 * 9 = 2.4375, corrected by 1 - 0.75^2 = 0.4375: 39/7. First step: 0.1.
    expected = -0.1 - 0.1 * (7 / 3) / np.sqrt(39 / 7)
    np.testing.assert_allclose(steps(optimizer, [0.0], [[1.0], [3.0]]), [expected], rtol=1e-5)


def test_adam_decays_weights_apart_from_the_gradient():
    optimizer = adam(learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(steps(optimizer, [2.0], [[0.0]]), [2 * 0.95], rtol=1e-6)


@pytest.mark.parametrize("make", [momentum_sgd, adam])
def test_every_weight_is_decayed_as_the_paper_says_of_weights_and_biases(make):
    optimizer = make(learning_rate=0.1)
    assert optimizer.weight_decay == 5e-4
    bias = keras.Variable(np.array([4.0], "float32"), name="bias")
    optimizer.apply([keras.ops.zeros(1)], [bias])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(bias), [4 * (1 - 0.1 * 5e-4)], rtol=1e-6)
