"""Compares an exported model with the network it was made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdas_tf import formats
from kdas_tf.data import transforms
from kdas_tf.errors import UserError
from kdas_tf.serving.embedder import OUTPUT

TOLERANCE = 1e-5
"""Largest difference between two numbers of embeddings of length 1 (float32)."""


class Comparison(NamedTuple):
    """How an exported model differs from its network.

    Attributes:
        difference: largest, between numbers of embeddings of length 1.
        images: number of images that were embedded.
        embedding_size: D.
        pixels: the images as the network saw them, float32 `[images, height, width, 3]`, 0..255.
        expected: the network's embeddings of them, `[images, D]`.
    """

    difference: float
    images: int
    embedding_size: int
    pixels: npt.NDArray
    expected: npt.NDArray


def compare(
    folder: Path, network: keras.Model, contents: Sequence[bytes], *, image_size: tuple[int, int]
) -> Comparison:
    """Embeds images with both signatures of a SavedModel and with the network.

    Args:
        folder: of the SavedModel.
        network: that it was made from.
        contents: JPEG or PNG files.
        image_size: (height, width) in pixels that the network sees.

    Raises:
        UserError: the embeddings differ by more than `TOLERANCE`.
    """
    signatures = tf.saved_model.load(str(folder)).signatures
    images = np.stack(decoded(contents, image_size))
    expected = np.array(network.predict_on_batch(images).embedding, np.float64)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    files = signatures["embed_jpeg"](image_bytes=tf.constant(list(contents)))[OUTPUT].numpy()
    whole = (tf.io.decode_image(content, channels=3, expand_animations=False) for content in contents)
    pixels = np.concatenate([signatures["serving_default"](images=image[None])[OUTPUT].numpy() for image in whole])
    difference = max(float(np.abs(found - expected).max()) for found in (files, pixels))
    if not difference <= TOLERANCE:  # also where it is not a number
        raise UserError(
            f"The exported model's embeddings differ by {difference:.1e} from the network's; {TOLERANCE} is allowed. "
            "Nothing was exported. Please report this, with the network."
        )
    return Comparison(difference, len(contents), expected.shape[1], images, expected)


def decoded(contents: Sequence[bytes], image_size: tuple[int, int]) -> list[npt.NDArray]:
    """JPEG or PNG files as a network sees them: float32 `[height, width, 3]`, 0..255."""
    return [transforms.decode(tf.constant(content), image_size).numpy() for content in contents]


def random_images(number: int, image_size: tuple[int, int]) -> list[bytes]:
    """Files of random pixels, PNG, of different sizes around a network's, where there are no photographs."""
    height, width = image_size
    generator = np.random.default_rng(0)
    sizes = [(height, width), (2 * height, 2 * width), (max(height // 2, 1), width), (height + 7, width + 3)]
    pixels = [generator.integers(0, 256, (*sizes[i % len(sizes)], 3), dtype=np.uint8) for i in range(number)]
    return [tf.io.encode_png(image).numpy() for image in pixels]


def readable(paths: Sequence[str], number: int) -> list[bytes]:
    """The content of up to so many JPEG or PNG files, evenly spread over a list; others are passed over."""
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, number).astype(int))] if paths else []
    contents = [Path(path).read_bytes() for path in chosen if Path(path).is_file()]
    return [content for content in contents if content.startswith((formats.JPEG, formats.PNG))]
