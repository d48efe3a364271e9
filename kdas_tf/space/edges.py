"""What every operation over parallel edges is made of: convolutions and batch normalisation with a leading edge axis.

Tensors are `[edges, batch, height, width, channels]`. Edges come first because then the pointwise convolutions of all
edges are one batched matrix product without transposes, and an edge's output is a contiguous slice.
"""

import math

import keras
from keras import ops


def kernel_initializer(fan_in: int) -> keras.initializers.Initializer:
    """He initialisation for kernels whose first axis counts edges, where Keras would mistake edges for inputs."""
    return keras.initializers.RandomNormal(stddev=math.sqrt(2.0 / fan_in))


def pointwise(x, kernel):
    """1x1 convolution of every edge.

    Args:
        x: `[edges or 1, ..., channels]`; one input is shared by all edges.
        kernel: `[edges, channels, filters]`.

    Returns:
        `[edges, ..., filters]`.
    """
    shape = ops.shape(x)
    flat = ops.reshape(x, (shape[0], -1, shape[-1]))
    return ops.reshape(ops.matmul(flat, kernel), (kernel.shape[0], *shape[1:-1], kernel.shape[-1]))


def depthwise(x, kernel, *, stride: int = 1, dilation: int = 1):
    """Depthwise convolution of every edge with symmetric padding, as in PyTorch.

    Args:
        x: `[edges or 1, batch, height, width, channels]`; one input is shared by all edges.
        kernel: `[edges, size, size, channels]`, an odd size.
        stride: 1 or 2.
        dilation: 1 or 2.

    Returns:
        `[edges, batch, ceil(height / stride), ceil(width / stride), channels]`.
    """
    if stride == dilation == 2:
        # Even rows in, even rows out: a dilated convolution that keeps every second output sees only these.
        x, stride, dilation = x[:, :, ::2, ::2], 1, 1
    edges, size = kernel.shape[:2]
    padding = "same"
    if stride > 1:
        # TensorFlow's SAME pads one side only when the stride is 2; the references pad both.
        pad = (size // 2, size // 2)
        x, padding = ops.pad(x, ((0, 0), (0, 0), pad, pad, (0, 0))), "valid"
    inputs = [x[0]] * edges if x.shape[0] == 1 else ops.unstack(x, edges, axis=0)
    return ops.stack(
        [
            ops.depthwise_conv(inputs[i], kernel[i][..., None], stride, padding, dilation_rate=dilation)
            for i in range(edges)
        ]
    )


def shifted_downsample(x):
    """Every second row and column from the second on, `[..., ceil(height / 2), ceil(width / 2), channels]`.

    Odd sizes are padded with zeros at the end (AutoDL-Projects, `FactorizedReduce`).
    """
    height, width = x.shape[-3], x.shape[-2]
    if height % 2 or width % 2:
        x = ops.pad(x, [(0, 0)] * (len(x.shape) - 3) + [(0, height % 2), (0, width % 2), (0, 0)])
    return x[..., 1::2, 1::2, :]


@keras.saving.register_keras_serializable("kdas_tf")
class EdgeBatchNorm(keras.layers.Layer):
    """Batch normalisation of every edge and channel on its own, with PyTorch's semantics.

    Unlike `keras.layers.BatchNormalization` it has an edge axis, and its moving variance is the unbiased one. Under
    several replicas the statistics are those of the global batch, so the result does not depend on how many there are.

    Args:
        affine: learn a scale and an offset (not in the supernet's mixed operations, where they would let a
            weight grow to make up for a small alpha; DARTS section 2).
        momentum: how much of the moving statistics stays at each step.
        epsilon: added to the variance.

    Input shape: `[edges, batch, height, width, channels]`. Output shape: the same.
    """

    def __init__(self, *, affine: bool = True, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs):
        super().__init__(**kwargs)
        self.affine = affine
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape):
        shape = (input_shape[0], 1, 1, 1, input_shape[-1])
        if self.affine:
            self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones", dtype=self.variable_dtype)
            self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros", dtype=self.variable_dtype)
        self.moving_mean = self._add_statistic("moving_mean", shape, "zeros")
        self.moving_variance = self._add_statistic("moving_variance", shape, "ones")

    def _add_statistic(self, name: str, shape, initializer: str):
        return self.add_weight(name=name, shape=shape, initializer=initializer, trainable=False, autocast=False)

    def call(self, x, training: bool = False):
        dtype = x.dtype
        if training:
            mean, variance = ops.moments(ops.cast(x, "float32"), (1, 2, 3), keepdims=True, synchronized=True)
            self._update(mean, variance, x)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        scale = ops.rsqrt(variance + self.epsilon)
        if self.affine:
            scale = scale * ops.cast(self.gamma, scale.dtype)
        offset = -mean * scale
        if self.affine:
            offset = offset + ops.cast(self.beta, scale.dtype)
        return x * ops.cast(scale, dtype) + ops.cast(offset, dtype)

    def _update(self, mean, variance, x) -> None:
        shape = ops.shape(x)
        count = ops.cast(shape[1] * shape[2] * shape[3], "float32")
        unbiased = variance * (count / ops.maximum(count - 1.0, 1.0))
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            moving.assign(moving * self.momentum + ops.cast(value, moving.dtype) * (1 - self.momentum))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"affine": self.affine, "momentum": self.momentum, "epsilon": self.epsilon}
        return {**super().get_config(), **config}
