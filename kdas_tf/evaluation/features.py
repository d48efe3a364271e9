"""Embeddings of images, extracted batch by batch."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
Network = Callable[[npt.NDArray], Any]
Progress = Callable[[int, int | None], None]


def extract(
    network: Network,
    batches: Iterable[Mapping[str, Any]],
    *,
    total: int,
    flip: bool = False,
    progress: Progress | None = None,
) -> Features:
    """Collects the embeddings that a network gives.

    Args:
        network: a function of images `[batch, height, width, 3]` in inference mode
            (`kdas_tf.training.inference.inference` makes it of a Keras model); it returns embeddings `[batch, D]`, or
            something that has them as `.embedding`, such as `ReIDOutput`.
        batches: as in `collect`.
        total: number of images.
        flip: average the embeddings of the image and of its mirror image; takes twice the time.
        progress: as in `collect`.

    Returns:
        `[total, D]`, rows of length 1, in the order of the batches. No image: `[0, 0]`.

    Raises:
        ValueError: as `collect`.
    """

    def embed(images: npt.NDArray) -> Features:
        embedding = _embedding(network(images))
        if flip:
            embedding += _embedding(network(images[:, :, ::-1]))  # twice the average: the length does not matter
        embedding /= np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
        return embedding

    return collect(embed, batches, total=total, progress=progress)


def _embedding(output: Any) -> Features:
    """The embeddings in what a network gave, in an array of their own."""
    return np.array(getattr(output, "embedding", output), np.float32)


def collect(
    rows: Callable[[npt.NDArray], Any],
    batches: Iterable[Mapping[str, Any]],
    *,
    total: int,
    progress: Progress | None = None,
) -> Features:
    """Collects a row for each image, batch by batch.

    Args:
        rows: a function of images `[batch, height, width, 3]` that returns rows `[batch, D]`. The last batch is filled
            up, since another size would be traced anew; what fills it is dropped.
        batches: gives {"image": `[batch, height, width, 3]`, RGB in 0..255}; other keys are ignored. Only the last
            batch may be smaller than the first.
        total: number of images.
        progress: called after every batch with the images done and `total`.

    Returns:
        `[total, D]`, in the order of the batches. No image: `[0, 0]`.

    Raises:
        ValueError: the batches do not hold `total` images, or the function does not give a row for each image.
    """
    collected = np.zeros((0, 0), np.float32)
    done = batch_size = 0
    for batch in batches:
        images = np.asarray(batch["image"])
        batch_size = max(batch_size, len(images))
        filled = np.pad(images, [(0, batch_size - len(images)), (0, 0), (0, 0), (0, 0)], mode="edge")
        found = np.asarray(rows(filled), np.float32)
        if found.ndim != 2 or len(found) != batch_size:
            raise ValueError(f"Expected a row for each of {batch_size} images, got an array of shape {found.shape}.")
        if not done:
            collected = np.empty((total, found.shape[1]), np.float32)
        done += len(images)
        if done > total:
            break
        collected[done - len(images) : done] = found[: len(images)]
        if progress is not None:
            progress(done, total)
    if done != total:
        raise ValueError(f"Expected {total} images, but the batches gave {done}.")
    return collected
