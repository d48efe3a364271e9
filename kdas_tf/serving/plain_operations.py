"""The candidate operations of one edge as plain functions of constants, with their normalisations folded.

The layers of the search space work on several edges at once. A network that is shipped has one, and a server gains from
ordinary convolutions over `[batch, height, width, channels]`, which every runtime knows and fuses with bias and ReLU.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdas_tf.serving.folding import Array, scale_and_offset, to_array
from kdas_tf.space.operations import DepthwiseSeparableConv, Operation, PointwiseConv, Pooling, SkipConnect
from kdas_tf.space.part_aware import PartAware

Forward = Callable[..., tf.Tensor]


def chain(functions: Sequence[Forward]) -> Forward:
    """Makes one function of several that follow one another."""

    def forward(x: tf.Tensor) -> tf.Tensor:
        for function in functions:
            x = function(x)
        return x

    return forward


def convolution(kernel: Array, bias: Array, stride: int = 1, padding: str = "VALID") -> Forward:
    """Makes a convolution with bias from constants."""
    return lambda x: tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, padding), bias)


def plain_operation(operation: Operation) -> Forward:
    """Makes a function that computes a candidate operation of one edge in inference.

    Args:
        operation: built, with one edge.

    Returns:
        A function of the source node's map that gives the edge's output, both `[batch, height, width, channels]`.
    """
    makers: dict[type, Callable[[Any], Forward]] = {
        Pooling: _pooling,
        SkipConnect: _skip_connect,
        PointwiseConv: _pointwise,
        DepthwiseSeparableConv: _separable,
        PartAware: _part_aware,
    }
    return makers[type(operation)](operation)


def _normalization(norm: keras.layers.Layer | None, channels: int) -> tuple[Array, Array]:
    return scale_and_offset(norm) if norm is not None else (np.ones(channels), np.zeros(channels))


def _pooling(pooling: Pooling) -> Forward:
    if pooling.norm is None:
        return lambda x: pooling.convolve(x, training=False)[0]
    scale, offset = (values.astype(np.float32) for values in scale_and_offset(pooling.norm))
    return lambda x: pooling.convolve(x, training=False)[0] * scale + offset


def _kernel_1x1(kernel: Array, scale: Array | float = 1.0) -> Array:
    """`[inputs, filters]` as a convolution's."""
    return (kernel * scale).astype(np.float32)[None, None]


def _pointwise(operation: PointwiseConv) -> Forward:
    scale, offset = _normalization(operation.norm, operation.channels)
    kernel = _kernel_1x1(to_array(operation.kernel)[0], scale)
    return chain([tf.nn.relu, convolution(kernel, offset.astype(np.float32))])


def _separable(operation: DepthwiseSeparableConv) -> Forward:
    norms = [*operation.inner_norms, operation.norm]
    functions: list[Forward] = []
    for i, norm in enumerate(norms):
        spatial = to_array(operation.depthwise_kernels[i])[0]
        channelwise = to_array(operation.pointwise_kernels[i])[0]
        scale, offset = _normalization(norm, channelwise.shape[-1])
        functions += [
            tf.nn.relu,
            _depthwise(spatial, operation.stride if i == 0 else 1, operation.dilation),
            convolution(_kernel_1x1(channelwise, scale), offset.astype(np.float32)),
        ]
    return chain(functions)


def _depthwise(kernel: Array, stride: int, dilation: int) -> Forward:
    """Symmetric padding, as `kdas_tf.space.edges.depthwise`."""
    if stride == dilation == 2:  # of a dilated convolution's outputs every second: even rows and columns only
        return lambda x: tf.nn.depthwise_conv2d(x[:, ::2, ::2], kernel, (1, 1, 1, 1), "SAME")
    if stride == 2:
        pad = (kernel.shape[0] // 2,) * 2
        return lambda x: tf.nn.depthwise_conv2d(tf.pad(x, ((0, 0), pad, pad, (0, 0))), kernel, (1, 2, 2, 1), "VALID")
    return lambda x: tf.nn.depthwise_conv2d(x, kernel, (1, 1, 1, 1), "SAME", dilations=(dilation, dilation))


def _skip_connect(operation: SkipConnect) -> Forward:
    if operation.stride == 1:
        return tf.identity
    scale, offset = _normalization(operation.norm, operation.channels)
    even, odd = to_array(operation.even_kernel)[0], to_array(operation.odd_kernel)[0]
    half, bias = even.shape[-1], offset.astype(np.float32)
    even_convolution = convolution(_kernel_1x1(even, scale[:half]), bias[:half], 2)
    odd_convolution = convolution(_kernel_1x1(odd, scale[half:]), bias[half:], 2)

    def forward(x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu(x)
        return tf.concat([even_convolution(x), odd_convolution(_shifted(x))], -1)

    return forward


def _shifted(x: tf.Tensor) -> tf.Tensor:
    """Without the first row and column; odd sizes get zeros at the end (`edges.shifted_downsample`)."""
    odd = [(0, side % 2) for side in x.shape[1:3]]
    return (tf.pad(x, ((0, 0), *odd, (0, 0))) if any(pad[1] for pad in odd) else x)[:, 1:, 1:]


def _part_aware(operation: PartAware) -> Forward:
    scale, offset = _normalization(operation.norm, operation.channels)
    kernel, hidden = to_array(operation.kernel)[0] * scale, operation.channels // 3
    pixel_kernel, strip_kernel = (kernel[:-hidden], kernel[-hidden:].astype(np.float32))
    strips, bias, half = _strips(operation), offset.astype(np.float32), operation.channels // 2
    rows = operation.membership
    if operation.stride == 1:
        combine = _combine(pixel_kernel, strip_kernel, bias, rows, stride=1)
        return lambda x: combine(x, strips(x))
    even = _combine(pixel_kernel[:, :half], strip_kernel[:, :half], bias[:half], rows[::2], stride=2)
    odd_rows = np.pad(rows, ((0, len(rows) % 2), (0, 0)))[1::2]
    odd = _combine(pixel_kernel[:, half:], strip_kernel[:, half:], bias[half:], odd_rows, stride=2)

    def forward(x: tf.Tensor) -> tf.Tensor:
        features, width = tf.nn.relu(strips(x)), x.shape[2]
        x = tf.nn.relu(x)
        # Where an odd width is padded with zeros, the strips' features are zero too.
        columns = np.pad(np.ones(width, np.float32), (0, 1))[1::2] if width % 2 else None
        return tf.concat([even(x, features), odd(_shifted(x), features, columns)], -1)

    return forward


def _combine(pixel_kernel: Array, strip_kernel: Array, bias: Array, rows: Array, *, stride: int) -> Forward:
    """1x1 convolution of the pixels concatenated with their strip's features, as in `PartAware`."""
    pixels = convolution(_kernel_1x1(pixel_kernel), bias, stride)

    def forward(x: tf.Tensor, features: tf.Tensor, columns: Array | None = None) -> tf.Tensor:
        spread = tf.expand_dims(tf.matmul(rows, tf.matmul(features, strip_kernel)), 2)  # the same in all columns
        return pixels(x) + (spread if columns is None else spread * columns[:, None])

    return forward


def _strips(operation: PartAware) -> Forward:
    """The strips' features after attention, `[batch, parts, hidden]`."""
    kernel, bias = to_array(operation.local_kernel)[0], to_array(operation.local_bias)[0, 0]
    scale, offset = (values.reshape(bias.shape) for values in scale_and_offset(operation.local_norm))
    local_kernel = (kernel * scale[:, None]).astype(np.float32)
    local_bias = (bias * scale + offset).astype(np.float32)
    key_query_kernel, key_query_bias = (
        to_array(weight)[0] for weight in (operation.key_query_kernel, operation.key_query_bias)
    )
    average = (operation.membership / operation.membership.sum(0)).T.astype(np.float32)

    def forward(x: tf.Tensor) -> tf.Tensor:
        pooled = tf.nn.relu(tf.matmul(average, tf.reduce_mean(x, 2)))
        features = tf.einsum("bpc,pcd->bpd", pooled, local_kernel) + local_bias
        keys, queries = tf.split(tf.matmul(features, key_query_kernel) + key_query_bias[0], 2, axis=-1)
        return tf.matmul(tf.nn.softmax(tf.matmul(keys, queries, transpose_b=True)), features)

    return forward
