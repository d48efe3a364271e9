"""From the images of a request to the images that a network sees, inside the exported graph."""

import tensorflow as tf

from kdas_tf import formats
from kdas_tf.data import decoding, transforms
from kdas_tf.formats import JPEG, MAX_PIXELS, PNG, PNG_HEADER


def resize(images: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Resizes images `[batch, height, width, 3]`, 0..255, to float32 `[batch, *image_size, 3]`, 0..255.

    It does what `kdas_tf.data.transforms.decode` does.
    """
    height, width = image_size
    resized = tf.cond(
        tf.reduce_any(tf.shape(images)[1:3] > [height, width]),
        lambda: tf.clip_by_value(tf.image.resize(images, image_size, antialias=True), 0.0, 255.0),
        lambda: tf.image.resize(images, image_size),
    )
    return tf.ensure_shape(resized, [None, height, width, 3])


def decode(contents: tf.Tensor, image_size: tuple[int, int], *, max_pixels: int = MAX_PIXELS) -> tf.Tensor:
    """Decodes and resizes the files of a request, which may be of different sizes.

    A file that is neither JPEG nor PNG, damaged, of more than `max_pixels` (height times width), or of more bytes or
    scans than `kdas_tf.formats` allows for them, fails the request with a message that says so. `contents` are the
    files' bytes `[batch]`; the images are those of `resize`, turned as their EXIF data say.
    """

    def decode_file(content: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies([_check(content, max_pixels)]):
            return transforms.resized(decoding.decode_served(tf.identity(content)), image_size)

    # As many in parallel as a small server has cores: each holds a whole decoded image.
    return tf.map_fn(
        decode_file, contents, parallel_iterations=4, fn_output_signature=tf.TensorSpec([*image_size, 3], tf.float32)
    )


def _check(content: tf.Tensor, max_pixels: int) -> tf.Operation:
    is_jpeg = tf.strings.substr(content, 0, len(JPEG)) == JPEG
    is_png = (tf.strings.substr(content, 0, len(PNG)) == PNG) & (tf.strings.length(content) >= PNG_HEADER)
    known = tf.debugging.Assert(
        is_jpeg | is_png,
        ["Expected the bytes of a JPEG or PNG file, got", tf.strings.length(content), "bytes of something else."],
    )
    with tf.control_dependencies([known]):
        size = tf.cond(is_jpeg, lambda: tf.image.extract_jpeg_shape(content, tf.int64)[:2], lambda: _png_size(content))
    height, width = tf.unstack(size)
    small = tf.debugging.Assert(
        (height > 0) & (width > 0) & (height * width <= max_pixels),
        [f"Expected an image of at most {max_pixels} pixels, got height and width", height, width],
    )
    with tf.control_dependencies([small]):
        # One more separator than is allowed need not be looked for.
        parts = tf.raw_ops.StringSplitV2(input=[content], sep=formats.SCAN, maxsplit=formats.MAX_SCANS + 1).values
        scans = tf.cond(is_jpeg, lambda: tf.size(parts, tf.int64) - 1, lambda: tf.constant(0, tf.int64))
        length = tf.cast(tf.strings.length(content), tf.int64)
    return tf.debugging.Assert(
        (scans <= formats.MAX_SCANS)
        & (scans * height * width <= formats.MAX_SCANNED)
        & (length <= formats.MORE_BYTES + formats.BYTES_PER_PIXEL * height * width),
        ["Expected fewer bytes or scans for so few pixels, got", length, scans, "for height and width", height, width],
    )


def _png_size(content: tf.Tensor) -> tf.Tensor:
    # Bytes 16..23 hold width and height, big-endian (PNG specification, section 11.2.2).
    digits = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 16, 8), tf.uint8), tf.int64)
    places = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    return tf.reduce_sum(tf.reshape(digits, [2, 4]) * places, 1)[::-1]
