"""Splits the training data of a search in two: one half trains the weights, the other the architecture."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError

# Separates these random numbers from those that the sampler and the augmentation draw with the same seed.
_STREAM = 101


def half_split(labels: Sequence[int] | npt.NDArray, seed: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Splits the images of every identity in half, at random, so that both halves know every identity.

    The paper splits D_T into D_train and D_val (Algorithm 1); splitting per identity keeps one classifier and one
    teacher valid for both. Of an odd number of images, the two halves get the larger part in turn.

    Args:
        labels: identity of every image, `[images]`, not negative.
        seed: not negative; how the images of an identity are split depends on it and on their label only.

    Returns:
        (train, val): ascending indices into `labels`, disjoint, together all images. For each identity and overall,
        their sizes differ by at most one.

    Raises:
        UserError: an identity has a single image.
    """
    labels = np.asarray(labels, np.int64)
    train: list[npt.NDArray[np.int64]] = []
    val: list[npt.NDArray[np.int64]] = []
    train_gets_odd = True
    values, counts = np.unique(labels, return_counts=True)
    groups = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    for label, indices in zip(values.tolist(), groups, strict=True):
        if len(indices) < 2:
            raise UserError(
                f"Expected at least two training images of every identity, but label {label} has {len(indices)}. "
                "Delete the folder of the data stage and run it again: it leaves such identities out."
            )
        shuffled = np.random.default_rng([_STREAM, seed, label]).permutation(indices)
        half, odd = divmod(len(shuffled), 2)
        if odd:
            half += train_gets_odd
            train_gets_odd = not train_gets_odd
        train.append(shuffled[:half])
        val.append(shuffled[half:])
    return np.sort(np.concatenate(train)), np.sort(np.concatenate(val))
