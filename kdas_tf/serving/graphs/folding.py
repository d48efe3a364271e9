"""Batch normalisation folded into the linear layer before it.

In inference a normalisation is y = scale * x + offset, with scale = gamma / sqrt(variance + epsilon) and
offset = beta - scale * mean (Jacob et al., 2018, "Quantization and Training of Neural Networks", section 3.2). After a
convolution or a matrix product, the scale goes into its kernel and the offset becomes its bias. Without a linear layer
before it, scale and offset stay, as a multiplication and an addition.
"""

from typing import Any

import keras
import numpy as np

from kdas_tf.space.plain_form import Array, scale_and_offset, to_array

_FOLDABLE = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D, keras.layers.Dense)


def fold(layer: keras.layers.Layer, norm: keras.layers.Layer | None) -> tuple[list[Array], Array]:
    """Kernels and bias of a Keras layer and the normalisation after it, if there is one, together.

    The layer is a built Conv2D, DepthwiseConv2D, SeparableConv2D or Dense without an activation of its own. The kernels
    have the layer's own order, and the last has the scale; the bias is `[filters]`; all are float32.
    """
    *before, kernel = [to_array(weight) for weight in layer.weights[: len(layer.weights) - layer.use_bias]]
    filters = int(np.prod(kernel.shape[2:])) if isinstance(layer, keras.layers.DepthwiseConv2D) else kernel.shape[-1]
    bias = to_array(layer.bias).astype(np.float64) if layer.use_bias else np.zeros(filters)
    scale, offset = scale_and_offset(norm) if norm is not None else (np.ones(filters), 0.0)
    # A depthwise kernel is [height, width, channels, multiplier]: its filters are the last two axes.
    scaled = kernel * (scale.reshape(kernel.shape[2:]) if kernel.shape[2:] and filters != kernel.shape[-1] else scale)
    return [*before, scaled.astype(np.float32)], (bias * scale + offset).astype(np.float32)


class ScaleShift(keras.layers.Layer):
    """A normalisation without a linear layer before it: y = scale * x + offset, both `[channels]`."""

    def __init__(self, scale: Array, offset: Array, **kwargs: Any):
        super().__init__(trainable=False, **kwargs)
        self.scale, self.offset = np.asarray(scale, np.float32), np.asarray(offset, np.float32)

    def build(self, input_shape):
        """Has no weights."""

    def call(self, x):
        return x * self.scale + self.offset

    def compute_output_shape(self, input_shape):
        return input_shape


def fold_functional(model: keras.Model) -> keras.Model:
    """Copies a functional model, such as a backbone of keras.applications, without batch normalisations.

    The copy has the same outputs in inference, to rounding, and is not for training; `model` does not change.
    """
    folded = _folded(model)

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer in folded.values():
            return keras.layers.Identity(name=layer.name)
        if isinstance(layer, keras.layers.BatchNormalization) and _of_last_axis(layer):
            return ScaleShift(*scale_and_offset(layer), name=layer.name)
        config = layer.get_config()
        return type(layer).from_config({**config, "use_bias": True} if layer.name in folded else config)

    def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
        replaces = isinstance(layer, (keras.layers.Identity, ScaleShift))  # they take no mask
        return layer(args[0]) if replaces else layer(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if layer.name in folded:
            kernels, bias = fold(layer, folded[layer.name])
            copy.get_layer(layer.name).set_weights([*kernels, bias])
        elif layer.weights and (copied := copy.get_layer(layer.name)).weights:
            copied.set_weights(layer.get_weights())
    return copy


def _folded(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """By the name of a linear layer, the normalisation that alone reads its output."""
    folded = {}
    for norm in model.layers:
        if not isinstance(norm, keras.layers.BatchNormalization) or len(norm._inbound_nodes) != 1:
            continue
        linear = norm._inbound_nodes[0].parent_nodes[0].operation  # Keras has no public walk over a model's graph
        alone = len(linear._inbound_nodes) == len(linear._outbound_nodes) == 1
        foldable = isinstance(linear, _FOLDABLE) and linear.activation is keras.activations.linear
        channels_last = getattr(linear, "data_format", "channels_last") == "channels_last"
        if _of_last_axis(norm) and alone and foldable and channels_last:
            folded[linear.name] = norm
    return folded


def _of_last_axis(norm: keras.layers.BatchNormalization) -> bool:
    return norm.axis in (-1, len(norm.input.shape) - 1)
