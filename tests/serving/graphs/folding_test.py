import keras
import numpy as np
import pytest

from kdas_tf.serving.graphs import folding
from kdas_tf.space.edges import EdgeBatchNorm
from tests.serving import networks


def norm(channels, **arguments):
    layer = keras.layers.BatchNormalization(epsilon=1e-3, **arguments)
    layer.build((None, 4, 4, channels))
    return networks.untrained(keras.Sequential([layer])).layers[0]


@pytest.mark.parametrize("arguments", [{}, {"center": False}, {"scale": False}, {"center": False, "scale": False}])
def test_a_normalisation_is_one_scale_and_one_offset(arguments):
    layer = norm(5, **arguments)
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 5)).astype("float32")
    scale, offset = folding.scale_and_offset(layer)
    np.testing.assert_allclose(x * scale + offset, layer(x, training=False), atol=1e-6)


@pytest.mark.parametrize("affine", [True, False])
def test_so_is_one_of_an_edge(affine):
    layer = EdgeBatchNorm(affine=affine)
    layer.build((1, None, 4, 4, 5))
    networks.untrained(keras.Sequential([layer]))
    x = np.random.default_rng(0).normal(size=(1, 2, 4, 4, 5)).astype("float32")
    scale, offset = folding.scale_and_offset(layer)
    assert scale.shape == offset.shape == (5,)
    np.testing.assert_allclose(x * scale + offset, layer(x, training=False), atol=1e-6)


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
def test_a_linear_layer_takes_its_normalisation_in(linear):
    linear.build((None, 8, 8, 3))
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    before = linear(x)
    after = norm(before.shape[-1])
    expected = after(before, training=False)
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
