"""ONNX copies of an exported network, for ONNX Runtime and whatever else reads the format.

Batches of any size, of images of the network's own size: whoever calls it decodes and resizes.
"""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError
from kdas_tf.serving.graphs import refusals
from kdas_tf.serving.graphs.onnx_target import OnnxTarget
from kdas_tf.serving.graphs.plain import plain_network

INTEGER_OPERATIONS = ("Conv", "Add", "Concat", "MaxPool", "Relu")
"""Those that `quantized` computes with integers: nearly all of the work."""


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


def quantized(content: bytes, examples: Sequence[npt.NDArray]) -> bytes:
    """Makes integers of a converted network's maps (uint8) and kernels (int8, a scale for every channel).

    Attention, the means and the embedding stay float32, as the images do. Made for processors with VNNI: on others
    ONNX Runtime adds products in 16 bits, which may overflow (its manual, "Quantize ONNX models").

    Args:
        content: what `convert` gave.
        examples: images like those that it will see, float32 `[height, width, 3]`.

    Raises:
        UserError: no examples, or the package onnxruntime is missing.
    """
    refusals.check_examples(examples)
    import_runtime()
    from onnxruntime import quantization

    class Examples(quantization.CalibrationDataReader):
        left = iter(examples)

        def get_next(self) -> dict[str, npt.NDArray] | None:
            image = next(self.left, None)
            return None if image is None else {"images": image[None]}

    with tempfile.TemporaryDirectory() as folder, _without_warnings():
        source, result = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(content)
        quantization.quantize_static(
            source,
            result,
            Examples(),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=list(INTEGER_OPERATIONS),
        )
        return result.read_bytes()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """The quantizer advises, through the root logger, to rewrite the graph first; here it is in its final form."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


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
            raise refusals.cannot_be_loaded(path, error) from error
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
