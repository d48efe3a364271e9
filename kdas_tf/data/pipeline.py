"""Turns records into batches of decoded, augmented images with tf.data."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdas_tf.data import transforms, verify
from kdas_tf.data.image_cache import ImageCache
from kdas_tf.data.records import Record
from kdas_tf.data.sampler import BalancedSampler
from kdas_tf.errors import UserError

Dataset = tf.data.Dataset

# Separates the augmentation's random numbers from those of the split and the sampler.
_STREAM = 301


class Share(NamedTuple):
    """What a process makes of every batch: the rows of its own devices, in a part for each of them.

    Attributes:
        worker: number of the process.
        workers: number of processes.
        devices: number of devices of each.
    """

    worker: int = 0
    workers: int = 1
    devices: int = 1

    def part(self, batch_size: int) -> int:
        """Rows for one device.

        Raises:
            UserError: the batch cannot be shared equally.
        """
        part, rest = divmod(batch_size, self.workers * self.devices)
        if rest or not part:
            raise UserError(
                f"Expected batches that {self.workers * self.devices} devices can share equally, got {batch_size} "
                "images. Change the size of the batch, or use fewer devices (--num_devices)."
            )
        return part

    def rows(self, batch_size: int) -> slice:
        """Rows of all devices of the process."""
        rows = self.part(batch_size) * self.devices
        return slice(self.worker * rows, (self.worker + 1) * rows)


WHOLE = Share()
"""The whole batch in one part."""


def balanced_batches(
    records: Sequence[Record],
    labels: Sequence[int] | npt.NDArray,
    indices: Sequence[int] | npt.NDArray,
    *,
    image_size: tuple[int, int],
    identities_per_batch: int,
    images_per_identity: int,
    augmentation: transforms.Augmentation | None,
    seed: int,
    start_epoch: int = 0,
    start_step: int = 0,
    epochs: int,
    cache: ImageCache | None = None,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """P x K batches of augmented images for the epochs `start_epoch` .. `epochs` - 1, one after the other.

    Every batch is a pure function of (seed, epoch, step): a data set that starts at epoch e yields bit for bit what an
    uninterrupted one yields from there. Two data sets that are read side by side (the halves of a search) need
    different seeds, or their batches show the same identities with the same augmentation.

    Args:
        records: the training split.
        labels: label of every record, `[records]`.
        indices: the records to sample from, `[chosen]`; for example one half.
        image_size: (height, width) in pixels.
        identities_per_batch: P.
        images_per_identity: K.
        augmentation: called with every image and a seed; None leaves images as they are.
        seed: not negative.
        start_epoch: first epoch.
        start_step: first step in it.
        epochs: the epoch to stop before.
        cache: of the records and of this size, so that no image is decoded twice; it changes nothing in the batches.
        share: makes only these rows, in parts that follow one another; the values below are those of `WHOLE`.

    Returns:
        A data set of known length, epochs - start_epoch times `sampler.steps_per_epoch(len(indices), P * K)` less
        start_step, with elements {"image": float32 `[P*K, height, width, 3]` in 0..255, "label": int32 `[P*K]`,
        "index": int32 `[P*K]`},
        grouped by identity; `index` is a position in `records`.

    Raises:
        UserError: a number is out of its range, or there are too few identities.
    """
    image_size = transforms.check_image_size(image_size)
    images = cache or ImageCache(records, image_size, limit=0)
    if images.image_size != image_size:
        raise UserError(f"Expected a cache of images of {image_size}, but got one of {images.image_size}.")
    if not 0 <= start_epoch <= epochs:
        raise UserError(f"Expected 0 <= start_epoch <= epochs, but got {start_epoch} and {epochs}. Correct them.")
    labels, indices = np.asarray(labels, np.int32), np.asarray(indices, np.int32)
    sampler = BalancedSampler(labels[indices], identities_per_batch, images_per_identity, seed)
    rows, part = share.rows(sampler.batch_size), share.part(sampler.batch_size)

    def plan() -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
        for epoch in range(start_epoch, epochs):
            for step in range(start_step if epoch == start_epoch else 0, sampler.steps_per_epoch):
                seeds = np.random.SeedSequence([_STREAM, seed, epoch, step]).generate_state(2 * sampler.batch_size)
                yield indices[sampler.batch(epoch, step)][rows], seeds.view(np.int32).reshape(-1, 2)[rows]

    all_labels = tf.constant(labels)

    def item(index: tf.Tensor, item_seed: tf.Tensor) -> dict[str, tf.Tensor]:
        image = images.load(index)
        if augmentation is not None:
            image = augmentation(image, item_seed)
        return {"image": image, "label": all_labels[index], "index": index}

    size = part * share.devices
    signature = (tf.TensorSpec([size], tf.int32), tf.TensorSpec([size, 2], tf.int32))
    dataset = tf.data.Dataset.from_generator(plan, output_signature=signature).unbatch()
    dataset = dataset.map(item, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(part, drop_remainder=True)
    steps = (epochs - start_epoch) * sampler.steps_per_epoch - start_step
    return _finish(dataset.apply(tf.data.experimental.assert_cardinality(steps * share.devices)))


def paired_batches(halves: Mapping[str, tuple[Sequence[int] | npt.NDArray, int]], **arguments: Any) -> tf.data.Dataset:
    """Batches of several subsets side by side, as a search reads D_train and D_val.

    Args:
        halves: {name: (indices, seed)}; the seeds must differ, or the batches show the same identities with the same
            augmentation.
        **arguments: as in `balanced_batches`.

    Returns:
        A data set of {name: batch}.
    """
    parts = {
        name: balanced_batches(indices=indices, seed=seed, **arguments) for name, (indices, seed) in halves.items()
    }
    return tf.data.Dataset.zip(parts)


def ordered_batches(records: Sequence[Record], *, image_size: tuple[int, int], batch_size: int) -> tf.data.Dataset:
    """All images once, in order and not augmented, for the extraction of features.

    Args:
        records: any split.
        image_size: (height, width) in pixels.
        batch_size: images in a batch; the last one may have fewer.

    Returns:
        A data set of {"image": float32 `[batch, height, width, 3]` in 0..255}.

    Raises:
        UserError: `image_size` or `batch_size` is below 1.
    """
    images = ImageCache(records, image_size, limit=0)
    if batch_size < 1:
        raise UserError(f"Expected batch_size >= 1, but got {batch_size}. Correct it.")
    dataset = tf.data.Dataset.range(len(records)).map(
        lambda index: {"image": images.load(index)},
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return _finish(dataset.batch(batch_size))


_UNREADABLE = (
    *(tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.UnknownError),
    *(tf.errors.PermissionDeniedError, tf.errors.DataLossError),
)


@contextlib.contextmanager
def naming_damaged_images(records: Sequence[Record]) -> Iterator[None]:
    """Turns TensorFlow's error about an image it cannot read into a `UserError` that names the file.

    TensorFlow names a missing file but not a damaged one. All images are verified only once such an error has occurred,
    so that batches cost nothing more.

    Example:
        with naming_damaged_images(records):
            model.fit(balanced_batches(records, ...))

    Raises:
        UserError: an image is damaged or missing.
    """
    try:
        yield
    except _UNREADABLE as error:
        paths = [record.path for record in records]
        damaged = [(path, damage) for path, damage in zip(paths, verify.damage_of(paths), strict=True) if damage]
        if not damaged:
            raise
        raise UserError(
            f"Expected {len(paths)} readable images, as when they were verified, but {len(damaged)} no longer are; the "
            f"first, {damaged[0][0]}: {damaged[0][1]}. Restore them; or, to leave them out, delete the folders of the "
            "stages and run them again."
        ) from error


def _finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetches, and lets whoever distributes a data set share batches instead of looking for files to share."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)
