"""LiteRT (`.tflite`) copies of an exported network, for phones and cameras.

One image at a time, at the network's own size: whoever calls it decodes and resizes. Kernels are float32, or float16 at
half the size; the arithmetic is float32 in both where a device has nothing else.
"""

import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.serving.export import Embedder


def convert(embedder: Embedder, precision: str) -> bytes:
    """Converts what comes after the preprocessing: float32 images `[1, height, width, 3]` to embeddings `[1, D]`.

    Args:
        embedder: the exported module.
        precision: "float32" or "float16", of the kernels.
    """
    module = tf.Module()
    spec = tf.TensorSpec([1, *embedder.image_size, 3], tf.float32, name="images")
    module.embed = tf.function(embedder.embed_resized, input_signature=[spec], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.embed.get_concrete_function()], module)
    if precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


class LiteRunner:
    """Runs a LiteRT file, image by image.

    Args:
        path: of the file.
        threads: that work on an image; None for as many as the machine has cores.

    Call arguments:
        images: float32 `[batch, height, width, 3]`, 0..255, of the network's size.

    Raises:
        UserError: the file is not an exported network.
    """

    def __init__(self, path: Path, threads: int | None = None):
        try:
            with warnings.catch_warnings():
                # The interpreter has moved to the package ai-edge-litert; this one still runs.
                warnings.simplefilter("ignore")
                self._interpreter = tf.lite.Interpreter(str(path), num_threads=threads or os.cpu_count())
            self._interpreter.allocate_tensors()
            (images,) = self._interpreter.get_input_details()
            (embedding,) = self._interpreter.get_output_details()
            _, height, width, _ = images["shape"]
        except (ValueError, RuntimeError, OSError) as error:
            raise UserError(
                f"Expected {path} to be a network that gin/export.gin wrote, but it cannot be loaded "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]})."
            ) from error
        self.image_size = (int(height), int(width))
        self._places = images["index"], embedding["index"]

    def __call__(self, images: npt.NDArray) -> npt.NDArray:
        return np.concatenate([self._embed(image) for image in np.asarray(images, np.float32)])

    def _embed(self, image: npt.NDArray) -> npt.NDArray:
        source, result = self._places
        self._interpreter.set_tensor(source, image[None])
        self._interpreter.invoke()
        return self._interpreter.get_tensor(result)
