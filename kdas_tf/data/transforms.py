"""Decodes photographs and augments them; every random choice is a pure function of a seed."""

import dataclasses
import operator
from collections.abc import Callable
from typing import Literal

import tensorflow as tf

from kdas_tf.errors import UserError

# Mean pixel of ImageNet, 0..255: torchvision's (0.485, 0.456, 0.406).
MEAN_PIXEL = (123.675, 116.28, 103.53)

# Zhong et al. 2020, "Random Erasing Data Augmentation", algorithm 1, with the values of Luo et al. 2019, "Bag of
# Tricks", section 3.2: share of the area, and height / width, of the erased rectangle.
ERASING_AREA = (0.02, 0.4)
ERASING_ASPECT = (0.3, 1 / 0.3)
# The paper tries until a rectangle fits. For an image of 3:1 one try in eight does not fit; sixteen all but never.
_ERASING_TRIES = 16


def decode(content: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Decodes a JPEG, PNG, BMP or (the first frame of a) GIF image and resizes it, bilinear with antialiasing.

    Grey images become RGB; an alpha channel is dropped.

    Args:
        content: the bytes of the file, a string of shape `[]`.
        image_size: (height, width) in pixels.

    Returns:
        Float32 `[height, width, 3]`, 0..255.
    """
    height, width = check_image_size(image_size)
    image = tf.io.decode_image(content, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    # Antialiasing changes nothing where an image does not shrink, and takes longer than decoding.
    shrinks = tf.reduce_any(tf.shape(image)[:2] > [height, width])
    return tf.cond(
        shrinks,
        # Its weights add up to 1 only within rounding: white can become 255.00002.
        lambda: tf.clip_by_value(tf.image.resize(image, [height, width], antialias=True), 0.0, 255.0),
        lambda: tf.image.resize(image, [height, width]),
    )


def load(path: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """As `decode`, from the name of a file."""
    return decode(tf.io.read_file(path), image_size)


def check_image_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Returns (height, width) as two ints.

    Raises:
        UserError: they are not two numbers of at least 1.
    """
    try:
        height, width = (operator.index(side) for side in image_size)
        valid = height >= 1 and width >= 1
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise UserError(
            f"Expected image_size = (height, width) in whole pixels, such as (384, 128), but got {image_size!r}. "
            f"Correct it."
        )
    return height, width


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random horizontal flip, padded crop and random erasing, in this order.

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
        if self.padding < 0 or int(self.padding) != self.padding:
            raise UserError(f"Expected padding in whole pixels, at least 0, but got {self.padding}. Correct it.")
        if self.padding_fill not in ("zero", "mean"):
            raise UserError(
                f"Expected padding_fill 'zero' or 'mean', but got {self.padding_fill!r}. Choose one of them."
            )
        if not 0.0 <= self.erasing_probability <= 1.0:
            raise UserError(f"Expected erasing_probability in 0..1, but got {self.erasing_probability}. Correct it.")

    def __call__(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Augments one image.

        Args:
            image: float32 `[height, width, 3]`, 0..255, of static shape.
            seed: int32 `[2]`; the same seed gives the same result.

        Returns:
            An image of the same shape.
        """
        # One draw for all choices: flip and crop are the same with and without erasing.
        chance = tf.random.stateless_uniform([4 + 4 * _ERASING_TRIES], seed)
        if self.flip:
            image = _if(chance[0] < 0.5, lambda image: tf.reverse(image, axis=[1]), image)
        if self.padding:
            image = _padded_crop(image, self.padding, self.padding_fill, chance[1:3])
        if self.erasing_probability:
            boxes = tf.reshape(chance[4:], [4, _ERASING_TRIES])
            image = _if(chance[3] < self.erasing_probability, lambda image: _erase(image, boxes), image)
        return image


def _if(condition: tf.Tensor, change: Callable[[tf.Tensor], tf.Tensor], image: tf.Tensor) -> tf.Tensor:
    """`tf.where` on whole images would take longer than decoding them."""

    def changed() -> tf.Tensor:
        return change(image)

    def unchanged() -> tf.Tensor:
        return image

    return tf.ensure_shape(tf.cond(condition, changed, unchanged), image.shape)


def _padded_crop(image: tf.Tensor, padding: int, fill: str, chance: tf.Tensor) -> tf.Tensor:
    offset = tf.constant(MEAN_PIXEL) if fill == "mean" else None
    borders = [[padding, padding], [padding, padding], [0, 0]]
    padded = tf.pad(image, borders) if offset is None else tf.pad(image - offset, borders) + offset
    top_left = tf.cast(chance * (2 * padding + 1), tf.int32)
    return tf.slice(padded, tf.concat([top_left, [0]], axis=0), image.shape)


def _erase(image: tf.Tensor, chance: tf.Tensor) -> tf.Tensor:
    """Fills the first of several random rectangles that fits; returns the image as it is if none does."""
    height, width, _ = image.shape
    area = height * width * _between(*ERASING_AREA, chance[0])
    aspect = _between(*ERASING_ASPECT, chance[1])
    boxes = tf.floor(tf.stack([tf.sqrt(area * aspect), tf.sqrt(area / aspect)]))
    fits = (boxes[0] < height) & (boxes[1] < width)
    first = tf.argmax(fits)
    box = tf.where(fits[first], boxes[:, first], 0.0)
    place = tf.floor(chance[2:, first] * ([height, width] - box + 1.0))
    (top, left), (bottom, right) = (tf.unstack(tf.cast(corner, tf.int32)) for corner in (place, place + box))
    fill = tf.broadcast_to(tf.constant(MEAN_PIXEL), [bottom - top, right - left, 3])
    rows = tf.concat([image[top:bottom, :left], fill, image[top:bottom, right:]], axis=1)
    return tf.concat([image[:top], rows, image[bottom:]], axis=0)


def _between(low: float, high: float, chance: tf.Tensor) -> tf.Tensor:
    return low + (high - low) * chance
