"""Embeddings of images, extracted batch by batch."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt


def extract(
    model: keras.Model,
    batches: Iterable[Mapping[str, Any]],
    *,
    total: int | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> npt.NDArray[np.float32]:
    """Runs a network in inference mode and collects its embeddings.

    The network's compiled `predict_function` is used and kept by the network: a second call traces nothing.

    Args:
        model: a network that returns `ReIDOutput`.
        batches: gives {"image": `[batch, height, width, 3]`, RGB in 0..255}; other keys are ignored.
        total: number of images, if known; only passed on to `progress`.
        progress: called after every batch with the images done and `total`.

    Returns:
        `[images, D]`, rows of length 1, in the order of the batches; `[0, 0]` if there was no batch.
    """
    rows: list[npt.NDArray[np.float32]] = []
    done = size = 0
    for batch in batches:
        images = np.asarray(batch["image"])
        count = len(images)
        size = max(size, count)
        # A last batch of another size would be traced anew; it is filled up, and what fills it is dropped.
        filled = np.pad(images, [(0, size - count), (0, 0), (0, 0), (0, 0)], mode="edge")
        embedding = np.asarray(model.predict_on_batch(filled).embedding, np.float32)[:count]
        rows.append(embedding / np.maximum(np.linalg.norm(embedding, axis=1, keepdims=True), 1e-12))
        done += count
        if progress is not None:
            progress(done, total)
    return np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
