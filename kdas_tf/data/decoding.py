"""Decodes photographs: the one decoder of the check, of training, evaluation, pictures and the exported graph."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdas_tf import formats
from kdas_tf.data import other_formats

# The accurate transform gives the pixels of libjpeg, and so of Pillow and most programs: a quarter
# nearer to the original than those of TensorFlow's default, the fast one, in the same time (docs/performance.md).
_METHOD = "INTEGER_ACCURATE"


def decode_pixels(content: tf.Tensor) -> tf.Tensor:
    """Decodes a file to uint8 `[height, width, 3]`, turned as its EXIF data say.

    Grey images become RGB, an alpha channel is dropped, and of 16 bits the upper 8 are kept. What is neither JPEG nor
    PNG goes through Python (`other_formats`).
    """
    return _decode(content, _decode_any)


def decode_served(content: tf.Tensor) -> tf.Tensor:
    """Decodes a JPEG or PNG file as `decode_pixels` does, with operations that an exported graph may have."""
    return _decode(content, _decode_served)


def _decode(content: tf.Tensor, others: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """Decodes a JPEG that is not turned, as most are, at once, and leaves other files to a function."""
    is_upright = _starts(content, formats.JPEG) & ~_partition(content, formats.EXIF)[1]
    image = tf.cond(is_upright, lambda: _decode_jpeg(content), lambda: others(content))
    return tf.ensure_shape(image, [None, None, 3])


def _decode_jpeg(content: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_jpeg(content, channels=3, dct_method=_METHOD)


# Not in line: TensorFlow goes over the operations of both sides of a condition, and these are many.
_APART: dict[str, Any] = {"input_signature": [tf.TensorSpec([], tf.string)], "autograph": False}
_APART |= {"experimental_attributes": {"_noinline": True}}


@tf.function(**_APART)
def _decode_served(content: tf.Tensor) -> tf.Tensor:
    is_png = _starts(content, formats.PNG)
    image = tf.cond(is_png, lambda: tf.io.decode_png(content, channels=3), lambda: _decode_jpeg(content))
    return turned(tf.ensure_shape(image, [None, None, 3]), orientation(content))


@tf.function(**_APART)
def _decode_any(content: tf.Tensor) -> tf.Tensor:
    is_served = _starts(content, formats.JPEG) | _starts(content, formats.PNG)
    return tf.cond(is_served, lambda: _decode_served(content), lambda: _other(content))


def turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors an image `[height, width, 3]` as the EXIF orientation 1..8 says."""
    way = (orientation - 1) % 4

    def turn() -> tf.Tensor:
        upright = tf.cond(orientation > 4, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        flips = tf.stack([way >= 2, (way == 1) | (way == 2), tf.constant(False)])
        return tf.ensure_shape(tf.raw_ops.Reverse(tensor=upright, dims=flips), image.shape)

    return tf.cond(orientation > 1, turn, lambda: image)


def orientation(content: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG or PNG file, int32 1..8: in a graph what `kdas_tf.formats.orientation` does."""

    def after_chunk() -> tuple[tf.Tensor, tf.Tensor]:
        _, found, block = _partition(content, formats.EXIF_CHUNK)
        return found, block

    def after_segment() -> tuple[tf.Tensor, tf.Tensor]:
        before, found, block = _partition(content, formats.EXIF)
        is_segment = _slice(before, tf.strings.length(before) - 4, 2) == formats.EXIF_SEGMENT
        return found & is_segment & ~_partition(before, formats.SCAN)[1], block

    found, block = tf.cond(_starts(content, formats.PNG), after_chunk, after_segment)
    return tf.cond(found, lambda: _of_block(block), lambda: 1)


def _of_block(block: tf.Tensor) -> tf.Tensor:
    """The orientation in a TIFF block: the value of a tag, of 12 bytes, in its first directory."""
    is_big = _starts(block, b"MM\0*")

    def number(digits: tf.Tensor) -> tf.Tensor:
        """Whole numbers of bytes `[..., bytes]`."""
        powers = tf.constant([256**power for power in reversed(range(digits.shape[-1]))], tf.int64)
        return tf.reduce_sum(tf.where(is_big, digits, digits[..., ::-1]) * powers, -1)

    first = number(_bytes(block, 4, 4))
    count = tf.minimum(number(_bytes(block, first, 2)), formats.MAX_TAGS)
    raw = _slice(block, first + 2, 12 * count)
    whole = _slice(raw, 0, tf.strings.length(raw) // 12 * 12)
    tags = tf.reshape(tf.cast(tf.io.decode_raw(whole, tf.uint8), tf.int64), [-1, 12])
    tag = tf.boolean_mask(tags, number(tags[:, :2]) == formats.ORIENTATION)[:1]  # the first, or none
    values = tf.where(number(tag[:, 2:4]) == formats.LONG, number(tag[:, 8:12]), number(tag[:, 8:10]))
    known = (values >= 1) & (values <= 8) & (is_big | _starts(block, b"II*\0"))
    return tf.cast(tf.reduce_max(tf.concat([[1], tf.where(known, values, 1)], 0)), tf.int32)


def _starts(content: tf.Tensor, start: bytes) -> tf.Tensor:
    return tf.strings.substr(content, 0, len(start)) == start


def _partition(content: tf.Tensor, separator: bytes) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What comes before the first separator, whether there is one, and what comes after."""
    # Of one operation; tf.strings.split makes a ragged tensor, with twenty more, which take longer than decoding.
    parts = tf.raw_ops.StringSplitV2(input=[content], sep=separator, maxsplit=1).values
    return parts[0], tf.size(parts) == 2, parts[-1]


def _slice(content: tf.Tensor, place: tf.Tensor | int, size: tf.Tensor | int) -> tf.Tensor:
    """Bytes from a place on, fewer where there are none."""
    length = tf.cast(tf.strings.length(content), tf.int64)
    place = tf.clip_by_value(tf.cast(place, tf.int64), 0, length)
    return tf.strings.substr(content, place, tf.cast(size, tf.int64))


def _bytes(content: tf.Tensor, place: tf.Tensor | int, size: int) -> tf.Tensor:
    """Bytes `[size]` as numbers; 0 where there are none."""
    found = tf.cast(tf.io.decode_raw(_slice(content, place, size), tf.uint8), tf.int64)
    return tf.ensure_shape(tf.pad(found, [[0, size - tf.size(found)]]), [size])


def _other(content: tf.Tensor) -> tf.Tensor:
    def decode(raw: bytes | npt.NDArray) -> npt.NDArray[np.uint8]:
        return other_formats.pixels(raw if isinstance(raw, bytes) else raw.item())  # an array outside of a graph

    return tf.numpy_function(decode, [content], tf.uint8)


@functools.cache
def _decoder() -> tf.types.experimental.GenericFunction:
    return tf.function(decode_served, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)


def pixels(content: bytes) -> npt.NDArray[np.uint8]:
    """Checks and decodes a file, as `decode_pixels` does; many threads may do this.

    Raises:
        Unreadable: it is not read.
    """
    kind = formats.check(content).kind
    if kind not in formats.SERVED:
        return other_formats.pixels(content)
    try:
        with tf.device("CPU:0"):
            return _decoder()(content).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise formats.Unreadable(f"a {kind} that is cut short or damaged, or of a kind that is not read") from error
