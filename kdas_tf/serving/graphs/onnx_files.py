"""ONNX copies of an exported network, for ONNX Runtime and other readers of the format.

A copy takes batches of any size, of images of the network's own size: the caller decodes and resizes.
"""

import tempfile
from collections.abc import Sequence
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
"""`quantized` computes these with integers: nearly all of the work."""


def convert(network: keras.Model, image_size: tuple[int, int]) -> bytes:
    """Writes a network: float32 `images` `[batch, height, width, 3]`, 0..255, to `embedding` `[batch, D]`.

    Raises `UserError` for a network that is no `Student` or `ResNet`, or where the package onnx is missing.
    """
    target = OnnxTarget()
    embedding = plain_network(network, target)(target.images(image_size))
    return target.model(embedding, network.head.neck.moving_mean.shape[0]).SerializeToString()


def quantized(content: bytes, examples: Sequence[npt.NDArray]) -> bytes:
    """Makes integers of a converted network's maps (uint8) and kernels (int8, a scale for every channel).

    Attention, the means and the embedding stay float32, as the images do. Kernels have 7 bits: on processors without
    VNNI ONNX Runtime adds products in 16 bits, which overflow with 8 (its manual, "Quantize ONNX models").

    `content` is what `convert` returns; `examples` are as in `kdas_tf.serving.runtimes.write`.
    """
    import_runtime()
    import onnx
    from onnxruntime import quantization

    class Examples(quantization.CalibrationDataReader):
        requests = ({"images": image[None]} for image in examples)

        def get_next(self) -> dict[str, npt.NDArray] | None:
            return next(self.requests, None)

    model = onnx.load_from_string(content)
    # Otherwise the quantizer advises, through the root logger, to rewrite the graph, which has its final form.
    onnx.helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "int8.onnx")
        quantization.quantize_static(
            model,
            result,
            Examples(),
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=list(INTEGER_OPERATIONS),
        )
        return result.read_bytes()


class OnnxRunner:
    """Runs an ONNX file; see `kdas_tf.serving.runtimes.Runner`.

    Raises:
        UserError: the file is not an exported network, or the package onnxruntime is missing.
    """

    def __init__(self, path: Path, threads: int | None = None):
        runtime = import_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has an exception of its own for every kind of fault
            raise refusals.cannot_be_loaded(path, error) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self.image_size = refusals.image_size_of(path, *([x.shape for x in values] for values in (inputs, outputs)))
        self._names = inputs[0].name, outputs[0].name

    def __call__(self, images: npt.NDArray) -> npt.NDArray:
        source, result = self._names
        return self._session.run([result], {source: np.asarray(images, np.float32)})[0]


def import_runtime() -> Any:
    """Imports ONNX Runtime; raises `UserError` where it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("To run ONNX files a package is missing: pip install '.[onnx]'") from error
    return onnxruntime
