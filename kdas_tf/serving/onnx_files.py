"""ONNX copies of an exported network, for ONNX Runtime and whatever else reads the format.

Batches of any size, of images of the network's own size: whoever calls it decodes and resizes.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError
from kdas_tf.serving.onnx_target import OnnxTarget
from kdas_tf.serving.plain import plain_network


def convert(network: keras.Model, image_size: tuple[int, int]) -> bytes:
    """Writes a network: float32 `images` `[batch, height, width, 3]`, 0..255, to `embedding` `[batch, D]`.

    Args:
        network: a `Student` or a `ResNet`.
        image_size: (height, width) in pixels.

    Raises:
        UserError: a teacher, or the package onnx is missing.
    """
    target = OnnxTarget()
    embedding = plain_network(network, target)(target.images(image_size))
    return target.model(embedding, network.head.neck.moving_mean.shape[0]).SerializeToString()


class OnnxRunner:
    """Runs an ONNX file.

    Args:
        path: of the file.
        threads: that work on an image; None for as many as the machine has cores.

    Call arguments:
        images: float32 `[batch, height, width, 3]`, 0..255, of the network's size.

    Raises:
        UserError: the package onnxruntime is missing, or the file is not an exported network.
    """

    def __init__(self, path: Path, threads: int | None = None):
        runtime = import_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            (images,), (embedding,) = self._session.get_inputs(), self._session.get_outputs()
            _, height, width, _ = images.shape
        except Exception as error:  # onnxruntime has an exception of its own for every kind of fault
            raise UserError(
                f"Expected {path} to be a network that gin/export.gin wrote, but it cannot be loaded "
                f"({type(error).__name__}: {' '.join(str(error).split())[:200]})."
            ) from error
        self.image_size = (int(height), int(width))
        self._names = images.name, embedding.name

    def __call__(self, images: npt.NDArray) -> npt.NDArray:
        source, result = self._names
        return self._session.run([result], {source: np.asarray(images, np.float32)})[0]


def import_runtime() -> Any:
    """Imports ONNX Runtime.

    Raises:
        UserError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("To run ONNX files a package is missing: pip install '.[onnx]'") from error
    return onnxruntime
