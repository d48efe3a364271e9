"""Turns records into batches of decoded, augmented images with tf.data."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdas_tf.data import transforms, verify
from kdas_tf.data.image_cache import ImageCache
from kdas_tf.data.records import Record, relabel
from kdas_tf.data.sampler import BalancedSampler
from kdas_tf.errors import UserError
from kdas_tf.settings import Sampling

Dataset = tf.data.Dataset

# Separates the augmentation's random numbers from those of the split and the sampler.
_STREAM = 301

# Steps that are planned at once: a few kilobytes each, and Python is asked seldom.
_PLANNED_STEPS = 32
# Files that are read at once. TensorFlow's own choice, one for each core, leaves cores waiting for the next.
_READ_FILES = max(8, 2 * (os.cpu_count() or 1))


class BatchShard(NamedTuple):
    """The rows of every batch that one process makes: those of its own devices, in a part for each device.

    Attributes:
        worker: number of the process.
        workers: number of processes.
        devices: number of devices of each process.
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
                "images. Change the size of the batch, or use fewer devices (--num_devices).",
                code="fit",
            )
        return part

    def rows(self, batch_size: int) -> slice:
        """Rows of all devices of the process."""
        rows = self.part(batch_size) * self.devices
        return slice(self.worker * rows, (self.worker + 1) * rows)


WHOLE = BatchShard()
"""The whole batch in one part."""


class TrainingImages:
    """The photographs of a training split, read at one size, with their labels.

    Args:
        records: the training split.
        image_size: (height, width) in pixels.
        cache_bytes: memory for decoded images, which are kept if all of them fit (`ImageCache`); batches are the same.
        teacher_size: (height, width) at which a teacher sees the same photographs, changed in the same way; None if no
            teacher sees them, or at `image_size`.

    Attributes:
        labels: label of every record, from 0 on, int32 `[records]`.
        identities: the identity that each label stands for.
    """

    def __init__(
        self,
        records: Sequence[Record],
        image_size: tuple[int, int],
        *,
        cache_bytes: float = 0,
        teacher_size: tuple[int, int] | None = None,
    ):
        labels, self.identities = relabel(records)
        self.labels = np.asarray(labels, np.int32)
        self.caches = [ImageCache(records, image_size, limit=cache_bytes)]
        if teacher_size is not None and tuple(teacher_size) != self.caches[0].image_size:
            self.caches.append(ImageCache(records, teacher_size, limit=cache_bytes - self.caches[0].bytes))


VIEWS = ("image", "teacher_image")
"""What a batch calls the photographs as the network in training sees them, and as its teacher does."""


def balanced_batches(
    images: TrainingImages,
    *,
    indices: npt.ArrayLike | None = None,
    sampling: Sampling,
    seed: int,
    start_epoch: int = 0,
    start_step: int = 0,
    epochs: int,
    shard: BatchShard = WHOLE,
) -> tf.data.Dataset:
    """P x K batches of augmented images for the epochs `start_epoch` .. `epochs` - 1, one after the other.

    Every batch is a pure function of (seed, epoch, step): a data set that starts at epoch e yields bit for bit what an
    uninterrupted data set yields from there. Two data sets that are read side by side (the halves of a search) need
    different seeds, or their batches show the same identities with the same augmentation.

    Args:
        images: the photographs.
        indices: positions of the photographs to sample from, `[chosen]`, for example one half; None for all.
        sampling: P, K and the augmentation.
        seed: not negative.
        start_epoch: first epoch.
        start_step: first step in it.
        epochs: the epoch to stop before.
        shard: the rows to make, in parts that follow one another; the shapes below are those of `WHOLE`.

    Returns:
        A data set of known length, epochs - start_epoch times `sampler.steps_per_epoch(chosen, P * K)` less start_step,
        with elements {"image": float32 `[P*K, height, width, 3]` in 0..255, "label": int32 `[P*K]`, "index": int32
        `[P*K]`}, grouped by identity; `index` is a position in the records. Where a teacher sees the photographs at
        another size, "teacher_image" holds them: float32 `[P*K, *teacher_size, 3]`.

    Raises:
        UserError: there are too few identities, or the devices cannot share the batches.
    """
    chosen = np.arange(len(images.labels)) if indices is None else np.asarray(indices)
    sampler = BalancedSampler(images.labels[chosen], sampling.identities_per_batch, sampling.images_per_identity, seed)
    steps = range(start_epoch * sampler.steps_per_epoch + start_step, epochs * sampler.steps_per_epoch)
    caches, augmentation, labels = images.caches, sampling.augmentation, tf.constant(images.labels)
    plans = _plans(sampler, chosen.astype(np.int32), augmentation, [each.image_size for each in caches], steps, shard)

    def batch(index: tf.Tensor, choices: tf.Tensor, *views: tf.Tensor) -> dict[str, tf.Tensor]:
        if augmentation is not None:
            views = tuple(map(augmentation, views, tf.split(choices, len(views), axis=1)))
        return {"label": tf.gather(labels, index), "index": index, **dict(zip(VIEWS, views, strict=False))}

    if all(cache.keeps for cache in caches):
        dataset = _map(plans, lambda index, choices: batch(index, choices, *(cache.load(index) for cache in caches)))
    else:
        # Image by image, so that all threads decode for the same batch.
        def read_one(index: tf.Tensor, choices: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return index, choices, *(cache.read(index) for cache in caches)

        read = _map(plans.unbatch(), read_one, _READ_FILES)
        dataset = _map(read.batch(shard.part(sampler.batch_size), drop_remainder=True), batch)
    return _finish(dataset.apply(tf.data.experimental.assert_cardinality(len(steps) * shard.devices)))


def paired_batches(
    images: TrainingImages, halves: Mapping[str, tuple[npt.ArrayLike, int]], **arguments: Any
) -> tf.data.Dataset:
    """Batches of several subsets side by side, as a search reads D_train and D_val.

    Args:
        images: the photographs.
        halves: {name: (indices, seed)}, with different seeds.
        **arguments: as in `balanced_batches`.

    Returns:
        A data set of {name: batch}.
    """
    parts = {
        name: balanced_batches(images, indices=indices, seed=seed, **arguments)
        for name, (indices, seed) in halves.items()
    }
    return tf.data.Dataset.zip(parts)


def _plans(
    sampler: BalancedSampler,
    indices: npt.NDArray[np.int32],
    augmentation: transforms.Augmentation | None,
    sizes: Sequence[tuple[int, int]],
    steps: range,
    shard: BatchShard,
) -> tf.data.Dataset:
    """What each part of each batch shows: positions in the records `[part]`, and choices `[part, any]`.

    The choices are those for images of the first size, then the same for each other one.
    """
    rows, part = shard.rows(sampler.batch_size), shard.part(sampler.batch_size)

    def choose(places: Sequence[tuple[int, int]]) -> npt.NDArray[np.float32]:
        if augmentation is None:  # not of width 0: TensorFlow 2.21 crashes where it takes such arrays apart
            return np.zeros((len(places) * (rows.stop - rows.start), 1), np.float32)
        shape = (augmentation.random_numbers, sampler.batch_size)
        numbers = [_random_numbers(sampler.seed, *place, shape)[:, rows] for place in places]
        together = np.concatenate(numbers, axis=1)
        return np.concatenate([augmentation.choose(together, sizes[0], size) for size in sizes], axis=1)

    def plan(first: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        planned = range(int(first), min(int(first) + _PLANNED_STEPS, steps.stop))
        places = [divmod(step, sampler.steps_per_epoch) for step in planned]
        chosen = np.stack([indices[sampler.batch(*place)][rows] for place in places])
        return chosen.reshape(-1, part), choose(places).reshape(-1, part, width)

    def plan_in_graph(first: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen, choices = tf.numpy_function(plan, [first], [tf.int32, tf.float32])
        return tf.ensure_shape(chosen, [None, part]), tf.ensure_shape(choices, [None, part, width])

    width = choose([(0, 0)]).shape[1]
    # Not from_generator: since Python 3.11 it makes glibc (mallopt) ask the system for every 128 kB from then on, which
    # slows down everything in the process that makes tensors, the training step, too (TensorFlow 2.21).
    return tf.data.Dataset.range(steps.start, steps.stop, _PLANNED_STEPS).map(_as_it_is(plan_in_graph)).unbatch()


def _random_numbers(seed: int, epoch: int, step: int, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Random numbers in [0, 1) of one batch, a function of the arguments; batches use separate counters of Philox."""
    generator = np.random.Generator(np.random.Philox(key=[_STREAM, seed], counter=[0, 0, step, epoch]))
    return generator.random(shape, np.float32)


def _map(dataset: tf.data.Dataset, function: Callable[..., Any], calls: int = tf.data.AUTOTUNE) -> tf.data.Dataset:
    return dataset.map(_as_it_is(function), num_parallel_calls=calls, deterministic=True)


def _as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turns off AutoGraph: there are no Python conditions, and looking for them takes longer than tracing."""
    return tf.autograph.experimental.do_not_convert(function)


def ordered_batches(records: Sequence[Record], *, image_size: tuple[int, int], batch_size: int) -> tf.data.Dataset:
    """Batches {"image": float32 `[batch, height, width, 3]` in 0..255} of all images once, in order, not augmented.

    Args:
        records: any split.
        image_size: (height, width) in pixels.
        batch_size: images in a batch; the last batch may have fewer.

    Raises:
        UserError: `image_size` or `batch_size` is below 1.
    """
    images = ImageCache(records, image_size, limit=0)
    if batch_size < 1:
        raise UserError(f"Expected batch_size >= 1, but got {batch_size}. Correct it.")
    dataset = _map(tf.data.Dataset.range(len(records)), lambda index: {"image": images.read(index)}, _READ_FILES)
    return _finish(dataset.batch(batch_size))


_UNREADABLE = (
    *(tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.UnknownError),
    *(tf.errors.PermissionDeniedError, tf.errors.DataLossError),
)


@contextlib.contextmanager
def naming_damaged_images(records: Sequence[Record]) -> Iterator[None]:
    """Turns TensorFlow's error about an image that it cannot read into a `UserError` that names the file.

    TensorFlow does not name a damaged file. All images are verified, but only after such an error, so that batches cost
    nothing more.

    Example:
        with naming_damaged_images(records):
            model.fit(balanced_batches(records, ...))

    Raises:
        UserError: an image is damaged or missing.
    """
    try:
        yield
    except _UNREADABLE as error:
        damages = verify.damages_of([record.path for record in records])
        if not damages:
            raise
        path, damage = next(iter(damages.items()))
        raise UserError(
            f"Expected {len(records)} readable images, as when they were verified, but {len(damages)} no longer are; "
            f"the first, {path}: {damage}. Restore them; or, to leave them out, delete the folders of the stages and "
            "run them again.",
            code="damaged",
        ) from error


def _finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Prefetches, and makes `tf.distribute` share batches instead of files."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    # Batches are made side by side; the threads that would help with each of them are the step's.
    options.threading.max_intra_op_parallelism = 1
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)
