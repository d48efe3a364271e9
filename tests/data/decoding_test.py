import io
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdas_tf import formats
from kdas_tf.data import decoding
from tests import pictures

STRING = [tf.TensorSpec([], tf.string)]
in_graph = tf.function(decoding.decode_pixels, input_signature=STRING, autograph=False)
orientation_in_graph = tf.function(decoding.orientation, input_signature=STRING, autograph=False)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_orientation_is_shown_as_pillow_shows_it(kind, order):
    for orientation in range(10):
        content = pictures.turned_file(kind, orientation, order=order)
        expected = pictures.as_pillow_shows(content)
        np.testing.assert_array_equal(decoding.pixels(content), expected)
        np.testing.assert_array_equal(in_graph(content), expected)


def test_the_way_that_a_photograph_is_turned_is_that_of_the_standard():
    # Row 0 of the file is the right-hand side, column 0 the top (Exif 2.3, 4.6.4): a camera turned to the left.
    content = pictures.turned_file("PNG", 6)
    np.testing.assert_array_equal(decoding.pixels(content)[:, -1], pictures.PIXELS[0])
    np.testing.assert_array_equal(decoding.pixels(content)[0], pictures.PIXELS[::-1, 0])


def test_graph_and_client_read_the_same_orientation_of_damaged_exif_data():
    random = np.random.default_rng(0)
    seen = set()
    for kind in ("JPEG", "PNG"):
        for order in "<>":
            content = pictures.turned_file(kind, 6, order=order)
            place = content.index(b"eXIf" if kind == "PNG" else b"Exif")
            for attempt in range(60):
                changed = bytearray(content)
                changed[random.integers(place - 6, place + 40)] = random.integers(0, 256)
                damaged = bytes(changed[: random.integers(place, place + 60)] if attempt % 5 == 0 else changed)
                seen.add(formats.orientation(damaged))
                assert orientation_in_graph(damaged) == formats.orientation(damaged), damaged
    assert {1, 6} <= seen


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("L", "JPEG", {}),
        ("RGB", "JPEG", {"quality": 60}),
        ("RGB", "JPEG", {"progressive": True}),
        ("CMYK", "JPEG", {}),
        ("RGB", "MPO", {"save_all": True, "append_images": [Image.new("RGB", (6, 12))]}),
        ("1", "PNG", {}),
        ("L", "PNG", {}),
        ("LA", "PNG", {}),
        ("P", "PNG", {}),
        ("P", "PNG", {"transparency": 3}),
        ("RGBA", "PNG", {}),
        ("P", "BMP", {}),
        ("1", "BMP", {}),
        ("RGBA", "BMP", {}),
        ("RGB", "WEBP", {}),
        ("P", "GIF", {}),
        ("CMYK", "TIFF", {}),
    ],
)
def test_every_kind_of_picture_has_the_colours_that_other_programs_show(mode, kind, options):
    content = pictures.saved(Image.fromarray(pictures.PIXELS).convert(mode), kind, **options)
    expected = pictures.as_pillow_shows(content)
    np.testing.assert_array_equal(decoding.pixels(content), expected)
    np.testing.assert_array_equal(in_graph(content), expected)


def test_of_16_bits_the_upper_ones_are_kept():
    grey = np.uint16([[0, 255, 256], [32768, 65279, 65535]])
    expected = np.repeat(np.uint8([[0, 0, 1], [128, 254, 255]])[..., np.newaxis], 3, axis=2)
    np.testing.assert_array_equal(in_graph(pictures.saved(grey, "PNG")), expected)


def test_pixels_are_nearer_to_the_original_than_those_of_the_fast_transform():
    rows, columns = np.mgrid[:128, :64]
    waves = [128 + 100 * np.sin(rows / a + columns / b) for a, b in ((9, 5), (4, 11), (15, 7))]
    original = np.stack(waves, axis=2).astype(np.uint8)
    content = pictures.saved(original, "JPEG", quality=95, subsampling=0)
    fast = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_FAST").numpy()
    ours, others = (np.abs(each.astype(int) - original).mean() for each in (decoding.pixels(content), fast))
    assert ours < 0.7 * others


@pytest.mark.parametrize("what", pictures.damaged_files())
def test_what_is_not_read_is_refused_with_a_reason(what):
    content, reason = pictures.damaged_files()[what]
    with pytest.raises(formats.Unreadable) as refusal:
        decoding.pixels(content)
    assert reason in str(refusal.value)


@pytest.mark.parametrize("what", ["text", "bmp cut in half", "webp cut in half"])
def test_the_graph_ends_in_an_error_at_what_python_refuses(what):
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnknownError)):
        in_graph(pictures.damaged_files()[what][0])


def test_an_interlaced_png_is_read():
    # Pillow writes none: one pixel of red, whose first pass is the whole picture (PNG specification, 8.2).
    png = bytearray(pictures.saved(np.uint8([[[255, 0, 0]]]), "PNG"))
    png[28] = 1
    png[29:33] = zlib.crc32(bytes(png[12:29])).to_bytes(4, "big")
    assert Image.open(io.BytesIO(bytes(png))).info["interlace"] == 1
    np.testing.assert_array_equal(decoding.pixels(bytes(png)), [[[255, 0, 0]]])
