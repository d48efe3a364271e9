import keras
import numpy as np
import pytest

from kdas_tf.serving.graphs import folding
from tests.serving import networks


@pytest.mark.parametrize("arguments", [{}, {"center": False}, {"scale": False}, {"center": False, "scale": False}])
@pytest.mark.parametrize(
    "linear",
    [
        keras.layers.Conv2D(6, 3, use_bias=False),
        keras.layers.Conv2D(6, 3, bias_initializer="random_normal"),
        keras.layers.DepthwiseConv2D(3, depth_multiplier=2, bias_initializer="random_normal"),
        keras.layers.DepthwiseConv2D(3, use_bias=False),
        keras.layers.SeparableConv2D(6, 3, depth_multiplier=2, use_bias=False),
        keras.layers.Dense(6),
    ],
    ids=lambda layer: f"{type(layer).__name__}-{layer.use_bias}",
)
def test_a_linear_layer_takes_its_normalisation_in(linear, arguments):
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    before = linear(x)
    after = keras.layers.BatchNormalization(epsilon=1e-3, **arguments)
    after.build(before.shape)
    expected = networks.untrained(keras.Sequential([after]))(before, training=False)
    kernels, bias = folding.fold(linear, after)
    folded = type(linear).from_config({**linear.get_config(), "use_bias": True})
    folded.build((None, 8, 8, 3))
    folded.set_weights([*kernels, bias])
    np.testing.assert_allclose(folded(x), expected, atol=1e-5)


def branching():
    """Normalisations after a convolution, after a ReLU, after a pool, and after a convolution that others see."""
    x = inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="seen_by_one")(x)
    x = keras.layers.BatchNormalization(name="folded")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.BatchNormalization(name="after_relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.BatchNormalization(name="after_pool")(x)
    seen = keras.layers.Conv2D(4, 3, padding="same", name="seen_by_two")(x)
    x = keras.layers.BatchNormalization(name="must_stay")(seen)
    x = keras.layers.Add()([x, seen])
    x = keras.layers.Conv2D(4, 1, activation="relu", name="not_linear")(x)
    x = keras.layers.BatchNormalization(name="after_activation")(x)
    return networks.untrained(keras.Model(inputs, x))


def test_only_what_nobody_else_sees_is_folded():
    model = branching()
    weights = [weight.copy() for weight in model.get_weights()]
    folded = folding.fold_functional(model)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(folded(x), model(x, training=False), atol=1e-5)
    assert not [layer for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
    kept = {layer.name for layer in folded.layers if isinstance(layer, folding.ScaleShift)}
    assert kept == {"after_relu", "after_pool", "must_stay", "after_activation"}
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
