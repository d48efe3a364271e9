"""Keeps decoded images in memory, so that a file is read and decoded once and not in every epoch."""

import math
import os
from collections.abc import Sequence

import tensorflow as tf

from kdas_tf.data import transforms
from kdas_tf.data.records import Record

_BYTES = 4  # of a float32
_MISSING = -1.0  # no pixel


class ImageCache:
    """The images of a split by their position, each decoded and resized when it is first needed, and then kept.

    It keeps what `transforms.load` gives, before any augmentation: batches are the same bits with and without.
    It keeps nothing unless all images fit: a part of them would save little and still take the memory.

    Args:
        records: a split.
        image_size: (height, width) in pixels.
        limit: most bytes to keep; each image needs height * width * 12. 0 keeps nothing.

    Attributes:
        bytes: what all images need.
    """

    def __init__(self, records: Sequence[Record], image_size: tuple[int, int], *, limit: float):
        self.image_size = transforms.check_image_size(image_size)
        # As bytes: not all file names are UTF-8.
        self._paths = tf.constant([os.fsencode(record.path) for record in records], tf.string)
        self._shape = (*self.image_size, 3)
        numbers = math.prod(self._shape)
        self._kept, self.bytes = None, len(records) * numbers * _BYTES
        if self.bytes <= limit:
            missing = tf.fill([numbers], _MISSING)
            # Anonymous: a table with a name is kept until the process ends, and a table of runs makes dozens.
            self._kept = tf.lookup.experimental.MutableHashTable(
                tf.int64, tf.float32, missing, experimental_is_anonymous=True
            )

    @property
    def keeps(self) -> bool:
        """Whether images are kept, so that `load` is faster than `read`."""
        return self._kept is not None

    def read(self, index: tf.Tensor) -> tf.Tensor:
        """An image by its position in the records, from its file: float32 `[height, width, 3]` in 0..255."""
        return transforms.load(self._paths[index], self.image_size)

    def load(self, indices: tf.Tensor) -> tf.Tensor:
        """Images by their positions in the records, int32 `[n]`, n known: float32 `[n, height, width, 3]`, 0..255."""
        kept = self._kept
        if kept is None:
            return self._read_all(indices)
        keys = tf.cast(indices, tf.int64)
        images = tf.reshape(kept.lookup(keys), [*indices.shape, *self._shape])
        is_missing = images[:, 0, 0, 0] == _MISSING

        def complete() -> tf.Tensor:
            places = tf.where(is_missing)
            read = self._read_all(tf.gather_nd(indices, places))
            kept.insert(tf.gather_nd(keys, places), tf.reshape(read, [-1, math.prod(self._shape)]))
            return tf.tensor_scatter_nd_update(images, places, read)

        return tf.cond(tf.reduce_any(is_missing), complete, lambda: images)

    def _read_all(self, indices: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(self.read, indices, fn_output_signature=tf.TensorSpec(self._shape, tf.float32))
