"""Copies of an exported network for other runtimes than TensorFlow: writes, runs and measures them."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError
from kdas_tf.serving.checking import Comparison, check_difference
from kdas_tf.serving.graphs import lite, onnx_files

FILES: Mapping[str, str] = {
    "onnx": "float32.onnx",
    "onnx_int8": "int8.onnx",
    "litert_float32": "float32.tflite",
    "litert_float16": "float16.tflite",
    "litert_int8": "int8.tflite",
}
"""The file of each runtime."""
INTEGERS = ("onnx_int8", "litert_int8")
"""Runtimes that must be shown photographs."""
FOLDER = "assets.extra"


Runner = lite.LiteRunner | onnx_files.OnnxRunner
"""Embeds images `[batch, *image_size, 3]`, 0..255, with an exported file: `[batch, D]`, rows of length 1."""


class Measured(NamedTuple):
    """A copy, measured."""

    file: str  # inside the SavedModel's folder
    bytes: int
    milliseconds: float  # median time of an image, on as many threads as the machine has cores
    cosine: float  # the least similarity of an embedding to the network's, at most 1
    difference: float  # the largest between numbers of embeddings of length 1


def check(runtimes: Sequence[str]) -> None:
    """Raises `UserError` for unknown runtimes, and for runtimes whose packages are missing."""
    if isinstance(runtimes, str) or not set(runtimes) <= set(FILES):
        raise UserError(f"Expected runtimes to list some of {', '.join(FILES)}, got {runtimes!r}.")
    if {"onnx", "onnx_int8"} & set(runtimes):
        onnx_files.import_runtime()


def write(
    network: keras.Model,
    folder: Path,
    runtime: str,
    *,
    image_size: tuple[int, int],
    examples: Sequence[npt.NDArray] = (),
) -> Path:
    """Writes a network's copy for a runtime of `FILES` into a SavedModel's folder; returns the file.

    Args:
        network: a `Student`, a `ResNet` or, for LiteRT, a `Teacher`.
        folder: of the SavedModel.
        runtime: one of `FILES`.
        image_size: (height, width) in pixels.
        examples: photographs as the network sees them, float32 `[height, width, 3]`; `INTEGERS` need some.

    Raises:
        UserError: the runtime cannot have this network.
    """
    path = folder / FOLDER / FILES[runtime]
    path.parent.mkdir(parents=True, exist_ok=True)
    if runtime.startswith("onnx"):
        content = onnx_files.convert(network, image_size)
        path.write_bytes(onnx_files.quantized(content, examples) if runtime in INTEGERS else content)
    else:
        path.write_bytes(lite.convert(network, image_size, runtime.removeprefix("litert_"), examples))
    return path


def open_file(path: Path, threads: int | None = None) -> Runner:
    """Opens an exported file, or raises `UserError`; None threads are as many as the machine has cores."""
    return lite.LiteRunner(path, threads) if path.suffix == ".tflite" else onnx_files.OnnxRunner(path, threads)


def measure(path: Path, comparison: Comparison) -> Measured:
    """Runs a copy on the compared images; raises `UserError` where a float32 copy gives other embeddings."""
    runner, rows, seconds = open_file(path), [], []
    runner(comparison.pixels[:1])
    for image in comparison.pixels:
        since = time.perf_counter()
        rows.append(runner(image[None])[0])
        seconds.append(time.perf_counter() - since)
    embeddings = np.stack(rows)
    difference = float(np.abs(embeddings - comparison.expected).max())
    if path.stem == "float32":
        check_difference(path.name, difference)
    cosine, milliseconds = (embeddings * comparison.expected).sum(1).min(), 1000 * np.median(seconds)
    return Measured(f"{FOLDER}/{path.name}", path.stat().st_size, float(milliseconds), float(cosine), difference)
