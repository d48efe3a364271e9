"""Keeps decoded images in memory, so that a file is read and decoded once and not in every epoch."""

import os
from collections.abc import Sequence

import tensorflow as tf

from kdas_tf.data import transforms
from kdas_tf.data.records import Record
from kdas_tf.errors import UserError

_BYTES = 4  # of a float32
_MISSING = -1.0  # no pixel


class ImageCache:
    """The images of a split by their position, each decoded and resized when it is first asked for, and then kept.

    What is kept is what `transforms.load` gives, before any augmentation: batches are the same bits with and without.
    Nothing is kept unless all images fit: a part of them would save little and still take the memory.

    Args:
        records: a split; its length and the size decide what is needed.
        image_size: (height, width) in pixels.
        limit: most bytes that may be kept; height * width * 12 are needed for each image. 0 keeps nothing.

    Raises:
        UserError: `image_size` is none, or the limit is negative.
    """

    def __init__(self, records: Sequence[Record], image_size: tuple[int, int], *, limit: float):
        self.image_size = transforms.check_image_size(image_size)
        if not limit >= 0:
            raise UserError(f"Expected at least 0 bytes for the images that are kept in memory, but got {limit}.")
        # As bytes: not all file names are UTF-8.
        self._paths = tf.constant([os.fsencode(record.path) for record in records], tf.string)
        self._shape = (*self.image_size, 3)
        numbers = self.image_size[0] * self.image_size[1] * 3
        self._kept = None
        if len(records) * numbers * _BYTES <= limit:
            missing = tf.fill([numbers], _MISSING)
            # Anonymous: a table with a name is kept until the process ends, and a table of runs makes dozens.
            self._kept = tf.lookup.experimental.MutableHashTable(
                tf.int64, tf.float32, missing, experimental_is_anonymous=True
            )

    def load(self, index: tf.Tensor) -> tf.Tensor:
        """An image by its position in the records, float32 `[height, width, 3]` in 0..255."""
        kept = self._kept
        if kept is None:
            return self._read(index)
        key = tf.cast(index, tf.int64)
        found = kept.lookup(key)

        def read() -> tf.Tensor:
            image = self._read(index)
            kept.insert(key, tf.reshape(image, [-1]))
            return image

        return tf.cond(found[0] == _MISSING, read, lambda: tf.reshape(found, self._shape))

    def _read(self, index: tf.Tensor) -> tf.Tensor:
        return transforms.load(self._paths[index], self.image_size)
