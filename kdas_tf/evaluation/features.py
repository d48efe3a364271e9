"""Embeddings of images, extracted batch by batch."""

from collections.abc import Callable, Iterable, Mapping
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
    total: int,
    flip: bool = False,
    progress: Callable[[int, int | None], None] | None = None,
) -> Features:
    """Runs a network in inference mode and collects its embeddings.

    Args:
        network: a Keras model, or any function of images `[batch, height, width, 3]`; it returns embeddings
            `[batch, D]`, or something that has them as `.embedding`, such as `ReIDOutput`.
        batches: gives {"image": `[batch, height, width, 3]`, RGB in 0..255}; other keys are ignored. Only the last
            batch may be smaller than the first.
        total: number of images.
        flip: average the embeddings of the image and of its mirror image; takes twice the time.
        progress: called after every batch with the images done and `total`.

    Returns:
        `[total, D]`, rows of length 1, in the order of the batches. No image: `[0, 0]`.

    Raises:
        ValueError: the batches do not hold `total` images.
    """
    features = np.zeros((0, 0), np.float32)
    done = batch_size = 0
    for batch in batches:
        images = np.asarray(batch["image"])
        batch_size = max(batch_size, len(images))
        embedding = _embed(network, images, batch_size)
        if flip:
            embedding += _embed(
                network, images[:, :, ::-1], batch_size
            )  # twice the average: the length does not matter
        embedding /= np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12)
        if not done:
            features = np.empty((total, embedding.shape[1]), np.float32)
        done += len(images)
        if done > total:
            break
        features[done - len(images) : done] = embedding
        if progress is not None:
            progress(done, total)
    if done != total:
        raise ValueError(f"Expected {total} images, but the batches gave {done}.")
    return features


def _embed(network: Network, images: npt.NDArray, batch_size: int) -> Features:
    """Embeddings of up to `batch_size` images, as the network gives them, in an array of their own."""
    # Another size of batch would be traced anew, so the last batch is filled up, and what fills it is dropped.
    filled = np.pad(images, [(0, batch_size - len(images)), (0, 0), (0, 0), (0, 0)], mode="edge")
    output = predict(network, filled)
    return np.array(getattr(output, "embedding", output), np.float32)[: len(images)]


def predict(network: Network, images: npt.NDArray) -> Any:
    """What a network gives for one batch of images, in inference mode.

    A Keras model's compiled `predict_function` is used and kept by the model: a second call traces nothing.
    """
    return network.predict_on_batch(images) if isinstance(network, keras.Model) else network(images)
