"""What a client sends: files, bytes and arrays, each checked before the first request."""

import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from kdas_tf import formats
from kdas_tf.errors import UserError

Image = str | os.PathLike | bytes | npt.NDArray[np.uint8]

MAX_BYTES = 1 << 25
"""Of one file, and of the files of one request together: 32 MiB."""


def read(images: Iterable[Image], *, max_bytes: int, max_pixels: int) -> list[tuple[str, bytes]]:
    """Reads and checks images, as `kdas_tf.client.client.Client.embed` takes them: grey ones may have a channel, too.

    Returns (name for messages, content of a JPEG or PNG file) of each.

    Raises:
        UserError: there are no images, or an image cannot be sent; the message names it.
    """
    if isinstance(images, (str, bytes, os.PathLike)):
        raise UserError(f"Expected a list of images, got {type(images).__name__}. Put it in brackets.")
    photographs = [_read(image, i, max_bytes) for i, image in enumerate(images)]
    if not photographs:
        raise UserError("Expected at least one image, got none.")
    for name, content in photographs:
        _check(name, content, max_pixels, max_bytes)
    return photographs


def _read(image: Image, position: int, max_bytes: int) -> tuple[str, bytes]:
    if isinstance(image, np.ndarray):
        return f"array {position}", _encode(image, position)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"image {position}", bytes(image)
    if not isinstance(image, (str, os.PathLike)):
        raise UserError(f"Expected paths, bytes or uint8 arrays, got {type(image).__name__} at position {position}.")
    path = Path(image)
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"Expected a JPEG or PNG file, but {path} is a folder or a device. Name its files.")
        with path.open("rb") as file:
            return str(path), file.read(max_bytes + 1)  # no more of a file that is refused anyway
    except FileNotFoundError as error:
        raise UserError(f"Expected a JPEG or PNG file, but there is no {path}.") from error
    except OSError as error:
        raise UserError(f"Expected a JPEG or PNG file, but {path} cannot be read: {error.strerror}.") from error


def _check(name: str, content: bytes, max_pixels: int, max_bytes: int) -> None:
    if len(content) > max_bytes:
        raise UserError(f"Expected files of at most {max_bytes:,} bytes, but {name} is larger. Make it smaller.")
    try:
        kind = formats.check(content, max_pixels=max_pixels).kind
        if kind not in formats.SERVED:
            raise formats.Unreadable(f"a {kind}, and servers take JPEG and PNG; convert it to one")
    except formats.Unreadable as error:
        raise UserError(f"{name} cannot be sent: {error}.") from error


def _encode(pixels: npt.NDArray, position: int) -> bytes:
    """A PNG file of an array: nothing is lost, and all images go one way."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (1,), (3,), (4,)):
        raise UserError(
            f"Expected uint8 arrays [height, width] or [height, width, 1, 3 or 4], but array {position} is "
            f"{pixels.dtype} {list(pixels.shape)}. Convert it to 0..255 first."
        )
    if not pixels.size:
        raise UserError(f"Expected images of at least 1 pixel, but array {position} is {list(pixels.shape)}.")
    file = io.BytesIO()
    squeezed = pixels[..., 0] if pixels.shape[2:] == (1,) else pixels
    PIL.Image.fromarray(np.ascontiguousarray(squeezed)).save(file, "PNG", compress_level=1)
    return file.getvalue()
