"""Batches of images with one class each, for pre-training; every batch is a pure function of (seed, epoch, step)."""

import dataclasses
import math
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from kdas_tf.data.classes import ClassData
from kdas_tf.data.decoding import decode_pixels
from kdas_tf.data.pipeline import WHOLE, BatchShard
from kdas_tf.data.sampler import steps_per_epoch
from kdas_tf.data.transforms import check_image_size, resize_antialiased
from kdas_tf.errors import UserError

# Separates these random numbers from those of the splits, the samplers and the other augmentation.
_STREAM = 401

# Images are judged on the central 224 of 256 pixels (He et al. 2016, section 3.4; DARTS).
CENTRAL_SHARE = 224 / 256


class EncodedImages(Protocol):
    """A source of images: files, or TFRecords. Keys are cheap to make and to put in order; `read` reads an image."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes, in the order of their numbers."""

    @property
    def train_images(self) -> int:
        """Number of images to learn from."""

    @property
    def val_images(self) -> int:
        """Number of images to judge by."""

    def training_keys(self, seed: tf.Tensor) -> tf.data.Dataset:
        """Keys of all training images, in an order that depends on the seed alone, int64 `[2]`."""

    def validation_keys(self) -> tf.data.Dataset:
        """Keys of all images to judge by, in a fixed order."""

    def read(self, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The content of an image's file, and the number of its class, int32."""


class ImageFiles:
    """The images of class folders."""

    def __init__(self, data: ClassData):
        self.classes = data.classes
        self.train_images, self.val_images = len(data.train), len(data.val)
        records = (*data.train, *data.val)
        self.paths = tf.constant([os.fsencode(record.path) for record in records], tf.string)
        self.labels = tf.constant([record.identity for record in records], tf.int32)

    def training_keys(self, seed: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(tf.range(self.train_images), seed)
        return tf.data.Dataset.from_tensor_slices(order)

    def validation_keys(self) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(tf.range(self.train_images, len(self.paths)))

    def read(self, key: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.io.read_file(self.paths[key]), self.labels[key]


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of an image, resized, and a random horizontal flip (Szegedy et al. 2015, section 6).

    Args:
        area: least and greatest share of the image's area.
        aspect: least and greatest change of the image's aspect, relative to the aspect of the result.
        flip: whether to mirror each image with a probability of one half.

    Raises:
        UserError: a value is out of its range.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def __post_init__(self) -> None:
        for name, greatest in (("area", 1.0), ("aspect", math.inf)):
            value = getattr(self, name)
            numbers = list(value) if isinstance(value, Sequence) else []
            valid = len(numbers) == 2 and all(isinstance(number, int | float) for number in numbers)
            if not (valid and 0.0 < numbers[0] <= numbers[1] <= greatest and numbers[1] < math.inf):
                raise UserError(
                    f"Expected class_batches.RandomResizedCrop.{name} (least, greatest) above 0"
                    f"{' and at most 1' if name == 'area' else ''}, but got {value!r}. Correct it.",
                    code="range",
                )

    def __call__(self, image: tf.Tensor, image_size: tuple[int, int], seed: tf.Tensor) -> tf.Tensor:
        """Cuts a part out of one image.

        Args:
            image: uint8 `[any height, any width, 3]`.
            image_size: (height, width) of the result in pixels.
            seed: `[2]`; the same seed gives the same result.

        Returns:
            Float32 `[height, width, 3]`, 0..255.
        """
        where, mirror = tf.unstack(tf.random.split(seed))
        aspect = image_size[1] / image_size[0]
        # If no part fits in ten tries, the operation returns the whole image.
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.shape(image),
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            seed=where,
            min_object_covered=0.0,
            aspect_ratio_range=(self.aspect[0] * aspect, self.aspect[1] * aspect),
            area_range=self.area,
            max_attempts=10,
        )
        part = resize_antialiased(tf.ensure_shape(tf.slice(image, begin, size), [None, None, 3]), image_size)
        if not self.flip:
            return part
        mirrored = tf.cond(tf.random.stateless_uniform([], mirror) < 0.5, lambda: part[:, ::-1], lambda: part)
        return tf.ensure_shape(mirrored, part.shape)


def central_part(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """The largest part that has the result's aspect, less a border: what "resize to 256, crop to 224" shows.

    Args:
        image: uint8 `[any height, any width, 3]`.
        image_size: (height, width) of the result in pixels.

    Returns:
        Float32 `[height, width, 3]`, 0..255.
    """
    whole = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = CENTRAL_SHARE * tf.reduce_min(whole / image_size)
    part = tf.maximum(tf.round(scale * image_size), 1.0)
    top, left = tf.unstack(tf.cast((whole - part) / 2.0, tf.int32))
    height, width = tf.unstack(tf.cast(part, tf.int32))
    return resize_antialiased(image[top : top + height, left : left + width], image_size)


def training_batches(
    images: EncodedImages,
    *,
    image_size: tuple[int, int],
    batch_size: int,
    augmentation: RandomResizedCrop,
    seed: int,
    start_epoch: int = 0,
    start_step: int = 0,
    epochs: int,
    shard: BatchShard = WHOLE,
) -> tf.data.Dataset:
    """Batches of augmented images for the epochs `start_epoch` .. `epochs` - 1, one after the other.

    An epoch shows every image once, in random order, without the images that do not fill a batch. Fewer images than a
    batch are repeated. A data set that starts at epoch e yields bit for bit what an uninterrupted data set yields from
    there.

    Args:
        images: the source.
        image_size: (height, width) in pixels.
        batch_size: images in a batch.
        augmentation: called with every image, `image_size` and a seed.
        seed: not negative.
        start_epoch: first epoch.
        start_step: first step in it.
        epochs: the epoch to stop before.
        shard: the rows to make, in parts that follow one another; the shapes below are those of `WHOLE`.

    Returns:
        A data set of known length with elements {"image": float32 `[batch, height, width, 3]` in 0..255, "label":
        int32 `[batch]`}.
    """
    image_size = check_image_size(image_size)
    steps = steps_per_epoch(images.train_images, batch_size)

    def keys_of(epoch: tf.Tensor) -> tf.data.Dataset:
        order, of_places = tf.unstack(tf.random.split(tf.random.fold_in(tf.constant([_STREAM, seed], tf.int64), epoch)))
        keys = images.training_keys(order).repeat().take(steps * batch_size)
        return keys.enumerate().map(lambda place, key: (key, tf.random.fold_in(of_places, place)))

    def item(key: tf.Tensor, item_seed: tf.Tensor) -> dict[str, tf.Tensor]:
        content, label = images.read(key)
        return {"image": augmentation(decode_pixels(content), image_size, item_seed), "label": label}

    keys = tf.data.Dataset.range(start_epoch, epochs).flat_map(keys_of).skip(start_step * batch_size)
    return _batches(keys, item, (epochs - start_epoch) * steps - start_step, batch_size, shard)


def validation_batches(
    images: EncodedImages, *, image_size: tuple[int, int], batch_size: int, shard: BatchShard = WHOLE
) -> tf.data.Dataset:
    """The central part of every image to judge by, once and in order.

    An image of weight 0 fills up the last batch, so that all batches have the same shape on all devices. The arguments
    are those of `training_batches`.

    Returns:
        A data set of {"image", "label", "weight": float32 `[batch]`, 1 or 0}.
    """
    image_size = check_image_size(image_size)
    steps = -(-images.val_images // batch_size)
    keys = images.validation_keys()
    filled = keys.concatenate(keys.take(1).repeat(steps * batch_size - images.val_images))

    def item(place: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        content, label = images.read(key)
        weight = tf.cast(place < images.val_images, tf.float32)
        return {"image": central_part(decode_pixels(content), image_size), "label": label, "weight": weight}

    return _batches(filled.enumerate(), item, steps, batch_size, shard)


def _batches(
    keys: tf.data.Dataset, item: Callable[..., Any], steps: int, batch_size: int, shard: BatchShard
) -> tf.data.Dataset:
    """Batches of the items that keys stand for, or a shard of each batch, for which no other item is made."""
    rows, part = shard.rows(batch_size), shard.part(batch_size)
    if shard.workers > 1:
        whole = keys.batch(batch_size, drop_remainder=True)
        keys = whole.map(lambda *columns: tf.nest.map_structure(lambda column: column[rows], columns)).unbatch()
    dataset = keys.map(item, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(part, drop_remainder=True)
    return dataset.apply(tf.data.experimental.assert_cardinality(steps * shard.devices)).prefetch(tf.data.AUTOTUNE)
