"""LiteRT (`.tflite`) copies of an exported network, for phones and cameras.

A copy takes one image at a time, of the network's own size: the caller decodes and resizes. Images and embeddings are
float32. With float16 the kernels have half the size; the arithmetic is float32 where a device has nothing else. With
int8 kernels have a scale for every channel and each map has a scale, from images that the network is shown
(Jacob et al., 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference").
"""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdas_tf.serving.embedder import OUTPUT, normalized
from kdas_tf.serving.graphs import refusals
from kdas_tf.serving.graphs.plain import plain_network
from kdas_tf.serving.graphs.targets import TensorFlowTarget, even_sized
from kdas_tf.space.plain_form import Array

PRECISIONS = ("float32", "float16", "int8")
FLOAT_OPERATIONS = ("BATCH_MATMUL", "SOFTMAX", "SUM", "SQRT", "RSQRT", "MAXIMUM", "DIV", "MEAN", "MUL")
"""These stay float32 with int8: the ends of a network, attention, and what is small."""


class LiteTarget(TensorFlowTarget):
    """Operations that LiteRT's CPU kernels (XNNPACK) take; TensorFlow itself cannot run all of them on a CPU.

    Other operations run in slower kernels and cut the graph in pieces (tensorflow/lite/delegates/xnnpack/README.md).
    """

    def depthwise(self, x: tf.Tensor, kernel: Array, stride: int, dilation: int) -> tf.Tensor:
        if dilation > 1 and stride == 1:  # tf.nn would rearrange the map, which the converter may not recognise
            return tf.raw_ops.DepthwiseConv2dNative(
                input=x, filter=kernel, strides=[1, 1, 1, 1], padding="SAME", dilations=[1, dilation, dilation, 1]
            )
        size = dilation * (kernel.shape[0] - 1) + 1  # the kernel that does without dilation what this one does with it
        spread = np.zeros((size, size, *kernel.shape[2:]), kernel.dtype)
        spread[::dilation, ::dilation] = kernel
        return super().depthwise(x, spread, stride, 1)

    def odd_pixels(self, x: tf.Tensor) -> tf.Tensor:
        # Picked by a convolution: slices with steps are not among the operations.
        kernel = np.zeros((2, 2, x.shape[3], 1), np.float32)
        kernel[1, 1] = 1
        return tf.nn.depthwise_conv2d(even_sized(x), kernel, (1, 2, 2, 1), "VALID")


def convert(
    network: keras.Model, image_size: tuple[int, int], precision: str, examples: Sequence[npt.NDArray] = ()
) -> bytes:
    """Converts a network: float32 `images` `[1, height, width, 3]`, 0..255, to `embedding` `[1, D]` of length 1.

    `precision` is one of `PRECISIONS`; the rest is as in `kdas_tf.serving.runtimes.write`.
    """
    forward, module = plain_network(network, LiteTarget()), tf.Module()
    spec = tf.TensorSpec([1, *image_size, 3], tf.float32, name="images")
    module.embed = tf.function(
        lambda images: {OUTPUT: normalized(forward(images))}, input_signature=[spec], autograph=False
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.embed.get_concrete_function()], module)
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if precision != "int8":
        return converter.convert()
    converter.representative_dataset = lambda: ([image[None]] for image in examples)
    # Made for finding layers that suffer from integers, it is also the only way to keep some of them in float.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(FLOAT_OPERATIONS))
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=converter.representative_dataset, debug_options=options
    )
    return debugger.get_nondebug_quantized_model()


class LiteRunner:
    """Runs a LiteRT file, image by image; see `kdas_tf.serving.runtimes.Runner`.

    Raises:
        UserError: the file is not an exported network.
    """

    def __init__(self, path: Path, threads: int | None = None):
        try:
            with warnings.catch_warnings():
                # The interpreter has moved to the package ai-edge-litert; TensorFlow's still runs.
                warnings.simplefilter("ignore")
                # Given a path, it does not check the file's offsets: half a file ends the process.
                self._interpreter = tf.lite.Interpreter(
                    model_content=path.read_bytes(), num_threads=threads or os.cpu_count()
                )
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, OSError) as error:
            raise refusals.cannot_be_loaded(path, error) from error
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        shapes = ([tensor["shape"].tolist() for tensor in tensors] for tensors in (inputs, outputs))
        self.image_size = refusals.image_size_of(path, *shapes)
        self._places = inputs[0]["index"], outputs[0]["index"]

    def __call__(self, images: npt.NDArray) -> npt.NDArray:
        (source, result), rows = self._places, []
        for image in np.asarray(images, np.float32):
            self._interpreter.set_tensor(source, image[None])
            self._interpreter.invoke()
            rows.append(self._interpreter.get_tensor(result))
        return np.concatenate(rows)
