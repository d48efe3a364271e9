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
from kdas_tf.serving.graphs.lite_target import LiteTarget
from kdas_tf.serving.graphs.plain import plain_network

PRECISIONS = ("float32", "float16", "int8")
FLOAT_OPERATIONS = ("BATCH_MATMUL", "SOFTMAX", "SUM", "SQRT", "RSQRT", "MAXIMUM", "DIV", "MEAN", "MUL")
"""These stay float32 with int8: the ends of a network, attention, and what is small."""


def convert(
    network: keras.Model, image_size: tuple[int, int], precision: str, examples: Sequence[npt.NDArray] = ()
) -> bytes:
    """Converts a network: float32 `images` `[1, height, width, 3]`, 0..255, to `embedding` `[1, D]` of length 1.

    Args:
        network: a `Student`, a `ResNet` or a `Teacher`.
        image_size: (height, width) in pixels.
        precision: one of `PRECISIONS`.
        examples: images like those that it is for, float32 `[height, width, 3]`; needed for int8.

    Raises:
        UserError: int8 without examples.
    """
    forward, module = plain_network(network, LiteTarget()), tf.Module()
    spec = tf.TensorSpec([1, *image_size, 3], tf.float32, name="images")
    module.embed = tf.function(
        lambda images: {OUTPUT: normalized(forward(images))}, input_signature=[spec], autograph=False
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.embed.get_concrete_function()], module)
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        return _quantized(converter, examples)
    return converter.convert()


def _quantized(converter: tf.lite.TFLiteConverter, examples: Sequence[npt.NDArray]) -> bytes:
    refusals.check_examples(examples)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in examples)
    # Made for finding layers that suffer from integers, it is also the only way to keep some of them in float.
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=list(FLOAT_OPERATIONS))
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=converter.representative_dataset, debug_options=options
    )
    return debugger.get_nondebug_quantized_model()


class LiteRunner:
    """Runs a LiteRT file, image by image; see `kdas_tf.serving.runtimes.Runner`."""

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
        return np.concatenate([self._embed(image) for image in np.asarray(images, np.float32)])

    def _embed(self, image: npt.NDArray) -> npt.NDArray:
        source, result = self._places
        self._interpreter.set_tensor(source, image[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(result)
