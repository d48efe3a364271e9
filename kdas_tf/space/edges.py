"""Parts of operations over parallel edges: convolutions and batch normalisation with a leading edge axis.

Tensors are `[edges, batch, height, width, channels]`; where several edges leave one node, its tensor stands there once,
and the first axis counts these sources, not edges. Edges come first because then the pointwise convolutions of
all edges are one batched matrix product without transposes, and an edge's output is a contiguous slice.
"""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops


def kernel_initializer(fan_in: int) -> keras.initializers.Initializer:
    """He initialisation for kernels whose first axis counts edges, where Keras would mistake edges for inputs."""
    return keras.initializers.RandomNormal(stddev=math.sqrt(2.0 / fan_in))


def shape_of(x) -> tuple:
    """A tensor's shape as plain numbers where all are known; `ops.shape` would add an operation there too."""
    return ops.shape(x) if None in x.shape else tuple(x.shape)


def _with_gradient(function: Callable) -> Callable:
    """Gives a function its own gradient: `function(*tensors)` returns (value, backward).

    `backward` maps the gradient in the value to the gradients in the tensors. Keras' own `custom_gradient` passes it
    under another name in every backend.
    """

    @ops.custom_gradient
    def with_gradient(*tensors):
        value, backward = function(*tensors)
        return value, lambda *args, upstream=None: backward(args[0] if upstream is None else upstream)

    return with_gradient


def pointwise(x, kernel):
    """1x1 convolution of every edge.

    Args:
        x: `[edges, ..., channels]`; or `[sources, ..., channels]`, each shared by as many edges, one after the other.
        kernel: `[edges, channels, filters]`.

    Returns:
        `[edges, ..., filters]`.
    """
    shape, edges = shape_of(x), kernel.shape[0]
    if shape[0] == edges:
        product = ops.matmul(ops.reshape(x, (edges, -1, shape[-1])), kernel)
    else:
        flat = ops.reshape(x, (shape[0], 1, -1, shape[-1]))
        product = _shared_matmul(flat, ops.reshape(kernel, (shape[0], -1, *kernel.shape[1:])))
    return ops.reshape(product, (edges, *shape[1:-1], kernel.shape[-1]))


@_with_gradient
def _shared_matmul(x, kernels):
    """Product of each matrix `[sources, 1, n, k]` with several `[sources, edges of a source, k, m]`."""

    # TensorFlow's gradient of matrices that are broadcast takes twenty operations more.
    def gradient(upstream):
        of_x = ops.sum(ops.matmul(upstream, ops.swapaxes(kernels, 2, 3)), 1, keepdims=True)
        return of_x, ops.matmul(ops.swapaxes(x, 2, 3), upstream)

    return ops.matmul(x, kernels), gradient


def times_constant(matrix: np.ndarray, x):
    """Product of a matrix of plain numbers with the last two axes of a tensor, `matrix @ x`."""

    @_with_gradient
    def product(x):
        def gradient(upstream):  # as in `_shared_matmul`, TensorFlow's takes more operations
            return ops.matmul(ops.cast(matrix.T, upstream.dtype), upstream)

        return ops.matmul(ops.cast(matrix, x.dtype), x), gradient

    return product(x)


def depthwise(x, kernel, *, stride: int = 1, dilation: int = 1):
    """Depthwise convolution of every edge with symmetric padding, as in PyTorch.

    Args:
        x: `[edges or sources, batch, height, width, channels]`, as in `pointwise`.
        kernel: `[edges, size, size, channels, 1]`, an odd size.
        stride: 1 or 2.
        dilation: 1 or 2.

    Returns:
        `[edges, batch, ceil(height / stride), ceil(width / stride), channels]`.
    """
    size = x.shape[2:4]
    phases = stride == 1 and dilation == 2
    if phases:
        x = _to_phases(x)
    elif stride == dilation == 2:
        # A dilated convolution of which every second output is kept sees even rows and columns only.
        x, stride = x[:, :, ::2, ::2], 1
    padding = "same"
    if stride == 2:
        # TensorFlow's SAME pads one side only when the stride is 2; the references pad both.
        pad = (kernel.shape[1] // 2,) * 2
        x, padding = ops.pad(x, ((0, 0), (0, 0), pad, pad, (0, 0))), "valid"
    edges, sources = kernel.shape[0], x.shape[0]
    inputs = ops.unstack(x, sources, axis=0)
    kernels = ops.unstack(ops.convert_to_tensor(kernel), edges, axis=0)  # JAX takes no variable there
    outputs = [ops.depthwise_conv(inputs[i * sources // edges], k, stride, padding) for i, k in enumerate(kernels)]
    return _from_phases(ops.stack(outputs), size) if phases else ops.stack(outputs)


def _to_phases(x):
    """Moves even and odd rows and columns into the batch, `[edges, 4 * batch, height / 2, width / 2, channels]`.

    A convolution of dilation 2 is one of dilation 1 on each of the four phases. Keras would do this for every edge.
    """
    edges, _, height, width, channels = x.shape
    if height % 2 or width % 2:
        x = ops.pad(x, ((0, 0), (0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    rows, columns = -(-height // 2), -(-width // 2)
    x = ops.transpose(ops.reshape(x, (edges, -1, rows, 2, columns, 2, channels)), (0, 3, 5, 1, 2, 4, 6))
    return ops.reshape(x, (edges, -1, rows, columns, channels))


def _from_phases(x, size: tuple[int, int]):
    edges, _, rows, columns, channels = x.shape
    x = ops.transpose(ops.reshape(x, (edges, 2, 2, -1, rows, columns, channels)), (0, 3, 4, 1, 5, 2, 6))
    x = ops.reshape(x, (edges, -1, 2 * rows, 2 * columns, channels))
    return x if size == (2 * rows, 2 * columns) else x[:, :, : size[0], : size[1]]


def shifted_downsample(x):
    """Every second row and column from the second on, `[..., ceil(height / 2), ceil(width / 2), channels]`.

    Odd sizes are padded with zeros at the end (AutoDL-Projects, `FactorizedReduce`).
    """
    height, width = x.shape[-3], x.shape[-2]
    if height % 2 or width % 2:
        x = ops.pad(x, [(0, 0)] * (len(x.shape) - 3) + [(0, height % 2), (0, width % 2), (0, 0)])
    return x[..., 1::2, 1::2, :]


def _standardize(x, mean, variance, epsilon: float, over_replicas: Callable | None = None):
    """(x - mean) / sqrt(variance + epsilon), with x's own mean and variance over all axes but the first and the last.

    With several replicas, mean and variance are those of all together, and `over_replicas` gives the means of two
    tensors over the replicas. The gradient is written out (Ioffe and Szegedy, 2015, section 3), as automatic
    differentiation takes five times as many operations. Mean and variance count as functions of x and get no gradient
    of their own. All is computed in float32; the output, the largest thing that a step keeps, has the type of x.
    """
    axes = tuple(range(1, len(x.shape) - 1))
    scale = ops.rsqrt(variance + epsilon)

    @_with_gradient
    def standardized(x):
        output = ops.cast((ops.cast(x, scale.dtype) - mean) * scale, x.dtype)

        def gradient(upstream):
            upstream = ops.cast(upstream, scale.dtype)
            normal = ops.cast(output, scale.dtype)
            mean_gradient = ops.mean(upstream, axes, keepdims=True)
            covariance = ops.mean(upstream * normal, axes, keepdims=True)
            if over_replicas:
                mean_gradient, covariance = over_replicas(mean_gradient, covariance)
            return ops.cast(scale * (upstream - mean_gradient - normal * covariance), output.dtype)

        return output, gradient

    return standardized(x)


_deferred = threading.local()  # every replica of a strategy is traced in a thread of its own


@contextmanager
def deferred_statistics() -> Iterator[list[tuple[keras.Variable, Any]]]:
    """Collects the new values of moving statistics, (variable, value), instead of assigning them.

    A cell that is computed twice, once for the loss and once for its gradient, must change its statistics once.
    """
    _deferred.updates = []
    try:
        yield _deferred.updates
    finally:
        del _deferred.updates


@keras.saving.register_keras_serializable("kdas_tf")
class EdgeBatchNorm(keras.layers.Layer):
    """Batch normalisation of every edge and channel on its own, with PyTorch's semantics.

    Unlike `keras.layers.BatchNormalization` it has an edge axis, and its moving variance is the unbiased one.

    Args:
        affine: learn a scale and an offset (not in the supernet's mixed operations, where they would let a
            weight grow to make up for a small alpha; DARTS section 2).
        replicas: number of replicas whose batches are normalised together, so that the result does not depend on
            it; 1 keeps every replica's statistics to itself. With more, `mean_over_replicas` must be set before the
            layer is trained (`kdas_tf.training.batch_norm` sets both).

    Input shape: `[edges, batch, height, width, channels]`. Output shape: the same.
    """

    mean_over_replicas: Callable[[Any], Any]
    """Gives the mean over the replicas of what each of them calls it with."""

    momentum = 0.9  # how much of the moving statistics stays at each step
    epsilon = 1e-5  # is added to the variance

    def __init__(self, *, affine: bool = True, replicas: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.affine = affine
        self.replicas = replicas

    def build(self, input_shape):
        shape = (input_shape[0], 1, 1, 1, input_shape[-1])
        if self.affine:
            self.gamma = self.add_weight(name="gamma", shape=shape, initializer="ones")
            self.beta = self.add_weight(name="beta", shape=shape, initializer="zeros")
        fixed = {"shape": shape, "trainable": False, "autocast": False}
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", **fixed)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", **fixed)

    def call(self, x, training: bool = False):
        if training:
            # JAX would keep what the gradient of both needs, and multiply it by zeros.
            exact = ops.stop_gradient(ops.cast(x, keras.config.floatx()))
            mean = ops.mean(exact, (1, 2, 3), keepdims=True)
            variance = ops.mean(ops.square(exact - mean), (1, 2, 3), keepdims=True)
            over_replicas = self._over_replicas if self.replicas > 1 else None
            if over_replicas:
                mean, squares = over_replicas(mean, variance + ops.square(mean))
                variance = ops.maximum(squares - ops.square(mean), 0.0)
            x = _standardize(x, mean, variance, self.epsilon, over_replicas)
            self._update(mean, variance, x)
        else:
            dtype, x = x.dtype, ops.cast(x, keras.config.floatx())
            scale = ops.rsqrt(self.moving_variance + self.epsilon)
            x = ops.cast(x * scale - self.moving_mean * scale, dtype)
        return x * self.gamma + self.beta if self.affine else x

    def _over_replicas(self, first, second):
        """Means over all replicas of two tensors of one shape; exchanged as one, since each exchange costs."""
        return ops.split(self.mean_over_replicas(ops.concatenate([first, second], -1)), 2, -1)

    def _update(self, mean, variance, x) -> None:
        shape = shape_of(x)
        count = shape[1] * shape[2] * shape[3] * self.replicas
        if isinstance(count, int):
            unbias = count / max(count - 1, 1)
        else:
            count = ops.cast(count, keras.config.floatx())
            unbias = count / ops.maximum(count - 1.0, 1.0)
        new = 1 - self.momentum
        for moving, value, weight in ((self.moving_mean, mean, new), (self.moving_variance, variance, new * unbias)):
            value = moving * self.momentum + value * weight
            if hasattr(_deferred, "updates"):
                _deferred.updates.append((moving, value))
            else:
                moving.assign(value)

    def get_config(self):
        return {**super().get_config(), "affine": self.affine, "replicas": self.replicas}
