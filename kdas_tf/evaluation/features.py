"""Embeddings of images, extracted batch by batch."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.float32]
Network = Callable[[npt.NDArray], Any]  # a keras.Model is one, too


def extract(
    network: Network,
    batches: Iterable[Mapping[str, Any]],
    *,
    total: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    flip: bool = False,
    out: Features | Callable[[tuple[int, int]], Features] | None = None,
) -> Features:
    """Runs a network in inference mode and collects its embeddings.

    A Keras model's compiled `predict_function` is used and kept by the model: a second call traces nothing. If `total`
    is known, every embedding is written to its place at once, and the features never exist twice in memory.

    Args:
        network: a Keras model, or any function of images `[batch, height, width, 3]`; it returns embeddings
            `[batch, D]`, or something that has them as `.embedding`, such as `ReIDOutput`.
        batches: gives {"image": `[batch, height, width, 3]`, RGB in 0..255}; other keys are ignored.
        total: number of images, if known.
        progress: called after every batch with the images done and `total`.
        flip: average the embeddings of the image and of its mirror image; takes twice the time.
        out: where to write: an array `[total, D]`, which may be memory-mapped, or a function that makes one from its
            shape, since D is known only after the first batch. Needs `total`.

    Returns:
        `[images, D]`, rows of length 1, in the order of the batches; `out`, if it was given. No batch: `[0, 0]`.

    Raises:
        ValueError: the batches do not hold `total` images, or `out` does not fit.
    """
    make, result = (out, None) if callable(out) else (_new, out)
    if out is not None and (total is None or (result is not None and len(result) != total)):
        raise ValueError(f"Expected out to have a place for each of `total` images, got a total of {total}.")
    rows: list[Features] = []
    done = 0
    for embedding in _embeddings(network, batches, flip):
        if total is None:
            rows.append(embedding)
        elif done + len(embedding) <= total:
            result = make((total, embedding.shape[1])) if result is None else result
            _write(result, done, embedding)
        done += len(embedding)
        if progress is not None:
            progress(done, total)
    if total is not None and done != total:
        raise ValueError(f"Expected {total} images, but the batches gave {done}.")
    if result is not None:
        return result
    return np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)


def _new(shape: tuple[int, int]) -> Features:
    return np.empty(shape, np.float32)


def _embeddings(network: Network, batches: Iterable[Mapping[str, Any]], flip: bool) -> Iterator[Features]:
    """Embeddings of length 1, `[batch, D]`, batch by batch."""
    size = 0
    for batch in batches:
        images = np.asarray(batch["image"])
        size = max(size, len(images))
        embedding = _run(network, images, size)
        if flip:
            embedding += _run(network, images[:, :, ::-1], size)  # twice the average: the length does not matter
        lengths = np.linalg.norm(embedding, axis=1, keepdims=True)
        yield (embedding / np.maximum(lengths, 1e-12)).astype(np.float32)


def _run(network: Network, images: npt.NDArray, size: int) -> Features:
    """Embeddings of up to `size` images, as the network gives them, in an array of their own."""
    # A last batch of another size would be traced anew; it is filled up, and what fills it is dropped.
    filled = np.pad(images, [(0, size - len(images)), (0, 0), (0, 0), (0, 0)], mode="edge")
    output = predict(network, filled)
    return np.array(getattr(output, "embedding", output), np.float32)[: len(images)]


def predict(network: Network, images: npt.NDArray) -> Any:
    """What a network gives for one batch of images, in inference mode."""
    return network.predict_on_batch(images) if isinstance(network, keras.Model) else network(images)


def _write(result: Features, first: int, embedding: Features) -> None:
    if result.ndim != 2 or result.shape[1] != embedding.shape[1]:
        raise ValueError(f"Expected out to hold {embedding.shape[1]} numbers an image, got the shape {result.shape}.")
    result[first : first + len(embedding)] = embedding
