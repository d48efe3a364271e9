"""The candidate operations of one edge as plain functions of constants, with their normalisations folded.

The layers of the search space work on several edges at once. A network that is shipped has one, and a server gains from
ordinary convolutions over maps, which every runtime knows and fuses with bias, sum and ReLU.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from kdas_tf.serving.graphs.folding import Array, scale_and_offset, to_array
from kdas_tf.serving.graphs.targets import Target
from kdas_tf.space.operations import DepthwiseSeparableConv, Operation, PointwiseConv, Pooling, SkipConnect
from kdas_tf.space.part_aware import PartAware


class Map:
    """A map and its ReLU, each made when it is first asked for, and once for all who ask.

    What nobody asks for is never made: most maps are needed after a ReLU only, which runtimes then make part of the
    convolution before it.

    Args:
        raw: makes the map.
        relu: makes its ReLU.
    """

    def __init__(self, raw: Callable[[], Any], relu: Callable[[], Any]):
        self._raw, self._relu = raw, relu

    @functools.cached_property
    def raw(self) -> Any:
        """The map."""
        return self._raw()

    @functools.cached_property
    def relu(self) -> Any:
        """Its ReLU."""
        return self._relu()


Forward = Callable[[Map], Map]


def as_map(target: Target, x: Any) -> Map:
    """A tensor of the target as a `Map`."""
    return Map(lambda: x, lambda: target.relu(x))


def joined(target: Target, maps: Sequence[Map]) -> Map:
    """Joins channels; the ReLU is that of the parts, which may come for free there."""
    return Map(lambda: target.concat([m.raw for m in maps]), lambda: target.concat([m.relu for m in maps]))


def plain_operation(operation: Operation, target: Target) -> Forward:
    """Makes a function that computes a candidate operation of one edge in inference.

    Args:
        operation: built, with one edge.
        target: what to write it in.

    Returns:
        A function of the source node's map that gives the edge's output.
    """
    makers: dict[type, Callable[[Any, Target], Forward]] = {
        Pooling: _pooling,
        SkipConnect: _skip_connect,
        PointwiseConv: _pointwise,
        DepthwiseSeparableConv: _separable,
        PartAware: _part_aware,
    }
    return makers[type(operation)](operation, target)


def _normalization(norm: keras.layers.Layer | None, channels: int) -> tuple[Array, Array]:
    return scale_and_offset(norm) if norm is not None else (np.ones(channels), np.zeros(channels))


def _pooling(pooling: Pooling, target: Target) -> Forward:
    pool = target.max_pool if pooling.mode == "max" else target.average_pool
    if pooling.norm is None:
        return lambda x: as_map(target, pool(x.raw, pooling.stride))
    scale, offset = (values.astype(np.float32) for values in scale_and_offset(pooling.norm))
    return lambda x: as_map(target, target.shift(target.scale(pool(x.raw, pooling.stride), scale), offset))


def _kernel_1x1(kernel: Array, scale: Array | float = 1.0) -> Array:
    """`[inputs, filters]` as a convolution's."""
    return (kernel * scale).astype(np.float32)[None, None]


def _pointwise(operation: PointwiseConv, target: Target) -> Forward:
    scale, offset = _normalization(operation.norm, operation.channels)
    kernel, bias = _kernel_1x1(to_array(operation.kernel)[0], scale), offset.astype(np.float32)
    return lambda x: as_map(target, target.convolution(x.relu, kernel, bias))


def _separable(operation: DepthwiseSeparableConv, target: Target) -> Forward:
    steps = []
    for i, norm in enumerate([*operation.inner_norms, operation.norm]):
        channelwise = to_array(operation.pointwise_kernels[i])[0]
        scale, offset = _normalization(norm, channelwise.shape[-1])
        spatial, stride = to_array(operation.depthwise_kernels[i])[0], operation.stride if i == 0 else 1
        steps.append((spatial, stride, _kernel_1x1(channelwise, scale), offset.astype(np.float32)))

    def forward(x: Map) -> Map:
        for spatial, stride, kernel, bias in steps:
            filtered = target.depthwise(x.relu, spatial, stride, operation.dilation)
            x = as_map(target, target.convolution(filtered, kernel, bias))
        return x

    return forward


def _skip_connect(operation: SkipConnect, target: Target) -> Forward:
    if operation.stride == 1:
        return lambda x: x
    scale, offset = _normalization(operation.norm, operation.channels)
    even, odd = to_array(operation.even_kernel)[0], to_array(operation.odd_kernel)[0]
    half, bias = even.shape[-1], offset.astype(np.float32)
    even_kernel, odd_kernel = _kernel_1x1(even, scale[:half]), _kernel_1x1(odd, scale[half:])

    def forward(x: Map) -> Map:
        evens = target.convolution(x.relu, even_kernel, bias[:half], stride=2)
        odds = target.convolution(target.odd_pixels(x.relu), odd_kernel, bias[half:])
        return joined(target, [as_map(target, evens), as_map(target, odds)])

    return forward


def _part_aware(operation: PartAware, target: Target) -> Forward:
    scale, offset = _normalization(operation.norm, operation.channels)
    kernel, hidden = (to_array(operation.kernel)[0] * scale).astype(np.float32), operation.channels // 3
    strips, bias, half = _strips(operation, target), offset.astype(np.float32), operation.channels // 2
    rows, filters = operation.membership, (slice(None, half), slice(half, None))

    def combine(
        pixels: Any, features: Any, taken: slice, rows: Array, stride: int = 1, columns: Array | None = None
    ) -> Map:
        """1x1 convolution of the pixels concatenated with their strip's features, as in `PartAware`."""
        convolved = target.convolution(pixels, _kernel_1x1(kernel[:-hidden, taken]), bias[taken], stride)
        spread = target.matmul(rows, target.matmul(features, kernel[-hidden:, taken]))
        return as_map(target, target.add_rows(convolved, spread, columns))

    if operation.stride == 1:
        return lambda x: combine(x.raw, strips(x), slice(None), rows)
    odd_rows = np.pad(rows, ((0, len(rows) % 2), (0, 0)))[1::2]

    def forward(x: Map) -> Map:
        features, width = target.relu(strips(x)), x.raw.shape[2]
        evens = combine(x.relu, features, filters[0], rows[::2], stride=2)
        # Where an odd width is padded with zeros, the strips' features are zero too.
        columns = np.pad(np.ones(width, np.float32), (0, 1))[1::2] if width % 2 else None
        return joined(target, [evens, combine(target.odd_pixels(x.relu), features, filters[1], odd_rows, 1, columns)])

    return forward


def _strips(operation: PartAware, target: Target) -> Callable[[Map], Any]:
    """The strips' features after attention, `[batch, parts, hidden]`."""
    kernel, bias = to_array(operation.local_kernel)[0], to_array(operation.local_bias)[0, 0]
    scale, offset = (values.reshape(bias.shape) for values in scale_and_offset(operation.local_norm))
    local_kernel = (kernel * scale[:, None]).astype(np.float32)
    local_bias = (bias * scale + offset).astype(np.float32)[:, None]
    kernels = np.split(to_array(operation.key_query_kernel)[0], 2, axis=-1)
    biases = np.split(to_array(operation.key_query_bias).reshape(-1), 2)
    average = (operation.membership / operation.membership.sum(0)).T.astype(np.float32)

    def forward(x: Map) -> Any:
        pooled = target.transpose(target.relu(target.row_means(x.raw, average)), (1, 0, 2))  # each strip has its kernel
        features = target.transpose(target.add(target.matmul(pooled, local_kernel), local_bias), (1, 0, 2))
        keys, queries = (
            target.add(target.matmul(features, kernel), bias) for kernel, bias in zip(kernels, biases, strict=True)
        )
        attention = target.softmax(target.matmul(keys, target.transpose(queries, (0, 2, 1))))
        return target.matmul(attention, features)

    return forward
