import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.training.optimizers import SGD, Adam, OneKernelAdam, OneKernelSGD


def steps(optimizer, weights, gradients):
    """The weights after steps with given gradients."""
    variable = keras.Variable(np.array(weights, "float32"), name="weight")
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(np.array(gradient, "float32"))], [variable])
    return keras.ops.convert_to_numpy(variable)


@pytest.mark.parametrize(
    ("settings", "weights", "gradients", "expected"),
    [  # at a learning rate of 0.1
        # Momentum adds up: v1 = -0.1 * 1 = -0.1; v2 = 0.9 * v1 - 0.1 * 2 = -0.29; 5 - 0.1 - 0.29.
        (SGD(momentum=0.9, weight_decay=0.0), [5.0], [[1.0], [2.0]], [4.61]),
        # Decay is a gradient of 0.5 * 2 = 1: 2 - 0.1 * 1 = 1.9; v = 0.9 * 1 + 0.5 * 1.9 = 1.85.
        (SGD(weight_decay=0.5), [2.0], [[0.0], [0.0]], [1.9 - 0.185]),
        # Decoupled, it is apart from momentum: without a gradient each step leaves 1 - 0.1 * 0.5 of the weight.
        (SGD(weight_decay=0.5, decoupled=True), [2.0], [[0.0], [0.0]], [2 * 0.95**2]),
        # Adam takes a step of its learning rate, however small the decay is.
        (Adam(weight_decay=1e-3), [2.0], [[0.0]], [1.9]),
        # A long gradient is scaled: |(6, 8)| = 10 is halved to (3, 4), which is as long as allowed and stays.
        (SGD(momentum=0, weight_decay=0.0, gradient_norm=5.0), [0.0] * 2, [[6.0, 8.0], [3.0, 4.0]], [-0.6, -0.8]),
        # Gradients 1, then 3. m = 0.5 * 0.5 + 0.5 * 3 = 1.75, corrected by 1 - 0.5^2: 7/3.
        # v = 0.75 * 0.25 + 0.25 * 9 = 2.4375, corrected by 1 - 0.75^2 = 0.4375: 39/7. First step: 0.1.
        (Adam(weight_decay=0, beta_1=0.5, beta_2=0.75), [0], [[1], [3]], [-0.1 - 0.1 * (7 / 3) / np.sqrt(39 / 7)]),
    ],
)
def test_steps_are_those_computed_by_hand(settings, weights, gradients, expected):
    np.testing.assert_allclose(steps(settings(learning_rate=0.1), weights, gradients), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd", SGD(weight_decay=0.05)),
        ("sgd_clipped", SGD(weight_decay=0.05, gradient_norm=2.0)),
        ("sgd_no_momentum", SGD(momentum=0.0, weight_decay=0.05)),
        ("adam", Adam(weight_decay=0.05, beta_1=0.5, beta_2=0.99)),
        ("adamw", Adam(weight_decay=0.05, decoupled=True)),
    ],
)
def test_steps_are_those_of_torch_while_the_learning_rate_falls(name, settings, reference):
    recorded = reference("optimizers.npz")
    variable = keras.Variable(recorded["weights"], name="weight")
    optimizer = settings(learning_rate=0.1)
    rows = zip(recorded["gradients"], recorded["learning_rates"], recorded[name], strict=True)
    for gradient, rate, expected in rows:
        optimizer.learning_rate = rate
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("ours", "keras_own", "arguments"),
    [(OneKernelSGD, keras.optimizers.SGD, {"momentum": 0.9}), (OneKernelAdam, keras.optimizers.Adam, {"beta_1": 0.5})],
)
def test_the_state_is_that_of_keras(ours, keras_own, arguments):
    arguments = {**arguments, "weight_decay": 0.01, "global_clipnorm": 3.0, "name": "optimizer"}
    one, other = ours(0.1, **arguments), keras_own(0.1, **arguments)
    for optimizer in (one, other):
        steps(optimizer, np.ones((4, 3)), np.ones((1, 4, 3)))
    state, keras_state = ([(entry.path, entry.shape) for entry in each.variables] for each in (one, other))
    assert state == keras_state
    assert {**keras_own.from_config(other.get_config()).get_config(), "decoupled": False} == one.get_config()


def test_adam_is_the_papers_adam_nearer_than_keras_comes():
    gradients = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    mean = square = weight = np.zeros(3)
    for step, gradient in enumerate(gradients.astype("float64"), 1):  # Kingma and Ba, 2015, Algorithm 1
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        weight = weight - 0.01 * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    ours, keras_own = (
        abs(steps(optimizer, np.zeros(3), gradients) - weight).max()
        for optimizer in (Adam(weight_decay=0.0)(learning_rate=0.01), keras.optimizers.Adam(0.01))
    )
    assert ours < 0.01 * 1e-5 < keras_own


@pytest.mark.parametrize("settings", [SGD(momentum=0.0, weight_decay=0.0), Adam(weight_decay=0.0)])
def test_the_learning_rate_may_change_between_compiled_steps(settings):
    variable, optimizer = keras.Variable([0.0]), settings(learning_rate=1.0)
    optimizer.build([variable])
    step = tf.function(lambda: optimizer.apply([tf.constant([1.0])], [variable]))
    step()
    optimizer.learning_rate = 0.5
    step()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(variable), [-1.5], rtol=1e-5)


@pytest.mark.parametrize("settings", [SGD(), Adam()])
def test_every_weight_is_decayed_as_the_paper_says_of_weights_and_biases(settings):
    settings = dataclasses.replace(settings, decoupled=True)
    optimizer = settings(learning_rate=0.1)
    assert optimizer.weight_decay == 5e-4
    bias = keras.Variable(np.array([4.0], "float32"), name="bias")
    optimizer.apply([keras.ops.zeros(1)], [bias])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(bias), [4 * (1 - 0.1 * 5e-4)], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        (SGD, {"momentum": 1.0}, "SGD.momentum to be at least 0 and below 1, got 1.0"),
        (SGD, {"gradient_norm": 0.0}, "SGD.gradient_norm to be above 0, got 0.0"),
        (Adam, {"beta_1": 2}, "Adam.beta_1 to be at least 0 and below 1, got 2"),
        (Adam, {"weight_decay": -1.0}, "Adam.weight_decay to be at least 0, got -1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_they_are_made(settings, arguments, message):
    with pytest.raises(UserError, match=message):
        settings(**arguments)
