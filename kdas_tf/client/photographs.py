"""What a client sends: files, bytes and arrays, each checked before the first request."""

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kdas_tf import formats
from kdas_tf.errors import UserError

Image = str | os.PathLike | bytes | npt.NDArray[np.uint8]

MAX_BYTES = 1 << 25
"""Of one file, and of the files of one request together: 32 MiB."""


class Photograph(NamedTuple):
    """A JPEG or PNG file.

    Attributes:
        name: what to call it in a message.
        content: its bytes.
    """

    name: str
    content: bytes


def read(
    images: Iterable[Image], *, max_bytes: int = MAX_BYTES, max_pixels: int = formats.MAX_PIXELS
) -> list[Photograph]:
    """Reads and checks images. Grey ones and ones with an alpha channel are fine: the server makes them RGB.

    Args:
        images: paths and bytes of JPEG or PNG files, and uint8 arrays: `[height, width]`, `[height, width, 1]`, RGB
            `[height, width, 3]` or RGBA `[height, width, 4]`.
        max_bytes: of a file at most.
        max_pixels: height times width at most; a server refuses what is above its own limit.

    Raises:
        UserError: there is none, or one of them cannot be sent; it is named.
    """
    if isinstance(images, (str, bytes, os.PathLike)):
        raise UserError(f"Expected a list of images, got {type(images).__name__}. Put it in brackets.")
    photographs = [_read(image, i, max_pixels, max_bytes) for i, image in enumerate(images)]
    if not photographs:
        raise UserError("Expected at least one image, got none.")
    return photographs


def _read(image: Image, position: int, max_pixels: int, max_bytes: int) -> Photograph:
    if isinstance(image, np.ndarray):
        name = f"array {position}"
        content = _encode(image, name, max_pixels)
    elif isinstance(image, (bytes, bytearray, memoryview)):
        name, content = f"image {position}", bytes(image)
    elif isinstance(image, (str, os.PathLike)):
        name = os.fspath(image)
        content = _content(Path(image), max_bytes)
    else:
        raise UserError(f"Expected paths, bytes or uint8 arrays, got {type(image).__name__} at position {position}.")
    _check(name, content, max_pixels, max_bytes)
    return Photograph(name, content)


def _content(path: Path, max_bytes: int) -> bytes:
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(max_bytes + 1)  # no more of a file that is refused anyway
        there = path.exists()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if there:
        raise UserError(f"Expected a JPEG or PNG file, but {path} is a folder or a device. Name its files.")
    raise UserError(f"Expected a JPEG or PNG file, but there is no {path}.")


def _check(name: str, content: bytes, max_pixels: int, max_bytes: int) -> None:
    if not content:
        raise UserError(f"Expected a JPEG or PNG file, but {name} is empty.")
    if len(content) > max_bytes:
        raise UserError(f"Expected files of at most {max_bytes:,} bytes, but {name} is larger. Make it smaller.")
    size = formats.size_of(content)
    if size is None:
        raise UserError(f"Expected a JPEG or PNG file, but {name} is something else or damaged. Convert it to one.")
    _check_size(name, *size, max_pixels)


def _check_size(name: str, height: int, width: int, max_pixels: int) -> None:
    if not 0 < height * width <= max_pixels:
        raise UserError(
            f"Expected images of 1 to {max_pixels:,} pixels, but {name} has {width} x {height}. Resize it: people are "
            "told apart in crops of a few hundred pixels."
        )


def _encode(pixels: npt.NDArray, name: str, max_pixels: int) -> bytes:
    """A PNG file of an array: nothing is lost, and all images go one way."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4)):
        raise UserError(
            f"Expected uint8 arrays [height, width] or [height, width, 1, 3 or 4], but {name} is {pixels.dtype} "
            f"{list(pixels.shape)}. Convert it to 0..255 first."
        )
    _check_size(name, pixels.shape[0], pixels.shape[1], max_pixels)
    import PIL.Image  # only arrays need it

    file = io.BytesIO()
    squeezed = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    PIL.Image.fromarray(np.ascontiguousarray(squeezed)).save(file, "PNG", compress_level=1)
    return file.getvalue()
