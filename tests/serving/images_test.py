import struct

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.data import transforms
from kdas_tf.serving import images
from tests import pictures
from tests.serving import networks

SIZE = (24, 12)
decode_and_tell = tf.function(lambda contents: images.decode(contents, SIZE), autograph=False)


def decode(contents):
    """The images, none of which is wrong."""
    found, errors = decode_and_tell(contents)
    assert not any(errors.numpy()), errors
    return found


@pytest.mark.parametrize("size", [(24, 12), (60, 31), (7, 5), (60, 6), (12, 30)])
def test_pixels_are_resized_as_photographs_are_in_training(size):
    pixels = networks.photographs(3, size)
    expected = [transforms.decode(tf.io.encode_png(image), SIZE) for image in pixels]
    found, errors = images.resize(tf.constant(pixels), SIZE)
    np.testing.assert_array_equal(found, np.stack(expected))
    assert list(errors.numpy()) == [b""] * 3


@pytest.mark.parametrize("shape", [(2, 0, 5, 3), (2, 5, 0, 3), (0, 5, 5, 3)])
def test_images_without_pixels_are_black_and_told(shape):
    found, errors = images.resize(tf.zeros(shape, tf.uint8), SIZE)
    assert found.shape == (shape[0], *SIZE, 3) and not found.numpy().any()
    assert list(errors.numpy()) == [b"Expected images of at least one pixel."] * shape[0]


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
        (b"", "Expected the bytes of a JPEG or PNG file, got 0 bytes of something else."),
        (b"GIF89a" + bytes(6), "Expected the bytes of a JPEG or PNG file, got 12 bytes of something else."),
        (GOOD[:20], "Expected the bytes of a JPEG or PNG file"),
        (GOOD[:60], "The file is damaged, cut short"),
        (GOOD[:-20] + bytes(20), "The file is damaged, cut short"),
        (jpeg_that_says(8, 10)[:40], "The file is damaged, cut short"),
        (jpeg_that_says(8, 10)[:-60], "The file is damaged, cut short"),
        (png_that_says(10_000, 10_000), "1 to 33554432 pixels, got 10000 x 10000 pixels"),
        (png_that_says(1 << 31, 1 << 31), "1 to 33554432 pixels"),
        (png_that_says(0, 10), "1 to 33554432 pixels"),
        (jpeg_that_says(10_000, 9_000), "1 to 33554432 pixels, got 9000 x 10000 pixels"),
    ],
)
def test_what_is_no_photograph_is_told_and_leaves_the_others_alone(content, message):
    found, errors = decode_and_tell(tf.constant([GOOD, content, GOOD]))
    assert message in errors.numpy()[1].decode()
    assert [errors.numpy()[i] for i in (0, 2)] == [b"", b""]
    assert not found[1].numpy().any()
    for i in (0, 2):
        np.testing.assert_array_equal(found[i], decode(tf.constant([GOOD]))[0])


def test_the_largest_image_can_be_chosen():
    for most, errors in (
        (80, [b""]),
        (79, [b"Expected an image of 1 to 79 pixels, got 10 x 8 pixels (height, width)."]),
    ):
        assert list(images.decode(tf.constant([GOOD]), SIZE, max_pixels=most)[1].numpy()) == errors


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
    (error,) = decode_and_tell(tf.constant([content]))[1].numpy()
    assert error.startswith(b"Expected fewer bytes or scans for so few pixels, got ")


def test_progressive_files_are_read():
    content = pictures.saved(pictures.PIXELS, "JPEG", progressive=True)
    expected = transforms.resized(tf.constant(pictures.as_pillow_shows(content)), SIZE)
    np.testing.assert_array_equal(decode(tf.constant([content]))[0], expected)
