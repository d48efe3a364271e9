"""From the images of a request to the images that a network sees, inside the exported graph."""

import tensorflow as tf

from kdas_tf import formats
from kdas_tf.data import decoding, transforms
from kdas_tf.formats import JPEG, MAX_PIXELS, PNG, PNG_HEADER

DAMAGED = "The file is damaged, cut short, or of a kind of JPEG or PNG that is not read."


def resize(images: tf.Tensor, image_size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Resizes images `[batch, height, width, 3]`, 0..255, to float32 `[batch, *image_size, 3]`, 0..255.

    It does what `kdas_tf.data.transforms.decode` does.

    Returns:
        (images, errors): errors `[batch]` are a text for each image, empty where all is well; where it is not, the
        image is black.
    """
    height, width = image_size
    shape = tf.shape(images)

    def resized() -> tf.Tensor:
        return tf.cond(
            tf.reduce_any(shape[1:3] > [height, width]),
            lambda: tf.clip_by_value(tf.image.resize(images, image_size, antialias=True), 0.0, 255.0),
            lambda: tf.image.resize(images, image_size),
        )

    has_pixels = tf.reduce_all(shape[1:3] > 0)
    result = tf.cond(has_pixels, resized, lambda: tf.zeros([shape[0], height, width, 3]))
    error = tf.where(has_pixels, "", "Expected images of at least one pixel.")
    return tf.ensure_shape(result, [None, height, width, 3]), tf.fill(shape[:1], error)


def decode(
    contents: tf.Tensor, image_size: tuple[int, int], *, max_pixels: int = MAX_PIXELS
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes and resizes the files of a request, which may be of different sizes.

    A file that is neither JPEG nor PNG, damaged, of more than `max_pixels` (height times width), or of more bytes or
    scans than `kdas_tf.formats` allows for them, has an error and leaves the others alone. That matters where a server
    puts the requests of several clients into one batch: what fails an operation there fails all of them. `contents` are
    the files' bytes `[batch]`; the images are turned as their EXIF data say.

    Returns:
        (images, errors) as `resize`.
    """
    specs = (tf.TensorSpec([*image_size, 3], tf.float32), tf.TensorSpec([], tf.string))
    nothing = tf.zeros([*image_size, 3])

    def decode_file(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        problem = _problem(content, max_pixels)
        image = tf.cond(
            problem == "",
            lambda: transforms.resized(decoding.decode_served(content), image_size),
            lambda: nothing,
        )
        return tf.ensure_shape(image, specs[0].shape), problem

    def decode_or_tell(content: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        # A data set of one file: the one way in TensorFlow to go on in a graph after an operation has failed.
        read = tf.data.Dataset.from_tensors(content).map(decode_file).ignore_errors(log_warning=False)
        fallback = tf.data.Dataset.from_tensors((nothing, tf.constant(DAMAGED)))
        return read.concatenate(fallback).take(1).get_single_element()

    # As many in parallel as a small server has cores: each holds a whole decoded image.
    return tf.map_fn(decode_or_tell, contents, parallel_iterations=4, fn_output_signature=specs)


def _problem(content: tf.Tensor, max_pixels: int) -> tf.Tensor:
    """What keeps a file from being decoded, as a text; empty for nothing. A damaged header fails an operation."""
    is_jpeg = tf.strings.substr(content, 0, len(JPEG)) == JPEG
    is_png = (tf.strings.substr(content, 0, len(PNG)) == PNG) & (tf.strings.length(content) >= PNG_HEADER)
    length = tf.cast(tf.strings.length(content), tf.int64)
    size = tf.case(
        [(is_jpeg, lambda: tf.image.extract_jpeg_shape(content, tf.int64)[:2]), (is_png, lambda: _png_size(content))],
        default=lambda: tf.ones([2], tf.int64),
    )
    height, width = tf.unstack(size)
    # One more separator than is allowed need not be looked for.
    parts = tf.raw_ops.StringSplitV2(input=[content], sep=formats.SCAN, maxsplit=formats.MAX_SCANS + 1).values
    scans = tf.cond(is_jpeg, lambda: tf.size(parts, tf.int64) - 1, lambda: tf.constant(0, tf.int64))
    in_bounds = (
        (scans <= formats.MAX_SCANS)
        & (scans * height * width <= formats.MAX_SCANNED)
        & (length <= formats.MORE_BYTES + formats.BYTES_PER_PIXEL * height * width)
    )
    shown = tf.strings.join(
        [tf.strings.as_string(height), " x ", tf.strings.as_string(width), " pixels (height, width)."]
    )
    unknown = tf.strings.join(
        ["Expected the bytes of a JPEG or PNG file, got ", tf.strings.as_string(length), " bytes of something else."]
    )
    return tf.case(
        [
            (~(is_jpeg | is_png), lambda: unknown),
            (
                ~((height > 0) & (width > 0) & (height * width <= max_pixels)),
                lambda: tf.strings.join([f"Expected an image of 1 to {max_pixels} pixels, got ", shown]),
            ),
            (~in_bounds, lambda: tf.strings.join(["Expected fewer bytes or scans for so few pixels, got ", shown])),
        ],
        default=lambda: tf.constant(""),
    )


def _png_size(content: tf.Tensor) -> tf.Tensor:
    # Bytes 16..23 hold width and height, big-endian (PNG specification, section 11.2.2).
    digits = tf.cast(tf.io.decode_raw(tf.strings.substr(content, 16, 8), tf.uint8), tf.int64)
    places = tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64)
    return tf.reduce_sum(tf.reshape(digits, [2, 4]) * places, 1)[::-1]
