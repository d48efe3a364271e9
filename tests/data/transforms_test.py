import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdas_tf.data import transforms
from kdas_tf.data.transforms import Augmentation
from kdas_tf.errors import UserError

MEAN_PIXEL = (123.675, 116.28, 103.53)  # 255 * torchvision's (0.485, 0.456, 0.406)
HEIGHT, WIDTH = 12, 6
IMAGE = np.random.default_rng(0).uniform(1, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)


def augment(augmentation, seed, image=IMAGE):
    numbers = np.random.default_rng(seed).random((augmentation.random_numbers, 1), np.float32)
    choices = augmentation.choose(numbers, image.shape[:2])
    return augmentation(tf.constant(image[np.newaxis]), tf.constant(choices))[0].numpy()


def erased(result, image=IMAGE):
    """The rows and columns of the rectangle that differs from the image; None if nothing does."""
    changed = (result != image).any(axis=-1)
    if not changed.any():
        return None
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    np.testing.assert_array_equal(result[inside] - np.float32(MEAN_PIXEL), 0)
    assert changed[inside].all()
    return len(rows), len(columns)


@pytest.mark.parametrize("suffix", ["png", "bmp"])
def test_an_image_of_the_right_size_is_decoded_as_it_is(tmp_path, write_image, suffix):
    pixels = write_image(tmp_path / f"image.{suffix}")
    image = transforms.load(str(tmp_path / f"image.{suffix}"), (12, 6))
    assert image.dtype == tf.float32
    np.testing.assert_array_equal(image, pixels)


def test_jpeg_differs_from_its_source_by_compression_only(tmp_path, write_image):
    pixels = np.broadcast_to(np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None], (32, 16, 3)).copy()
    write_image(tmp_path / "image.jpg", pixels=pixels)
    np.testing.assert_allclose(transforms.load(str(tmp_path / "image.jpg"), (32, 16)), pixels, atol=6)


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("L", "jpg"), ("RGBA", "png"), ("LA", "png"), ("P", "png")])
def test_every_kind_of_image_becomes_rgb(tmp_path, write_image, mode, suffix):
    path = tmp_path / f"image.{suffix}"
    write_image(path, mode=mode)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_allclose(transforms.load(str(path), (12, 6)), expected, atol=2)


def test_shrinking_averages_instead_of_skipping_pixels(tmp_path, write_image):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 200
    write_image(tmp_path / "stripes.png", pixels=stripes)
    small = transforms.load(str(tmp_path / "stripes.png"), (8, 8)).numpy()
    np.testing.assert_allclose(small[1:-1], 100, atol=3)


@pytest.mark.parametrize("size", [(128, 64), (97, 41), (301, 17), (13, 30), (1, 1)])
@pytest.mark.parametrize("image_size", [(64, 32), (33, 47), (1, 4)])
def test_antialiasing_gives_the_bits_of_tf_image_resize(size, image_size):
    image = tf.constant(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    expected = np.clip(tf.image.resize(image, image_size, antialias=True), 0, 255)
    np.testing.assert_array_equal(transforms.resize_antialiased(image, image_size), expected)


def test_growing_is_bilinear_between_pixel_centres(tmp_path, write_image):
    write_image(tmp_path / "ramp.png", pixels=np.uint8([[[0] * 3, [100] * 3]]))
    row = transforms.load(str(tmp_path / "ramp.png"), (1, 4)).numpy()[0, :, 0]
    np.testing.assert_allclose(row, [0, 25, 75, 100], atol=1e-4)


def test_shapes_are_known_when_the_graph_is_built():
    spec = tf.TensorSpec([], tf.string)
    assert tf.function(lambda b: transforms.decode(b, (8, 4))).get_concrete_function(spec).output_shapes == (8, 4, 3)
    everything = Augmentation(erasing_probability=0.5)
    specs = tf.TensorSpec([5, 8, 4, 3]), tf.TensorSpec([5, 8])
    assert tf.function(everything.__call__).get_concrete_function(*specs).output_shapes == (5, 8, 4, 3)


@pytest.mark.parametrize("size", [(0, 4), (4,), (4, 4, 3), 4, (4.5, 2), None])
def test_an_image_size_that_is_not_two_whole_numbers_is_an_error(size):
    with pytest.raises(UserError, match="image_size"):
        transforms.decode(b"", size)


def test_the_same_seed_gives_the_same_image_and_another_one_another():
    everything = Augmentation(padding=4, erasing_probability=0.5)
    results = {augment(everything, seed).tobytes() for seed in range(20)}
    assert len(results) > 15
    for seed in range(20):
        np.testing.assert_array_equal(augment(everything, seed), augment(everything, seed))


def test_nothing_changes_when_all_is_off():
    np.testing.assert_array_equal(augment(Augmentation(flip=False, padding=0), 0), IMAGE)


def test_half_of_the_images_are_mirrored():
    mirrored = 0
    for seed in range(400):
        result = augment(Augmentation(padding=0), seed)
        np.testing.assert_array_equal(result, IMAGE[:, ::-1] if (result != IMAGE).any() else IMAGE)
        mirrored += (result != IMAGE).any()
    assert abs(mirrored - 200) < 50  # five standard deviations of a fair coin


@pytest.mark.parametrize(("fill", "pixel"), [("zero", (0, 0, 0)), ("mean", MEAN_PIXEL)])
def test_a_crop_is_a_window_of_the_padded_image_and_every_window_occurs(fill, pixel):
    padding = 1
    padded = np.empty((HEIGHT + 2, WIDTH + 2, 3), np.float32)
    padded[:] = pixel
    padded[1:-1, 1:-1] = IMAGE
    windows = np.lib.stride_tricks.sliding_window_view(padded, IMAGE.shape)[:, :, 0]
    places = set()
    for seed in range(100):
        result = augment(Augmentation(flip=False, padding=padding, padding_fill=fill), seed)
        matches = np.argwhere(np.isclose(windows, result, atol=1e-3).all(axis=(2, 3, 4)))
        assert len(matches) == 1
        places.add(tuple(matches[0]))
    assert places == {(top, left) for top in range(3) for left in range(3)}


@pytest.mark.parametrize(("size", "padding"), [((97, 41), 5), ((384, 128), 10), ((2, 3), 4)])
def test_flip_and_crop_are_those_of_each_image_s_own_numbers_to_the_pixel(size, padding):
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (24, *size, 3)).astype(np.float32)
    numbers = random.random((4, len(images)), np.float32)
    numbers[:, 0], numbers[:, 1] = 0, np.nextafter(np.float32(1), np.float32(0))  # the least and the greatest
    augmentation = Augmentation(padding=padding)
    results = augmentation(tf.constant(images), tf.constant(augmentation.choose(numbers, size)))
    for image, (mirror, *offset, _), result in zip(images, numbers.T.tolist(), results, strict=True):
        top, left = (int(number * (2 * padding + 1)) for number in offset)
        padded = np.pad(image[:, ::-1] if mirror < 0.5 else image, [(padding, padding), (padding, padding), (0, 0)])
        np.testing.assert_array_equal(result, padded[top : top + size[0], left : left + size[1]])


def test_an_image_of_one_row_cannot_be_cropped():
    with pytest.raises(UserError, match=r"at least 2x2 pixels, to pad and crop, but got \(1, 8\)"):
        Augmentation(padding=2).choose(np.zeros((4, 1), np.float32), (1, 8))


def test_erasing_fills_a_rectangle_of_the_paper_s_size_with_the_mean_pixel():
    image = np.random.default_rng(0).uniform(0, 255, (96, 32, 3)).astype(np.float32)
    boxes = [erased(augment(Augmentation(False, 0, "zero", 1.0), seed, image), image) for seed in range(200)]
    heights, widths = np.transpose(boxes)  # fails if one is None: erasing is certain here
    # Sides are rounded down, so the area may be smaller than its bound by up to one row and one column.
    assert (heights * widths <= 0.4 * 96 * 32).all()
    assert ((heights + 1) * (widths + 1) > 0.02 * 96 * 32).all()
    assert ((heights + 1) / widths > 0.3).all()
    assert (heights / (widths + 1) < 1 / 0.3).all()
    assert heights.max() > 40
    assert widths.max() > 25


def test_erasing_happens_with_its_probability():
    some = [erased(augment(Augmentation(False, 0, "zero", 0.25), seed)) for seed in range(400)]
    assert abs(400 - some.count(None) - 100) < 44  # five standard deviations


def test_an_image_in_which_no_rectangle_fits_stays_as_it_is():
    line = np.ones((1, 1, 3), np.float32)
    np.testing.assert_array_equal(augment(Augmentation(False, 0, "zero", 1.0), 0, line), line)


def test_flip_and_crop_do_not_depend_on_erasing():
    plain, certain = Augmentation(padding=2), Augmentation(padding=2, erasing_probability=1.0)
    for seed in range(20):
        before, after = augment(plain, seed), augment(certain, seed)
        kept = (after != np.float32(MEAN_PIXEL)).any(axis=-1)
        assert kept.any()
        np.testing.assert_array_equal(after[kept], before[kept])


@pytest.mark.parametrize(
    "values",
    [
        {"padding": -1},
        {"padding": 1.5},
        {"padding": float("nan")},
        {"padding": "10"},
        {"padding_fill": "grey"},
        {"erasing_probability": 1.1},
        {"erasing_probability": -1},
    ],
)
def test_values_out_of_range_are_an_error(values):
    with pytest.raises(UserError, match=next(iter(values))):
        Augmentation(**values)


def test_another_size_of_the_same_photograph_is_changed_in_the_same_way():
    augmentation = transforms.Augmentation(padding=3, erasing_probability=0.7)
    generator = np.random.default_rng(5)
    images = generator.uniform(0, 255, (40, 12, 6, 3)).astype("float32")
    numbers = generator.random((augmentation.random_numbers, 40), np.float32)
    # Every pixel of the larger images stands twice and three times.
    large = images.repeat(2, axis=1).repeat(3, axis=2)
    small = augmentation(tf.constant(images), augmentation.choose(numbers, (12, 6))).numpy()
    found = augmentation(tf.constant(large), augmentation.choose(numbers, (12, 6), (24, 18)))
    assert (small != images).any((1, 2, 3)).sum() > 30
    np.testing.assert_array_equal(found, small.repeat(2, axis=1).repeat(3, axis=2))
