"""Networks written for LiteRT, in operations that its CPU kernels (XNNPACK) take.

Other operations run in slower kernels and cut the graph in pieces (tensorflow/lite/delegates/xnnpack/README.md).
"""

import numpy as np
import tensorflow as tf

from kdas_tf.serving.graphs.folding import Array
from kdas_tf.serving.graphs.targets import TensorFlowTarget, even_sized


class LiteTarget(TensorFlowTarget):
    """TensorFlow's operations, for conversion only: some cannot be run on a CPU by TensorFlow itself."""

    def depthwise(self, x: tf.Tensor, kernel: Array, stride: int, dilation: int) -> tf.Tensor:
        if dilation == 1:
            return super().depthwise(x, kernel, stride, dilation)
        if stride == 1:  # tf.nn would rearrange the map, which the converter does not always recognise
            return tf.raw_ops.DepthwiseConv2dNative(
                input=x, filter=kernel, strides=[1, 1, 1, 1], padding="SAME", dilations=[1, dilation, dilation, 1]
            )
        return super().depthwise(x, _with_holes(kernel, dilation), stride, 1)

    def odd_pixels(self, x: tf.Tensor) -> tf.Tensor:
        # Picked by a convolution: slices with steps are not among the operations.
        kernel = np.zeros((2, 2, x.shape[3], 1), np.float32)
        kernel[1, 1] = 1
        return tf.nn.depthwise_conv2d(even_sized(x), kernel, (1, 2, 2, 1), "VALID")


def _with_holes(kernel: Array, dilation: int) -> Array:
    """The kernel that does without dilation what `kernel` does with it."""
    size = dilation * (kernel.shape[0] - 1) + 1
    spread = np.zeros((size, size, *kernel.shape[2:]), kernel.dtype)
    spread[::dilation, ::dilation] = kernel
    return spread
