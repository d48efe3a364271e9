import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.training.optimizers import Adam, MomentumSGD, adam, momentum_sgd


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


def test_adam_is_keras_adam():
    arguments = {"beta_1": 0.5, "beta_2": 0.99, "epsilon": 1e-2, "weight_decay": 0.01, "global_clipnorm": 3.0}
    generator = np.random.default_rng(1)
    weights, gradients = generator.normal(size=(4, 3)), generator.normal(size=(9, 4, 3))
    expected = steps(keras.optimizers.Adam(0.1, **arguments), weights, gradients)
    np.testing.assert_allclose(steps(Adam(0.1, **arguments), weights, gradients), expected, rtol=1e-5)


def test_adam_is_the_papers_adam_nearer_than_keras_comes():
    gradients = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    mean = square = weight = np.zeros(3)
    for step, gradient in enumerate(gradients.astype("float64"), 1):  # Kingma and Ba, 2015, section 2, as it ends
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        weight = weight - 0.01 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * mean / (np.sqrt(square) + 1e-7)
    ours, keras_own = (
        abs(steps(optimizer, np.zeros(3), gradients) - weight).max()
        for optimizer in (adam(learning_rate=0.01, weight_decay=0.0), keras.optimizers.Adam(0.01))
    )
    assert ours < 0.01 * 1e-5 < keras_own


def test_adam_has_the_state_of_keras_adam():
    variable = keras.Variable(np.ones((2, 3), "float32"))
    ours, keras_own = Adam(0.1, name="adam"), keras.optimizers.Adam(0.1, name="adam")
    for optimizer in (ours, keras_own):
        optimizer.build([variable])
    assert [(entry.path, entry.shape) for entry in ours.variables] == [
        (entry.path, entry.shape) for entry in keras_own.variables
    ]
    assert ours.get_config() == keras_own.get_config()
    assert isinstance(keras.optimizers.deserialize(keras.optimizers.serialize(ours)), Adam)


def followed(optimizer):
    """A weight after two compiled steps, the second at half the learning rate."""
    variable = keras.Variable([0.0])
    optimizer.build([variable])
    step = tf.function(lambda: optimizer.apply([tf.constant([1.0])], [variable]))
    step()
    optimizer.learning_rate = 0.5
    step()
    return keras.ops.convert_to_numpy(variable)


def test_sgd_follows_a_learning_rate_that_changes_between_compiled_steps():
    optimizer = momentum_sgd(learning_rate=1.0, momentum=0.0, weight_decay=0.0)
    np.testing.assert_allclose(followed(optimizer), [-1.5], rtol=1e-6)


def test_adam_follows_a_learning_rate_that_changes_between_compiled_steps():
    np.testing.assert_allclose(followed(adam(learning_rate=1.0, weight_decay=0.0)), [-1.5], rtol=1e-5)


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="no amsgrad"):
        Adam(0.1, amsgrad=True)
    with pytest.raises(ValueError, match="no amsgrad"):
        Adam(0.1, 0.9, 0.999, 1e-7, True)


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
