"""What a plain network can be written in: the few operations that it needs, and their form in TensorFlow.

A network is written once (`kdas_tf.serving.graphs.plain`), in terms of a target; each runtime has its own, which knows
the fastest form of an operation there.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from kdas_tf.serving.graphs.folding import Array
from kdas_tf.serving.graphs.onnx_target import OnnxTarget


class TensorFlowTarget:
    """Operations on tensors of a TensorFlow graph; every target has these methods.

    A map has a batch, a known height and width, and channels, in whatever order the runtime likes; here
    `[batch, height, width, channels]`. Rows of features are arrays of three axes, `[batch, rows, channels]` in this
    order; constants are numpy arrays. Paddings are symmetric.
    """

    def convolution(self, x: tf.Tensor, kernel: Array, bias: Array, stride: int = 1) -> tf.Tensor:
        """Convolution with zero padding of half the kernel; the kernel is `[height, width, inputs, filters]`."""
        x, padding = _padded(x, kernel.shape[0] // 2, stride)
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, padding), bias)

    def depthwise(self, x: tf.Tensor, kernel: Array, stride: int, dilation: int) -> tf.Tensor:
        """Convolution of every channel on its own; the kernel is `[height, width, channels, 1]`."""
        if stride == dilation == 2:  # every second output of a dilated convolution reads even rows and columns only
            x, stride, dilation = x[:, ::2, ::2], 1, 1
        x, padding = _padded(x, kernel.shape[0] // 2, stride)
        return tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), padding, dilations=(dilation, dilation))

    def max_pool(self, x: tf.Tensor, stride: int) -> tf.Tensor:
        """3x3 maximum; padding is never the maximum."""
        if stride == 1:
            return tf.nn.max_pool2d(x, 3, 1, "SAME")
        # The edge as padding changes no maximum; a very small number would ruin the scale of integers (LiteRT).
        height, width = x.shape[1:3]
        x = tf.concat([x[:, :1], x, *[x[:, -1:]] * (height % 2)], 1)
        x = tf.concat([x[:, :, :1], x, *[x[:, :, -1:]] * (width % 2)], 2)
        return tf.nn.max_pool2d(x, 3, 2, "VALID")

    def average_pool(self, x: tf.Tensor, stride: int) -> tf.Tensor:
        """3x3 average; padding does not count."""
        if stride == 1:
            return tf.nn.avg_pool2d(x, 3, 1, "SAME")
        rows, columns = (_counted(size) for size in x.shape[1:3])
        pooled = tf.nn.avg_pool2d(tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2, "VALID")
        return pooled * (9 / np.outer(rows, columns)).astype(np.float32)[..., None]

    def relu(self, x: tf.Tensor) -> tf.Tensor:
        """ReLU of a map or of rows."""
        return tf.nn.relu(x)

    def add(self, x: tf.Tensor, y: tf.Tensor | Array) -> tf.Tensor:
        """Sum of two maps, or of rows and what can be broadcast to them."""
        return x + y

    def shift(self, x: tf.Tensor, offset: Array) -> tf.Tensor:
        """Adds a number to every channel of a map."""
        return x + offset

    def scale(self, x: tf.Tensor, scale: Array) -> tf.Tensor:
        """Multiplies every channel of a map with a number."""
        return x * scale

    def concat(self, maps: Sequence[tf.Tensor]) -> tf.Tensor:
        """Joins the channels of maps."""
        return tf.concat(list(maps), -1)

    def odd_pixels(self, x: tf.Tensor) -> tf.Tensor:
        """Rows and columns 1, 3, 5 ...; where a size is odd, zeros come last, so that even and odd are equally many."""
        return even_sized(x)[:, 1::2, 1::2]

    def row_means(self, x: tf.Tensor, average: Array) -> tf.Tensor:
        """Means of strips of a map, as rows: `average` is `[strips, height]`, its rows sum to 1."""
        return tf.matmul(average, tf.reduce_mean(x, 2))

    def add_rows(self, x: tf.Tensor, rows: tf.Tensor, columns: Array | None) -> tf.Tensor:
        """Adds a row of features to each row of a map, in all columns, times `columns` `[width]` if given."""
        spread = tf.expand_dims(rows, 2)
        return x + (spread if columns is None else spread * columns[:, None])

    def matmul(self, x: tf.Tensor | Array, y: tf.Tensor | Array) -> tf.Tensor:
        """Matrix product over the last two axes."""
        return tf.matmul(x, y)

    def transpose(self, x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
        """Permutes the axes of rows, not of maps."""
        return tf.transpose(x, axes)

    def softmax(self, x: tf.Tensor) -> tf.Tensor:
        """Softmax over the last axis."""
        return tf.nn.softmax(x)

    def mean(self, x: tf.Tensor) -> tf.Tensor:
        """Mean of a map over its positions: a map of one position."""
        return tf.reduce_mean(x, (1, 2), keepdims=True)

    def vectors(self, x: tf.Tensor) -> tf.Tensor:
        """A map of one position as `[batch, channels]`."""
        return tf.squeeze(x, (1, 2))


Target = TensorFlowTarget | OnnxTarget


def even_sized(x: tf.Tensor) -> tf.Tensor:
    """A map with a row or column of zeros at its end where a size is odd."""
    odd = [(0, side % 2) for side in x.shape[1:3]]
    return tf.pad(x, ((0, 0), *odd, (0, 0))) if any(pad[1] for pad in odd) else x


def _padded(x: tf.Tensor, pad: int, stride: int) -> tuple[tf.Tensor, str]:
    """The map and the name of the padding that make a convolution symmetric; SAME is not symmetric at stride 2."""
    if stride == 1:
        return x, "SAME"
    return (tf.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))) if pad else x), "VALID"


def _counted(size: int) -> Array:
    """How many of three neighbours are inside, around every second position."""
    return np.array([3 - (i == 0) - (i == size - 1) for i in range(0, size, 2)], np.float32)
