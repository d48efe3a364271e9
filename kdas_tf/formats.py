"""What the bytes of an image say before it is decoded: its format, its size, how it is turned, the work that it makes.

Names do not matter: many a file is named .jpg and is none. Nothing here needs TensorFlow, so that a client, which sends
photographs, and the data stage, which reads them, refuse the same files for the same reasons.
"""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = 24
"""Bytes: signature, length and name of the first chunk, width, height (PNG specification, section 11.2.2)."""

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""Mean and standard deviation of ImageNet's RGB values in 0..255 (torchvision's, times 255)."""

MAX_PIXELS = 1 << 25
"""Of an encoded image, height times width: 34 megapixels, 400 MB as float32. A larger one is refused undecoded."""
MAX_BYTES = 1 << 28
"""Of a file: 256 MiB, more than 34 megapixels of 16 bits a colour have in a PNG that compresses nothing."""

# Pixels do not bound work: a decoder goes over all of them for every scan of a progressive JPEG, and a scan may be of
# ten bytes. libjpeg writes 10 scans. What is allowed takes at most 2.1 s of CPU time (tried on noise).
MAX_SCANS = 100
"""Of a JPEG."""
MAX_SCANNED = 16 * MAX_PIXELS
"""Scans of a JPEG times its pixels."""
BYTES_PER_PIXEL = 16
MORE_BYTES = 1 << 20
"""A file may have `MORE_BYTES + BYTES_PER_PIXEL` * pixels bytes: 8 for each pixel are a PNG of 16 bits without
compression; colour profiles and previews, which do not grow with the pixels, are in the first megabyte."""

SCAN = b"\xff\xda"
"""Start of a scan. Inside of a scan 0xff is never followed by 0xda, so the count is that of the scans or above."""
EXIF, EXIF_SEGMENT, EXIF_CHUNK = b"Exif\0\0", b"\xff\xe1", b"eXIf"
ORIENTATION = 0x0112
"""Tag of an image file directory (TIFF 6.0, section 8): 1 as it is, 2..8 mirrored or turned."""
LONG = 4
"""Type of a tag whose value has four bytes; an orientation has two by the standard."""
MAX_TAGS = 512
"""Tags of a directory among which the orientation is looked for."""

_MAGIC = {
    "JPEG": (JPEG,),
    "PNG": (PNG,),
    "BMP": (b"BM",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "TIFF": (b"II*\0", b"MM\0*"),
}
KINDS = (*_MAGIC, "WebP")
"""Formats of photographs that are read."""
SERVED = ("JPEG", "PNG")
"""Those of them that an exported graph and the client take."""

# Frames of a JPEG (ITU T.81, table B.1). 0xc4, 0xc8 and 0xcc are none.
_READ_FRAMES = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES = {0xC3: "lossless", 0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded", 0xCB: "lossless"}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length


class Unreadable(Exception):
    """An image is not read; the text says why, and reads on after "NAME: "."""


class Header(NamedTuple):
    """What a file says about itself.

    Attributes:
        kind: one of `KINDS`.
        size: (height, width) in pixels as stored, before it is turned; None where only its decoder knows.
    """

    kind: str
    size: tuple[int, int] | None


def kind_of(content: bytes) -> str | None:
    """The format of a file by its first bytes, one of `KINDS`; None for any other."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    return next((kind for kind, starts in _MAGIC.items() if content.startswith(starts)), None)


def check(content: bytes, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Looks whether a file may be decoded: its format, its pixels, and for JPEG and PNG its parts and its work.

    Raises:
        Unreadable: it may not be.
    """
    kind = kind_of(content)
    if not content:
        raise Unreadable("an empty file")
    if kind is None:
        raise Unreadable("not an image in one of the formats " + ", ".join(KINDS))
    if kind not in SERVED:
        return Header(kind, None)
    size = _jpeg_size(content) if kind == "JPEG" else _png_size(content)
    check_pixels(content, size, max_pixels=max_pixels)
    scans = content.count(SCAN) if kind == "JPEG" else 0
    if scans > MAX_SCANS or scans * size[0] * size[1] > MAX_SCANNED:
        most = min(MAX_SCANS, MAX_SCANNED // (size[0] * size[1]))
        raise Unreadable(f"a JPEG of {scans:,} scans, more than the {most} that are read at this size; save it again")
    return Header(kind, size)


def check_pixels(content: bytes, size: tuple[int, int], *, max_pixels: int = MAX_PIXELS) -> None:
    """Refuses (`Unreadable`) an image (height, width) of no pixels, of too many, or of too many bytes for them."""
    height, width = size
    if not height * width:
        raise Unreadable(f"an image without pixels ({width} x {height})")
    if height * width > max_pixels:
        raise Unreadable(f"{width} x {height} pixels are more than {max_pixels:,}")
    most = MORE_BYTES + BYTES_PER_PIXEL * height * width
    if len(content) > most:
        raise Unreadable(f"{len(content):,} bytes are more than {most:,}, for {width} x {height} pixels; save it again")


def orientation(content: bytes) -> int:
    """How a JPEG or PNG file is to be turned, by its EXIF data: 1 (not at all) to 8.

    EXIF data come before the picture of a JPEG, and anywhere in a PNG. Values that the standard does not know are 1.
    `kdas_tf.data.decoding` does the same inside a graph.
    """
    is_png = content.startswith(PNG)
    before, _, block = content.partition(EXIF_CHUNK if is_png else EXIF)
    if not is_png and (SCAN in before or before[-4:-2] != EXIF_SEGMENT):
        return 1
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 8:
        return 1
    (first,) = struct.unpack_from(order + "I", block, 4)
    if first + 2 > len(block):
        return 1
    (tags,) = struct.unpack_from(order + "H", block, first)
    for place in range(first + 2, min(first + 2 + 12 * min(tags, MAX_TAGS), len(block) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", block, place)
        if tag == ORIENTATION:
            (value,) = struct.unpack_from(order + ("I" if kind == LONG else "H"), block, place + 8)
            return value if 1 <= value <= 8 else 1
    return 1


def _jpeg_size(content: bytes) -> tuple[int, int]:
    for marker, place in _segments(content):
        if marker in _FRAMES:
            if marker not in _READ_FRAMES:
                raise Unreadable(f"a JPEG of a kind that is not read ({_OTHER_FRAMES.get(marker, 'hierarchical')})")
            if place + 7 > len(content):
                break
            bits, height, width = struct.unpack_from(">BHH", content, place + 2)
            if bits != 8:
                raise Unreadable(f"a JPEG of {bits} bits; those of 8 are read")
            return height, width
    raise Unreadable("a JPEG without a picture: cut short or damaged")


def _segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Marker of each segment before the first scan, and where its length stands."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD9, 0xDA):
            return
        yield marker, place + 2
        place += 2 + max(int.from_bytes(content[place + 2 : place + 4], "big"), 2)


def _png_size(content: bytes) -> tuple[int, int]:
    place, name, size, has_picture = len(PNG), b"", None, False
    while name != b"IEND":
        head = content[place : place + 8]
        end = place + 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8 or end > len(content):
            raise Unreadable("a PNG that is cut short")
        name = head[4:]
        if zlib.crc32(memoryview(content)[place + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            raise Unreadable(f"a PNG with a damaged part ({name.decode('ascii', 'replace')})")
        if size is None:
            if name != b"IHDR" or end - place != 25:
                raise Unreadable("a PNG without a header")
            width, height = struct.unpack_from(">II", content, place + 8)
            size = height, width
        has_picture |= name == b"IDAT"
        place = end
    if size is None or not has_picture:
        raise Unreadable("a PNG without a picture")
    return size
