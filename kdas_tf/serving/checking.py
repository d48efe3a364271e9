"""Compares an exported model with the network that it was made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdas_tf import formats
from kdas_tf.data import decoding, transforms
from kdas_tf.errors import UserError
from kdas_tf.serving.embedder import OUTPUT
from kdas_tf.training.inference import inference

TOLERANCE = 1e-5
"""Largest difference between two numbers of embeddings of length 1 (float32)."""


class Comparison(NamedTuple):
    """How an exported model differs from its network."""

    difference: float  # the largest, between numbers of embeddings of length 1
    images: int
    embedding_size: int
    pixels: npt.NDArray  # the images as the network saw them, float32 `[images, height, width, 3]`, 0..255
    expected: npt.NDArray  # the network's embeddings of them, `[images, D]`


def compare(
    folder: Path, network: keras.Model, contents: Sequence[bytes], *, image_size: tuple[int, int]
) -> Comparison:
    """Embeds JPEG or PNG files with both signatures of a SavedModel and with its network.

    The files have at most the export's `max_pixels`, see `readable`. Raises `UserError` as `check_difference`.
    """
    signatures = tf.saved_model.load(str(folder)).signatures
    images = np.stack(decoded(contents, image_size))
    expected = np.array(inference(network)(images).embedding, np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    of_files = signatures["embed_jpeg"](image_bytes=tf.constant(list(contents)))[OUTPUT].numpy()
    whole = (decoding.pixels(content) for content in contents)
    of_pixels = np.concatenate([signatures["serving_default"](images=image[None])[OUTPUT].numpy() for image in whole])
    difference = max(float(np.abs(embeddings - expected).max()) for embeddings in (of_files, of_pixels))
    check_difference("the exported model", difference)
    return Comparison(difference, len(contents), expected.shape[1], images, expected)


def check_difference(title: str, difference: float) -> None:
    """Raises `UserError` where embeddings differ from the network's by more than `TOLERANCE`, or by no number."""
    if not difference <= TOLERANCE:
        raise UserError(
            f"The embeddings of {title} differ by {difference:.1e} from the network's; {TOLERANCE} is allowed. "
            "Nothing was exported. Please report this, with the network."
        )


def decoded(contents: Sequence[bytes], image_size: tuple[int, int]) -> list[npt.NDArray]:
    """JPEG or PNG files as a network sees them: float32 `[height, width, 3]`, 0..255."""
    return [transforms.decode(tf.constant(content), image_size).numpy() for content in contents]


def random_images(number: int, image_size: tuple[int, int], *, max_pixels: int = formats.MAX_PIXELS) -> list[bytes]:
    """PNG files of random pixels, of sizes around a network's; `UserError` if all have more than `max_pixels`."""
    height, width = image_size
    sizes = [(height, width), (2 * height, 2 * width), (max(height // 2, 1), width), (height + 7, width + 3)]
    sizes = [size for size in sizes if size[0] * size[1] <= max_pixels]
    if not sizes:
        raise UserError(
            f"Expected max_pixels to be at least the network's own size, {height} x {width} = {height * width:,} "
            f"pixels, got {max_pixels:,}. Set export.run.max_pixels."
        )
    generator = np.random.default_rng(0)
    pixels = [generator.integers(0, 256, (*sizes[i % len(sizes)], 3), dtype=np.uint8) for i in range(number)]
    return [tf.io.encode_png(image).numpy() for image in pixels]


def readable(paths: Sequence[str], number: int, *, max_pixels: int | None = None) -> list[bytes]:
    """The content of up to `number` JPEG or PNG files, evenly spread over a list.

    Leaves out missing and damaged files, files of other formats, and images of more than `max_pixels`, which the export
    refuses.

    Raises:
        UserError: all images have more than `max_pixels`.
    """
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, number).astype(int))] if paths else []
    contents, too_large = [], []
    for path in chosen:
        try:
            content = Path(path).read_bytes()
            header = formats.check(content)
        except (OSError, formats.Unreadable):  # missing, or damaged since the data stage
            continue
        if header.size is None:  # of a format that is not served
            continue
        height, width = header.size
        if max_pixels is not None and height * width > max_pixels:
            too_large.append(f"{path} with {height * width:,} ({height} x {width})")
        else:
            contents.append(content)
    if too_large and not contents:
        raise UserError(
            f"Expected photographs of at most max_pixels={max_pixels:,} pixels to compare the embeddings on, but all "
            f"that were tried have more, such as {too_large[0]}. Set export.run.max_pixels higher."
        )
    return contents
