"""Which files are served: JPEG and PNG up to a size, told from their first bytes. Needs no TensorFlow."""

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"
PNG_HEADER = 24
"""Bytes: signature, length and name of the first chunk, width, height (PNG specification, section 11.2.2)."""

MAX_PIXELS = 1 << 25
"""Of an encoded image, height times width: 34 megapixels, 400 MB as float32. A larger one is refused undecoded."""

# Segments that start a frame and hold its size: SOF0 to SOF15 (ITU-T T.81, table B.1) without DHT, JPG and DAC.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM and RST0 to RST7.
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})


def size_of(content: bytes) -> tuple[int, int] | None:
    """The (height, width) that a JPEG or PNG file says it has, without decoding it; None for anything else.

    A file whose header is whole can still be damaged further on.
    """
    if content.startswith(PNG) and len(content) >= PNG_HEADER:
        return int.from_bytes(content[20:24]), int.from_bytes(content[16:20])
    return _jpeg_size(content) if content.startswith(JPEG) else None


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Walks over the segments (ITU-T T.81, section B.1.1) to the one that starts the frame."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # fill bytes may come before a marker
            position += 1
        elif marker in _ALONE:
            position += 2
        elif marker in _FRAMES:  # length, precision, height, width
            frame = content[position + 5 : position + 9]
            return (int.from_bytes(frame[:2]), int.from_bytes(frame[2:])) if len(frame) == 4 else None
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4])
    return None
