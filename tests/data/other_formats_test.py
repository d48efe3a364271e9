import struct

import numpy as np
import pytest
from PIL import Image

from kdas_tf.data import other_formats
from kdas_tf.formats import Unreadable
from tests.pictures import PIXELS, saved, turned_file

PALETTE = Image.fromarray(PIXELS).quantize(16)
EXPECTED = np.asarray(PALETTE.convert("RGB"))


def bmp(bits, rows, *, colours=(), compression=0):
    """A BMP of two by two pixels, by the layout of BITMAPINFOHEADER."""
    table = b"".join(bytes((blue, green, red, 0)) for red, green, blue in colours)
    place = 54 + len(table)
    head = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, bits, compression, len(rows), 0, 0, len(colours), 0)
    return b"BM" + struct.pack("<IHHI", place + len(rows), 0, 0, place) + head + table + rows


RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
SQUARE = np.uint8([[RED, BLUE], [BLUE, GREEN]])  # BMP writes the lowest row first


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (bmp(8, bytes([1, 2, 0, 0, 0, 1, 0, 0]), colours=[RED, BLUE, GREEN]), SQUARE),
        (bmp(4, bytes([0x12, 0, 0, 0, 0x01, 0, 0, 0]), colours=[RED, BLUE, GREEN]), SQUARE),
        (bmp(1, bytes([0x80, 0, 0, 0, 0x40, 0, 0, 0]), colours=[RED, BLUE]), np.uint8([[RED, BLUE], [BLUE, RED]])),
        (bmp(16, struct.pack("<4H", 0x1F, 0x3E0, 0x7C00, 0x1F)), SQUARE),
        (bmp(8, bytes([1, 1, 1, 2, 0, 0, 1, 0, 1, 1, 0, 1]), colours=[RED, BLUE, GREEN], compression=1), SQUARE),
        (bmp(24, bytes([255, 0, 0, 0, 255, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0])), SQUARE),
    ],
    ids=["8 bits", "4 bits", "1 bit", "16 bits", "run lengths", "24 bits"],
)
@pytest.mark.parametrize("behind", [b"", b"and more bytes"])
def test_bmp_files_have_the_colours_of_their_palettes(content, expected, behind):
    np.testing.assert_array_equal(other_formats.pixels(content + behind), expected)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF"])
def test_indices_of_a_palette_become_its_colours(kind):
    np.testing.assert_array_equal(other_formats.pixels(saved(PALETTE, kind)), EXPECTED)


def test_the_first_picture_of_several_is_read():
    for kind in ("GIF", "TIFF", "WEBP"):
        more = {"lossless": True} if kind == "WEBP" else {}
        content = saved(PALETTE.convert("RGB"), kind, save_all=True, append_images=[Image.new("RGB", (6, 12))], **more)
        np.testing.assert_array_equal(other_formats.pixels(content), EXPECTED)


def test_of_16_bits_the_upper_ones_are_kept():
    grey = np.uint16([[0, 255, 256], [32768, 65279, 65535]])
    expected = np.repeat(np.uint8([[0, 0, 1], [128, 254, 255]])[..., np.newaxis], 3, axis=2)
    np.testing.assert_array_equal(other_formats.pixels(saved(grey, "TIFF")), expected)


@pytest.mark.parametrize("kind", ["TIFF", "WEBP"])
def test_they_are_turned_by_their_exif_data(kind):
    np.testing.assert_array_equal(other_formats.pixels(turned_file(kind, 6)), np.rot90(PIXELS, -1))


def test_many_pixels_are_refused_before_they_are_decoded():
    content = bmp(8, bytes(8), colours=[RED, BLUE])
    large = content[:18] + struct.pack("<ii", 6000, 6000) + content[26:]
    with pytest.raises(Unreadable, match="6000 x 6000 pixels are more than"):
        other_formats.pixels(large)
