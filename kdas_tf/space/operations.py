"""The candidate operations, each over several parallel edges.

The definitions are those of DARTS (quark0/darts, `operations.py`): ReLU - convolution - batch normalisation. Every
operation maps a node's tensor `[batch, height, width, channels]`, or those of several nodes `[sources, batch, height,
width, channels]`, to the outputs of all edges that leave them, `[edges, batch, height / stride, width / stride,
channels]`: first those of the first node. The derived network uses them with one edge.
"""

from typing import Any

import keras
from keras import ops

from kdas_tf.errors import UserError
from kdas_tf.space.edges import EdgeBatchNorm, depthwise, kernel_initializer, pointwise, shifted_downsample


def stacked(x):
    """A node's tensor, or those of several nodes, as `[sources, batch, height, width, channels]`."""
    return x if len(x.shape) == 5 else ops.expand_dims(x, 0)


class Operation(keras.layers.Layer):
    """What all candidate operations share: edges, channels, stride, and the batch normalisation that ends them.

    Subclasses say in `convolve` what comes before that normalisation.

    Args:
        channels: channels of the output.
        edges: number of parallel edges, each with weights of its own.
        sources: number of nodes that they leave, as many each.
        stride: 1, or 2 on the edges that leave the inputs of a reduction cell.
        affine: scale and offset in the batch normalisations.
        normalize: end with batch normalisation; the supernet's mixture does that for all candidates together.

    Input shape: `[batch, height, width, channels]`, or `[sources, batch, height, width, channels]`; layers are built
    with the former.
    Output shape: `[edges, batch, ceil(height / stride), ceil(width / stride), channels]`.

    Raises:
        UserError: channels, edges or sources below 1, edges that the sources cannot share equally, or a stride that is
            neither 1 nor 2.
    """

    def __init__(
        self,
        channels: int,
        *,
        edges: int = 1,
        sources: int = 1,
        stride: int = 1,
        affine: bool = True,
        normalize: bool = True,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if channels < 1 or edges < 1 or sources < 1 or edges % sources or stride not in (1, 2):
            raise UserError(
                "An operation needs channels >= 1, edges >= 1, equally many for each source, and a stride of 1 or 2, "
                f"got channels={channels}, edges={edges}, sources={sources}, stride={stride}."
            )
        self.channels = channels
        self.edges = edges
        self.sources = sources
        self.stride = stride
        self.affine = affine
        self.normalize = normalize
        self.norm = self.new_norm("norm") if normalize else None

    def new_norm(self, name: str) -> EdgeBatchNorm:
        """Makes a batch normalisation, to be built with the shape of its input."""
        return EdgeBatchNorm(affine=self.affine, name=name, dtype=self.dtype_policy)

    def add_kernel(self, name: str, shape: tuple[int, ...], fan_in: int) -> keras.Variable:
        """Adds a kernel whose first axis counts edges."""
        return self.add_weight(name=name, shape=shape, initializer=kernel_initializer(fan_in))

    def build(self, input_shape):
        self.build_weights(input_shape)
        if self.norm is not None:
            self.norm.build(self.compute_output_shape(input_shape))

    def build_weights(self, input_shape) -> None:
        """Adds the weights of `convolve`; pooling has none."""

    def convolve(self, x, training: bool):
        """What the operation does before its last batch normalisation, from `[sources, ...]` to `[edges, ...]`."""
        raise NotImplementedError

    def call(self, x, training: bool = False):
        output = self.convolve(stacked(x), training)
        return output if self.norm is None else self.norm(output, training=training)

    def compute_output_shape(self, input_shape):
        batch, *size = input_shape[:3]
        return (self.edges, batch, *(None if n is None else -(-n // self.stride) for n in size), self.channels)

    def get_config(self):
        config = {
            "channels": self.channels,
            "edges": self.edges,
            "sources": self.sources,
            "stride": self.stride,
            "affine": self.affine,
            "normalize": self.normalize,
        }
        return {**super().get_config(), **config}


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

    def compute_output_shape(self, input_shape):
        return (self.sources, *super().compute_output_shape(input_shape)[1:])

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
    """The identity, `[sources, batch, ...]`, at stride 1; a factorised reduce of every edge at stride 2.

    The identity is never normalised.
    """

    def __init__(self, channels: int, *, stride: int = 1, normalize: bool = True, **kwargs: Any):
        super().__init__(channels, stride=stride, normalize=normalize and stride == 2, **kwargs)

    def build_weights(self, input_shape):
        if self.stride == 2:
            self.even_kernel, self.odd_kernel = _add_reduce_kernels(self, input_shape[-1])

    def convolve(self, x, training: bool):
        if self.stride == 1:
            return x
        return _factorized_reduce(x, self.even_kernel, self.odd_kernel)

    def compute_output_shape(self, input_shape):
        shape = super().compute_output_shape(input_shape)
        return shape if self.stride == 2 else (self.sources, *shape[1:])


def _add_reduce_kernels(layer: Operation, inputs: int) -> tuple[keras.Variable, keras.Variable]:
    half = layer.channels // 2
    even = layer.add_kernel("even_kernel", (layer.edges, inputs, half), inputs)
    return even, layer.add_kernel("odd_kernel", (layer.edges, inputs, layer.channels - half), inputs)


def _factorized_reduce(x, even_kernel, odd_kernel):
    """ReLU, two 1x1 convolutions of stride 2, the second on the input shifted by one pixel, concatenated.

    Source: DARTS; odd sizes as in AutoDL-Projects.
    """
    x = ops.relu(x)
    even = pointwise(x[..., ::2, ::2, :], even_kernel)
    return ops.concatenate([even, pointwise(shifted_downsample(x), odd_kernel)], -1)


@keras.saving.register_keras_serializable("kdas_tf")
class PointwiseConv(Operation):
    """ReLU - 1x1 convolution - batch normalisation: how a cell brings its inputs to its own width."""

    def build_weights(self, input_shape):
        inputs = input_shape[-1]
        self.kernel = self.add_kernel("kernel", (self.edges, inputs, self.channels), inputs)

    def convolve(self, x, training: bool):
        return pointwise(ops.relu(x), self.kernel)


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

    def get_config(self):
        config = {"kernel_size": self.kernel_size, "dilation": self.dilation, "repeats": self.repeats}
        return {**super().get_config(), **config}
