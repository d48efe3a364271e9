import struct

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.data import transforms
from kdas_tf.serving import images
from tests import pictures
from tests.serving import networks

SIZE = (24, 12)
decode = tf.function(lambda contents: images.decode(contents, SIZE), autograph=False)


@pytest.mark.parametrize("size", [(24, 12), (60, 31), (7, 5), (60, 6), (12, 30)])
def test_pixels_are_resized_as_photographs_are_in_training(size):
    pixels = networks.photographs(3, size)
    expected = [transforms.decode(tf.io.encode_png(image), SIZE) for image in pixels]
    np.testing.assert_array_equal(images.resize(tf.constant(pixels), SIZE), np.stack(expected))


def test_files_of_different_sizes_and_kinds_become_one_batch():
    tall, small = networks.photographs(1, (90, 40))[0], networks.photographs(1, (10, 8))[0]
    grey, transparent = tall[..., :1], np.concatenate([small, small[..., :1]], -1)
    contents = [tf.io.encode_jpeg(tall), tf.io.encode_jpeg(grey)]
    contents += [tf.io.encode_png(pixels) for pixels in (small, grey, transparent)]
    expected = np.stack([transforms.decode(content, SIZE) for content in contents])
    np.testing.assert_array_equal(decode(tf.stack(contents)), expected)
    assert decode(tf.zeros([0], tf.string)).shape == (0, *SIZE, 3)


def png_that_says(width, height):
    png = tf.io.encode_png(networks.photographs(1, (10, 8))[0]).numpy()
    return png[:16] + struct.pack(">II", width, height) + png[24:]


def jpeg_that_says(width, height):
    jpeg = tf.io.encode_jpeg(networks.photographs(1, (10, 8))[0]).numpy()
    place = jpeg.index(b"\xff\xc0") + 5  # start of frame: marker, length, precision, height, width
    return jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]


GOOD = png_that_says(8, 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expected the bytes of a JPEG or PNG file, got. .0. .bytes"),
        (b"GIF89a" + bytes(6), "Expected the bytes of a JPEG or PNG file, got. .12. .bytes"),
        (GOOD[:20], "Expected the bytes of a JPEG or PNG file"),
        (GOOD[:60], "Invalid PNG"),
        (jpeg_that_says(8, 10)[:40], "Invalid JPEG"),
        (png_that_says(10_000, 10_000), r"at most 33554432 pixels, got height and width. .10000. .10000"),
        (png_that_says(1 << 31, 1 << 31), "at most 33554432 pixels"),
        (png_that_says(0, 10), "at most 33554432 pixels"),
        (jpeg_that_says(10_000, 9_000), r"at most 33554432 pixels, got height and width. .9000. .10000"),
    ],
)
def test_what_is_no_photograph_is_refused_with_a_reason(content, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode(tf.constant([GOOD, content]))
    assert decode(tf.constant([GOOD])).shape == (1, *SIZE, 3)  # the next request is answered


def test_the_largest_image_can_be_chosen():
    assert images.decode(tf.constant([GOOD]), SIZE, max_pixels=80).shape == (1, *SIZE, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most 79 pixels"):
        images.decode(tf.constant([GOOD]), SIZE, max_pixels=79)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_files_are_turned_as_their_exif_data_say(kind, order):
    contents = [pictures.turned_file(kind, orientation, order=order) for orientation in range(1, 9)]
    shown = [transforms.resized(tf.constant(pictures.as_pillow_shows(content)), SIZE) for content in contents]
    np.testing.assert_array_equal(decode(tf.constant(contents)), np.stack(shown))


@pytest.mark.parametrize(
    "content",
    [pictures.many_scans(400), tf.io.encode_jpeg(networks.photographs(1, (10, 8))[0]).numpy() + bytes(2_000_000)],
    ids=["scans", "bytes"],
)
def test_files_of_more_work_than_their_pixels_tell_are_refused(content):
    with pytest.raises(tf.errors.InvalidArgumentError, match="fewer bytes or scans for so few pixels"):
        decode(tf.constant([content]))


def test_progressive_files_are_read():
    content = pictures.saved(pictures.PIXELS, "JPEG", progressive=True)
    expected = transforms.resized(tf.constant(pictures.as_pillow_shows(content)), SIZE)
    np.testing.assert_array_equal(decode(tf.constant([content]))[0], expected)
