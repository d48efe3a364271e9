"""Decodes photographs and augments them; every choice is a pure function of random numbers that are given."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from kdas_tf.data.decoding import decode_pixels
from kdas_tf.errors import UserError
from kdas_tf.formats import IMAGENET_MEAN

# Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1, with the values of Luo et al. 2019, "Bag of
# Tricks", section 3.2: share of the area, and height / width, of the erased rectangle.
ERASING_AREA = (0.02, 0.4)
ERASING_ASPECT = (0.3, 1 / 0.3)
# The paper tries until a rectangle fits. For an image of 3:1 one try in eight does not fit; sixteen all but never.
_ERASING_TRIES = 16


def decode(content: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Decodes an image with `decoding.decode_pixels` and resizes it, bilinear with antialiasing.

    Args:
        content: the bytes of the file, a string of shape `[]`.
        image_size: (height, width) in pixels.

    Returns:
        Float32 `[height, width, 3]`, 0..255.
    """
    size = check_image_size(image_size)
    return resized(decode_pixels(content), size)


def resized(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Resizes uint8 `[any height, any width, 3]` to float32 `[height, width, 3]`, 0..255; the end of `decode`."""
    size = check_image_size(image_size)
    # Antialiasing changes nothing where an image does not shrink, and takes longer than decoding.
    return tf.cond(
        tf.reduce_any(tf.shape(image)[:2] > size),
        lambda: resize_antialiased(image, size),
        # As float32, because uint8 takes twice as long, with the same result.
        lambda: tf.image.resize(tf.cast(image, tf.float32), size),
    )


def resize_antialiased(image: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Resizes `[any height, any width, 3]` to (height, width), float32, within 0..255.

    The result is bit for bit that of `tf.image.resize(image, image_size, antialias=True)`, in less time. That function
    hands rows and columns of a single image to other threads, which takes longer than the work. Here columns are
    resized as one row of an image with many channels, and rows as a batch of images of one row each.
    """
    height, width = image_size
    old_height, old_width, channels = tf.unstack(tf.shape(image))
    down, across = tf.unstack(tf.constant(image_size, tf.float32) / tf.cast([old_height, old_width], tf.float32))
    rows = _scale_width(tf.reshape(image, [1, 1, old_height, old_width * channels]), height, down)
    pixels = _scale_width(tf.reshape(rows, [height, 1, old_width, channels]), width, across)
    # Its weights add up to 1 only within rounding: white can become 255.00002.
    return tf.clip_by_value(tf.reshape(pixels, [height, width, 3]), 0.0, 255.0)


def _scale_width(images: tf.Tensor, width: int, scale: tf.Tensor) -> tf.Tensor:
    """Resizes images of one row, `[n, 1, old width, channels]`, as `tf.image.resize` does."""
    return tf.raw_ops.ScaleAndTranslate(
        images=images, size=[1, width], scale=[1.0, scale], translation=[0.0, 0.0], kernel_type="triangle"
    )


def load(path: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Decodes a file like `decode`."""
    return decode(tf.io.read_file(path), image_size)


def check_image_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width) as a tuple; raises UserError unless they are two whole numbers of at least 1."""
    sides = tuple(image_size) if isinstance(image_size, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise UserError(
            f"Expected image_size = (height, width) in whole pixels, such as (384, 128), but got {image_size!r}. "
            f"Correct it."
        )
    return sides[0], sides[1]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random horizontal flip, padded crop and random erasing, in this order.

    What happens to each image is chosen before (`choose`), so that a whole batch is changed in one step.

    Example:
        numbers = np.random.default_rng(seed).random((augmentation.random_numbers, len(images)), np.float32)
        images = augmentation(images, augmentation.choose(numbers, image_size=(384, 128)))

    Args:
        flip: whether to mirror each image with a probability of one half.
        padding: pixels added to each of the four sides before the image is cropped back to its size at a random place;
            0 turns it off. 10 is from Luo et al. 2019, "Bag of Tricks", for 256x128.
        padding_fill: 'zero' (black, as there) or 'mean' (the mean pixel of ImageNet).
        erasing_probability: share of the images in which a rectangle is filled with the mean pixel of ImageNet, 0..1.

    Raises:
        UserError: a value is out of its range.
    """

    flip: bool = True
    padding: int = 10
    padding_fill: Literal["zero", "mean"] = "zero"
    erasing_probability: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.padding, int) or self.padding < 0:
            raise UserError(
                f"Expected padding in whole pixels, at least 0, but got {self.padding!r}. Correct it.", code="range"
            )
        if self.padding_fill not in ("zero", "mean"):
            raise UserError(
                f"Expected padding_fill 'zero' or 'mean', but got {self.padding_fill!r}. Choose one of them."
            )
        if not 0.0 <= self.erasing_probability <= 1.0:
            raise UserError(
                f"Expected erasing_probability in 0..1, but got {self.erasing_probability}. Correct it.", code="range"
            )

    @property
    def random_numbers(self) -> int:
        """Random numbers for each image. The first four do not depend on erasing, so that flip and crop do not."""
        return 4 + 4 * _ERASING_TRIES * bool(self.erasing_probability)

    def choose(
        self, numbers: npt.NDArray[np.float32], image_size: tuple[int, int], shown_at: tuple[int, int] | None = None
    ) -> npt.NDArray[np.float32]:
        """Chooses what happens to each image.

        Args:
            numbers: random numbers in [0, 1), `[random_numbers, n]`.
            image_size: (height, width) in pixels, of which padding and erased rectangles are so many.
            shown_at: (height, width) of the images that are changed, where they are the same photographs at another
                size: they are moved, mirrored and erased by the same shares. None for `image_size`.

        Returns:
            Float32 `[n, 8]`: the window of the image that is shown, as `tf.image.crop_and_resize` describes it (top,
            left, bottom, right; 0 is the centre of the first pixel and 1 that of the last, and left > right mirrors),
            and the rectangle that is erased from it (top, left, bottom, right in pixels; empty if none is).

        Raises:
            UserError: an image of one row or column is to be cropped.
        """
        if self.padding and min(image_size) < 2:
            raise UserError(
                f"Expected images of at least 2x2 pixels, to pad and crop, but got {image_size}. Choose a larger "
                "image_size, or turn the crop off (transforms.Augmentation.padding = 0)."
            )
        mirrored = (numbers[0] < 0.5) & self.flip
        offset = np.floor(numbers[1:3].T * np.float32(2 * self.padding + 1)) - self.padding
        rectangles = np.zeros((len(offset), 4), np.float32)
        if self.erasing_probability:
            erased = numbers[3] < self.erasing_probability
            boxes = numbers[4:, erased].T.reshape(-1, 4, _ERASING_TRIES)
            rectangles[erased] = _rectangles(boxes, *image_size)
        if shown_at is not None and shown_at != image_size:
            ratio = np.array(shown_at, np.float32) / np.array(image_size, np.float32)
            offset, rectangles = np.rint(offset * ratio), np.rint(rectangles * np.tile(ratio, 2))
            image_size = shown_at
        return np.concatenate([_windows(mirrored, offset, image_size), rectangles], axis=1, dtype=np.float32)

    def __call__(self, images: tf.Tensor, choices: tf.Tensor) -> tf.Tensor:
        """Augments a batch.

        Args:
            images: float32 `[n, height, width, 3]`, 0..255; height and width are static.
            choices: float32 `[n, 8]`, from `choose`.

        Returns:
            Images of the same shape.
        """
        if self.flip or self.padding:
            # One pass over the pixels mirrors, pads and crops; it fills in 0 outside of the image.
            mean = np.tile(np.array(IMAGENET_MEAN, np.float32), (images.shape[2], 1))
            fill = mean if self.padding_fill == "mean" else None
            images = images if fill is None else images - fill
            places = tf.range(tf.shape(images)[0])
            images = tf.image.crop_and_resize(images, choices[:, :4], places, images.shape[1:3], method="nearest")
            images = images if fill is None else images + fill
        return _erase(images, choices[:, 4:]) if self.erasing_probability else images


def _windows(mirrored: npt.NDArray, offset: npt.NDArray, image_size: tuple[int, int]) -> npt.NDArray:
    """Windows for `tf.image.crop_and_resize`: the image moved by an offset in pixels, then mirrored.

    The operation rounds to the nearest pixel, but a place before the centre of the first pixel is outside for it. So
    the windows lie a quarter of a pixel nearer to the image, and rounding of floating-point numbers changes nothing.
    """
    sides = np.maximum(np.array(image_size, np.float32) - 1, 1)
    top, left = ((offset - np.sign(offset) / 4) / sides).T
    left, right = np.where(mirrored, 1 - left, left), np.where(mirrored, -left, 1 + left)
    return np.stack([top, left, top + 1, right], axis=1)


def _rectangles(boxes: npt.NDArray[np.float32], height: int, width: int) -> npt.NDArray[np.float32]:
    """The first rectangle that fits into an image of height x width pixels, or an empty one, for each of n images.

    Random numbers for area, aspect, top and left of each try, `[n, 4, tries]`, become top, left, bottom and right in
    pixels, `[n, 4]`.
    """
    area = np.float32(height * width) * _between(*ERASING_AREA, boxes[:, 0])
    aspect = _between(*ERASING_ASPECT, boxes[:, 1])
    sides = np.floor(np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=1))
    fits = (sides[:, 0] < height) & (sides[:, 1] < width)
    first = fits.argmax(axis=1)[:, np.newaxis]
    chosen, places = (np.take_along_axis(each, first[:, np.newaxis], axis=2)[..., 0] for each in (sides, boxes[:, 2:]))
    chosen = np.where(np.take_along_axis(fits, first, axis=1), chosen, np.float32(0))
    place = np.floor(places * (np.array([height, width], np.float32) - chosen + np.float32(1)))
    return np.concatenate([place, place + chosen], axis=1)


def _between(low: float, high: float, numbers: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.float32(low) + np.float32(high - low) * numbers


def _erase(images: tf.Tensor, rectangles: tf.Tensor) -> tf.Tensor:
    """Fills a rectangle of each image with the mean pixel."""
    _, height, width, channels = images.shape
    top, left, bottom, right = (side[:, tf.newaxis] for side in tf.unstack(rectangles, axis=1))
    rows, columns = np.arange(height, dtype=np.float32), np.repeat(np.arange(width, dtype=np.float32), channels)
    is_row, is_column = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    inside = is_row[:, :, tf.newaxis] & is_column[:, tf.newaxis]
    # Rows of numbers instead of pixels of three: broadcasting along so short an axis takes five times as long.
    numbers = tf.reshape(images, [-1, height, width * channels])
    return tf.reshape(tf.where(inside, np.tile(np.array(IMAGENET_MEAN, np.float32), width), numbers), tf.shape(images))
