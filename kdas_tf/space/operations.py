"""The candidate operations, each over several parallel edges.

The definitions are those of DARTS (quark0/darts, `operations.py`): ReLU - convolution - batch normalisation. Shapes are
those of `kdas_tf.space.base.Operation`. The derived network uses them with one edge.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from kdas_tf.space.base import Operation
from kdas_tf.space.edges import depthwise, pointwise, shifted_downsample
from kdas_tf.space.plain_form import Forward, Map, as_map, joined, kernel_1x1, scale_and_offset, to_array


@keras.saving.register_keras_serializable("kdas_tf")
class Pooling(Operation):
    """3x3 max or average pooling; the edges of a source share one pooled map, so it is computed once.

    Args:
        mode: "max" or "average"; average pooling does not count padding.
        **kwargs: as in `Operation`; no normalisation by default, as in DARTS' derived networks.

    Output shape: `[sources, batch, ...]`, each for all edges of its source.
    """

    def __init__(self, channels: int, *, mode: str, normalize: bool = False, **kwargs: Any):
        super().__init__(channels, normalize=normalize, **kwargs)
        self.mode = mode

    def convolve(self, x, training: bool):
        images = ops.reshape(x, (-1, *x.shape[2:]))
        pooled = _max_pool(images, self.stride) if self.mode == "max" else _average_pool(images, self.stride)
        return ops.reshape(pooled, (self.sources, -1, *pooled.shape[1:]))

    @property
    def maps(self) -> int:
        return self.sources

    def plain(self, target: Any) -> Forward:
        pool = target.max_pool if self.mode == "max" else target.average_pool
        if self.norm is None:
            return lambda x: as_map(target, pool(x.raw, self.stride))
        scale, offset = (values.astype(np.float32) for values in self.folded_norm())
        return lambda x: as_map(target, target.shift(target.scale(pool(x.raw, self.stride), scale), offset))

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}


def _max_pool(x, stride: int):
    if stride == 1:
        return ops.max_pool(x, 3, 1, "same")
    # Zeros would win against negative values; the smallest finite number never does.
    lowest = ops.cast(-3e4 if x.dtype == "float16" else -3e38, x.dtype)
    pad = ((0, 0), (1, 1), (1, 1), (0, 0))
    return ops.max_pool(ops.pad(x, pad, constant_values=lowest), 3, 2, "valid")


def _average_pool(x, stride: int):
    if stride == 1:
        return ops.average_pool(x, 3, 1, "same")  # counts no padding in any backend
    pad = ((0, 0), (1, 1), (1, 1), (0, 0))
    summed = 9.0 * ops.average_pool(ops.pad(x, pad), 3, 2, "valid")
    inside = ops.pad(ops.ones((1, *x.shape[1:3], 1), x.dtype), pad)
    return summed / (9.0 * ops.average_pool(inside, 3, 2, "valid"))


@keras.saving.register_keras_serializable("kdas_tf")
class SkipConnect(Operation):
    """The identity, `[sources, batch, ...]`, at stride 1, never normalised; a factorised reduce at stride 2.

    The factorised reduce is ReLU and two 1x1 convolutions of stride 2 on every edge, the second on the input shifted by
    one pixel, concatenated. Source: DARTS; odd sizes as in AutoDL-Projects.
    """

    def __init__(self, channels: int, *, stride: int = 1, normalize: bool = True, **kwargs: Any):
        super().__init__(channels, stride=stride, normalize=normalize and stride == 2, **kwargs)

    def build_weights(self, input_shape):
        if self.stride == 2:
            edges, inputs, half = self.edges, input_shape[-1], self.channels // 2
            self.even_kernel = self.add_kernel("even_kernel", (edges, inputs, half), inputs)
            self.odd_kernel = self.add_kernel("odd_kernel", (edges, inputs, self.channels - half), inputs)

    def convolve(self, x, training: bool):
        if self.stride == 1:
            return x
        x = ops.relu(x)
        even = pointwise(x[..., ::2, ::2, :], self.even_kernel)
        return ops.concatenate([even, pointwise(shifted_downsample(x), self.odd_kernel)], -1)

    @property
    def maps(self) -> int:
        return self.edges if self.stride == 2 else self.sources

    @property
    def is_identity(self) -> bool:
        return self.stride == 1

    def kept_maps(self) -> tuple[int, int]:
        return 0, 0  # left out at stride 2: one map of each of eight edges

    def plain(self, target: Any) -> Forward:
        if self.stride == 1:
            return lambda x: x
        scale, offset = self.folded_norm()
        even, odd = to_array(self.even_kernel)[0], to_array(self.odd_kernel)[0]
        half, bias = even.shape[-1], offset.astype(np.float32)
        even_kernel, odd_kernel = kernel_1x1(even, scale[:half]), kernel_1x1(odd, scale[half:])

        def forward(x: Map) -> Map:
            evens = target.convolution(x.relu, even_kernel, bias[:half], stride=2)
            odds = target.convolution(target.odd_pixels(x.relu), odd_kernel, bias[half:])
            return joined(target, [as_map(target, evens), as_map(target, odds)])

        return forward


@keras.saving.register_keras_serializable("kdas_tf")
class PointwiseConv(Operation):
    """ReLU - 1x1 convolution - batch normalisation: how a cell brings its inputs to its own width."""

    def build_weights(self, input_shape):
        inputs = input_shape[-1]
        self.kernel = self.add_kernel("kernel", (self.edges, inputs, self.channels), inputs)

    def convolve(self, x, training: bool):
        return pointwise(ops.relu(x), self.kernel)

    def plain(self, target: Any) -> Forward:
        scale, offset = self.folded_norm()
        kernel, bias = kernel_1x1(to_array(self.kernel)[0], scale), offset.astype(np.float32)
        return lambda x: as_map(target, target.convolution(x.relu, kernel, bias))


@keras.saving.register_keras_serializable("kdas_tf")
class DepthwiseSeparableConv(Operation):
    """(ReLU, depthwise k x k, pointwise 1x1, BN), once for `dil_conv` and twice for `sep_conv` (DARTS).

    Args:
        kernel_size: 3 or 5.
        dilation: 1 for sep_conv, 2 for dil_conv.
        repeats: 2 for sep_conv, where the first application has the stride; 1 for dil_conv.
        **kwargs: as in `Operation`.
    """

    def __init__(self, channels: int, *, kernel_size: int = 3, dilation: int = 1, repeats: int = 1, **kwargs: Any):
        super().__init__(channels, **kwargs)
        self.kernel_size = kernel_size
        self.dilation = dilation
        self.repeats = repeats
        self.inner_norms = [self.new_norm(f"norm_{i}") for i in range(repeats - 1)]

    def build_weights(self, input_shape):
        edges, size, inputs = self.edges, self.kernel_size, input_shape[-1]
        self.depthwise_kernels, self.pointwise_kernels = [], []
        for i in range(self.repeats):
            channels = self.channels if i == self.repeats - 1 else inputs
            kernel = self.add_kernel(f"depthwise_kernel_{i}", (edges, size, size, inputs, 1), size * size)
            self.depthwise_kernels.append(kernel)
            self.pointwise_kernels.append(self.add_kernel(f"pointwise_kernel_{i}", (edges, inputs, channels), inputs))
        for norm in self.inner_norms:
            norm.build((*self.compute_output_shape(input_shape)[:-1], inputs))

    def convolve(self, x, training: bool):
        for i, (spatial, channelwise) in enumerate(zip(self.depthwise_kernels, self.pointwise_kernels, strict=True)):
            x = depthwise(ops.relu(x), spatial, stride=self.stride if i == 0 else 1, dilation=self.dilation)
            x = pointwise(x, channelwise)
            if i < len(self.inner_norms):
                x = self.inner_norms[i](x, training=training)
        return x

    def kept_maps(self) -> tuple[int, int]:
        # Of the output's size: what each depthwise convolution gives, what the last pointwise one gives, and between
        # two repeats a normalisation and a ReLU. Of the input's: its ReLU, and the phases of a dilated convolution.
        return self.edges * (3 * self.repeats - 1), self.sources * self.dilation

    def plain(self, target: Any) -> Forward:
        steps = []
        for i, (scale, offset) in enumerate([*map(scale_and_offset, self.inner_norms), self.folded_norm()]):
            spatial, stride = to_array(self.depthwise_kernels[i])[0], self.stride if i == 0 else 1
            channelwise = kernel_1x1(to_array(self.pointwise_kernels[i])[0], scale)
            steps.append((spatial, stride, channelwise, offset.astype(np.float32)))

        def forward(x: Map) -> Map:
            for spatial, stride, channelwise, bias in steps:
                filtered = target.depthwise(x.relu, spatial, stride, self.dilation)
                x = as_map(target, target.convolution(filtered, channelwise, bias))
            return x

        return forward

    def get_config(self):
        config = {"kernel_size": self.kernel_size, "dilation": self.dilation, "repeats": self.repeats}
        return {**super().get_config(), **config}
