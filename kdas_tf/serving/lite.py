"""LiteRT (`.tflite`) copies of an exported network, for phones and cameras.

One image at a time, at the network's own size: whoever calls it decodes and resizes. Kernels are float32, or float16 at
half the size; the arithmetic is float32 in both where a device has nothing else.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.serving.export import OUTPUT, Embedder

KINDS = ("float32", "float16")
FOLDER = "assets.extra"


class Measured(NamedTuple):
    """A converted network.

    Attributes:
        bytes: size of the file.
        milliseconds: median of the time that one image takes, on so many threads as the machine has cores.
        cosine: the least similarity of an embedding to the network's, at most 1.
    """

    bytes: int
    milliseconds: float
    cosine: float


def check_kinds(kinds: Sequence[str]) -> None:
    """Refuses kinds that there are not.

    Raises:
        UserError: as said.
    """
    if not set(kinds) <= set(KINDS):
        raise UserError(f"Expected lite to list some of {', '.join(KINDS)}, got {tuple(kinds)}.")


def write(
    embedder: Embedder, folder: Path, kinds: Sequence[str], images: npt.NDArray, expected: npt.NDArray
) -> dict[str, Measured]:
    """Writes a file of each kind and measures it.

    Args:
        embedder: the exported module.
        folder: of the SavedModel; the files are `assets.extra/KIND.tflite`.
        kinds: some of `KINDS`.
        images: to measure with, float32 `[number, height, width, 3]`, 0..255, of the network's size.
        expected: the network's embeddings of these, `[number, D]`, of length 1.
    """
    measured = {}
    for kind in kinds:
        content = convert(embedder, kind)
        path = folder / FOLDER / f"{kind}.tflite"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows, milliseconds = _run(content, images)
        measured[kind] = Measured(len(content), milliseconds, float((rows * expected).sum(1).min()))
    return measured


def convert(embedder: Embedder, kind: str) -> bytes:
    """Converts what comes after the preprocessing: float32 images `[1, height, width, 3]` to embeddings `[1, D]`."""
    module = tf.Module()
    spec = tf.TensorSpec([1, *embedder.image_size, 3], tf.float32, name="images")
    module.embed = tf.function(embedder.embed_resized, input_signature=[spec], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.embed.get_concrete_function()], module)
    if kind == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return converter.convert()


def _run(content: bytes, images: npt.NDArray) -> tuple[npt.NDArray, float]:
    """Embeddings, and the median of the milliseconds that one image takes."""
    runner = open_model(content)
    rows, seconds = [], []
    for image in images:
        since = time.perf_counter()
        rows.append(runner(images=image[None])[OUTPUT][0])
        seconds.append(time.perf_counter() - since)
    return np.stack(rows), 1000 * float(np.median(seconds))


def open_model(content: bytes) -> Callable[..., Any]:
    """A function of `images` that runs a converted network, as `{"embedding": ...}`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the interpreter has moved to the package ai-edge-litert; this one still runs
        return tf.lite.Interpreter(model_content=content).get_signature_runner()
