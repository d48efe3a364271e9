"""What a plain network can be written in: the few operations that it needs, and TensorFlow's.

A network is written once (`kdas_tf.serving.graphs.plain`), in terms of a `Target`; each runtime has its own, which
knows the fastest form of an operation there.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from kdas_tf.serving.graphs.folding import Array


class Target(Protocol):
    """Operations on maps.

    A map has a batch, a known height and width, and channels, in whatever order the runtime likes. Rows of features are
    arrays of three axes, `[batch, rows, channels]` in this order; constants are numpy arrays. Paddings are symmetric.
    """

    def convolution(self, x: Any, kernel: Array, bias: Array, stride: int = 1) -> Any:
        """Convolution with zero padding of half the kernel; the kernel is `[height, width, inputs, filters]`."""

    def depthwise(self, x: Any, kernel: Array, stride: int, dilation: int) -> Any:
        """The same of every channel on its own; the kernel is `[height, width, channels, 1]`."""

    def max_pool(self, x: Any, stride: int) -> Any:
        """3x3 maximum, which no padding can be."""

    def average_pool(self, x: Any, stride: int) -> Any:
        """3x3 average, which counts no padding."""

    def relu(self, x: Any) -> Any:
        """Of maps and of rows."""

    def add(self, x: Any, y: Any) -> Any:
        """Sum of two maps, or of rows and what can be broadcast to them."""

    def shift(self, x: Any, offset: Array) -> Any:
        """Adds a number to every channel of a map."""

    def scale(self, x: Any, scale: Array) -> Any:
        """Multiplies every channel of a map with a number."""

    def concat(self, maps: Sequence[Any]) -> Any:
        """Joins the channels of maps."""

    def odd_pixels(self, x: Any) -> Any:
        """Rows and columns 1, 3, 5 ...; zeros come last where a size is odd, so that there are as many as even ones."""

    def row_means(self, x: Any, average: Array) -> Any:
        """Means of strips of a map, as rows: `average` is `[strips, height]`, its rows sum to 1."""

    def add_rows(self, x: Any, rows: Any, columns: Array | None) -> Any:
        """Adds a row of features to each row of a map, in all columns, times `columns` `[width]` if given."""

    def matmul(self, x: Any, y: Any) -> Any:
        """Of the last two axes."""

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        """Of rows, not of maps."""

    def softmax(self, x: Any) -> Any:
        """Over the last axis."""

    def mean(self, x: Any) -> Any:
        """Of a map over its positions: a map of one position."""

    def vectors(self, x: Any) -> Any:
        """A map of one position as `[batch, channels]`."""


class TensorFlowTarget:
    """Tensors `[batch, height, width, channels]` in a TensorFlow graph; see `Target` for the methods."""

    def convolution(self, x: tf.Tensor, kernel: Array, bias: Array, stride: int = 1) -> tf.Tensor:
        x, padding = _padded(x, kernel.shape[0] // 2, stride)
        return tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, padding), bias)

    def depthwise(self, x: tf.Tensor, kernel: Array, stride: int, dilation: int) -> tf.Tensor:
        if stride == dilation == 2:  # of a dilated convolution's outputs every second: even rows and columns only
            x, stride, dilation = x[:, ::2, ::2], 1, 1
        x, padding = _padded(x, kernel.shape[0] // 2, stride)
        return tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), padding, dilations=(dilation, dilation))

    def max_pool(self, x: tf.Tensor, stride: int) -> tf.Tensor:
        if stride == 1:
            return tf.nn.max_pool2d(x, 3, 1, "SAME")
        # The edge once more changes no maximum; a very small number instead would ruin the scale of integers (LiteRT).
        height, width = x.shape[1:3]
        x = tf.concat([x[:, :1], x, *[x[:, -1:]] * (height % 2)], 1)
        x = tf.concat([x[:, :, :1], x, *[x[:, :, -1:]] * (width % 2)], 2)
        return tf.nn.max_pool2d(x, 3, 2, "VALID")

    def average_pool(self, x: tf.Tensor, stride: int) -> tf.Tensor:
        if stride == 1:
            return tf.nn.avg_pool2d(x, 3, 1, "SAME")
        rows, columns = (_counted(size) for size in x.shape[1:3])
        pooled = tf.nn.avg_pool2d(tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3, 2, "VALID")
        return pooled * (9 / np.outer(rows, columns)).astype(np.float32)[..., None]

    def relu(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x)

    def add(self, x: tf.Tensor, y: tf.Tensor | Array) -> tf.Tensor:
        return x + y

    def shift(self, x: tf.Tensor, offset: Array) -> tf.Tensor:
        return x + offset

    def scale(self, x: tf.Tensor, scale: Array) -> tf.Tensor:
        return x * scale

    def concat(self, maps: Sequence[tf.Tensor]) -> tf.Tensor:
        return tf.concat(list(maps), -1)

    def odd_pixels(self, x: tf.Tensor) -> tf.Tensor:
        return even_sized(x)[:, 1::2, 1::2]

    def row_means(self, x: tf.Tensor, average: Array) -> tf.Tensor:
        return tf.matmul(average, tf.reduce_mean(x, 2))

    def add_rows(self, x: tf.Tensor, rows: tf.Tensor, columns: Array | None) -> tf.Tensor:
        spread = tf.expand_dims(rows, 2)
        return x + (spread if columns is None else spread * columns[:, None])

    def matmul(self, x: tf.Tensor | Array, y: tf.Tensor | Array) -> tf.Tensor:
        return tf.matmul(x, y)

    def transpose(self, x: tf.Tensor, axes: Sequence[int]) -> tf.Tensor:
        return tf.transpose(x, axes)

    def softmax(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(x)

    def mean(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(x, (1, 2), keepdims=True)

    def vectors(self, x: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(x, (1, 2))


def even_sized(x: tf.Tensor) -> tf.Tensor:
    """A map with a row or column of zeros at its end where a size is odd."""
    odd = [(0, side % 2) for side in x.shape[1:3]]
    return tf.pad(x, ((0, 0), *odd, (0, 0))) if any(pad[1] for pad in odd) else x


def _padded(x: tf.Tensor, pad: int, stride: int) -> tuple[tf.Tensor, str]:
    """The map and the name of the padding that make a convolution symmetric; SAME is not at stride 2."""
    if stride == 1:
        return x, "SAME"
    return (tf.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0))) if pad else x), "VALID"


def _counted(size: int) -> Array:
    """How many of three neighbours are inside, around every second position."""
    return np.array([3 - (i == 0) - (i == size - 1) for i in range(0, size, 2)], np.float32)
