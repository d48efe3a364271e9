import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdas_tf.data.class_batches import ImageFiles, RandomResizedCrop, central_part, training_batches, validation_batches
from kdas_tf.data.classes import ClassData
from kdas_tf.data.records import Record
from kdas_tf.errors import UserError

SIZE = (8, 8)


@pytest.fixture
def images(tmp_path):
    """13 images to train on and 5 to judge by, each of one grey value: 10 times its number."""

    def record(number):
        path = tmp_path / f"{number:02d}.png"
        Image.new("RGB", (12 + number, 20 - number), (10 * number,) * 3).save(path)
        return Record(str(path), number % 3, 0)

    records = tuple(record(number) for number in range(18))
    return ImageFiles(ClassData("grey", ("a", "b", "c"), records[:13], records[13:]))


def batches(images, *, batch_size=4, epochs=2, augmentation=RandomResizedCrop(), **more):
    return training_batches(
        images,
        image_size=SIZE,
        batch_size=batch_size,
        augmentation=augmentation,
        epochs=epochs,
        **{"seed": 3, **more},
    )


def numbers_of(batch):
    """Which images a batch shows."""
    values = batch["image"].numpy().reshape(len(batch["label"]), -1)
    np.testing.assert_allclose(values.min(1), values.max(1), atol=1e-3)  # of one grey value each
    return (values.mean(1) / 10).round().astype(int)


def assert_same(ones, others):
    ones, others = list(ones), list(others)
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_shapes_are_static_and_the_length_is_known(images):
    dataset = batches(images, epochs=5)
    assert dataset.element_spec == {
        "image": tf.TensorSpec([4, *SIZE, 3], tf.float32),
        "label": tf.TensorSpec([4], tf.int32),
    }
    assert dataset.cardinality() == len(list(dataset)) == 5 * 3  # 13 images fill three batches of 4


def test_an_epoch_shows_every_image_at_most_once_with_its_label_and_each_epoch_in_another_order(images):
    seen = list(batches(images, epochs=8))
    epochs = [np.concatenate([numbers_of(batch) for batch in part]) for part in zip(*[iter(seen)] * 3, strict=True)]
    for numbers in epochs:
        assert len(set(numbers)) == 12
        assert set(numbers) <= set(range(13))
    assert len({tuple(numbers) for numbers in epochs}) == 8
    assert set(np.concatenate(epochs)) == set(range(13))
    for batch in seen:
        np.testing.assert_array_equal(batch["label"], numbers_of(batch) % 3)


def test_fewer_images_than_a_batch_are_repeated(images):
    (batch,) = batches(images, batch_size=20, epochs=1)
    numbers = numbers_of(batch)
    np.testing.assert_array_equal(numbers[13:], numbers[:7])
    assert set(numbers) == set(range(13))


@pytest.fixture
def noise(tmp_path):
    """Six images of random pixels."""
    random = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(random.integers(0, 256, (20, 16, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    records = tuple(Record(str(tmp_path / f"{number}.png"), number % 2, 0) for number in range(6))
    return ImageFiles(ClassData("noise", ("a", "b"), records, records))


def test_starting_at_a_later_epoch_continues_bit_for_bit(noise):
    uninterrupted = list(batches(noise, batch_size=3, epochs=4))
    assert_same(batches(noise, batch_size=3, start_epoch=2, epochs=4), uninterrupted[4:])
    inside = batches(noise, batch_size=3, start_epoch=2, start_step=1, epochs=4)
    assert_same(inside, uninterrupted[5:])
    assert inside.cardinality() == 3
    assert_same(batches(noise, batch_size=3, epochs=2), uninterrupted[:4])


def test_reading_twice_gives_the_same_and_another_seed_another(noise):
    dataset = batches(noise)
    tf.random.set_seed(1)
    first = list(dataset)
    tf.random.set_seed(2)
    assert_same(batches(noise), first)
    other = next(iter(batches(noise, seed=4)))
    assert (first[0]["image"].numpy() != other["image"].numpy()).any()


def test_the_same_image_is_cut_differently_at_every_place(noise):
    seen = [image.tobytes() for batch in batches(noise, batch_size=6, epochs=5) for image in batch["image"].numpy()]
    assert len(set(seen)) == len(seen) == 30


def test_replicas_get_the_parts_of_the_global_batch(noise):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    joined = []
    for batch in strategy.experimental_distribute_dataset(batches(noise)):
        parts = {key: strategy.experimental_local_results(value) for key, value in batch.items()}
        assert [len(part) for part in parts["label"]] == [2, 2]
        joined.append({key: tf.concat(part, axis=0) for key, part in parts.items()})
    assert_same(joined, batches(noise))


def test_every_image_to_judge_by_counts_once_and_in_order(images):
    dataset = validation_batches(images, image_size=SIZE, batch_size=4)
    seen = list(dataset)
    assert dataset.cardinality() == len(seen) == 2
    assert all(batch["image"].shape == (4, *SIZE, 3) for batch in seen)
    numbers, weights, labels = (
        np.concatenate(parts)
        for parts in zip(*((numbers_of(b), b["weight"].numpy(), b["label"].numpy()) for b in seen), strict=True)
    )
    np.testing.assert_array_equal(weights, [1] * 5 + [0] * 3)
    np.testing.assert_array_equal(numbers[:5], [13, 14, 15, 16, 17])
    np.testing.assert_array_equal(labels[:5], numbers[:5] % 3)


def coordinates(height, width):
    """An image whose red is the column and whose green is the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, 0 * rows], -1).astype(np.uint8)


def boxes(augmentation, image_size=(50, 50), height=100, width=200, tries=200):
    """(top, left, bottom, right) of the parts that are cut out, and whether they are mirrored; within half a pixel."""
    image = tf.constant(coordinates(height, width))
    cut = tf.function(lambda seed: augmentation(image, image_size, seed))
    for number in range(tries):
        part = cut(tf.constant([number, 7], tf.int64)).numpy()
        assert part.shape == (*image_size, 3)
        (first, last), (top, bottom) = part[0, [0, -1], 0], part[[0, -1], 0, 1]
        left, right = sorted((first, last))
        # What the outermost pixels show is half a pixel of the result away from the edges of the part.
        across, down = (right - left) / (image_size[1] - 1), (bottom - top) / (image_size[0] - 1)
        yield top - down / 2, left - across / 2, bottom + down / 2, right + across / 2, first > last


@pytest.mark.parametrize(("image_size", "width"), [((50, 50), 200), ((60, 30), 90)])
def test_parts_have_the_areas_and_aspects_that_were_asked_for(image_size, width):
    crop = RandomResizedCrop(area=(0.2, 0.45), aspect=(0.8, 1.25))
    found = np.array(list(boxes(crop, image_size, width=width)))
    heights, widths = found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]
    shares = heights * widths / (100 * width)
    aspects = widths / heights * image_size[0] / image_size[1]
    assert 0.18 < shares.min() < 0.24 and 0.41 < shares.max() < 0.47
    assert 0.76 < aspects.min() < 0.9 and 1.1 < aspects.max() < 1.32
    assert found[:, 4].mean() == pytest.approx(0.5, abs=0.12)


def test_without_flip_nothing_is_mirrored():
    assert not any(box[4] for box in boxes(RandomResizedCrop(flip=False), tries=20))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("area", (0.0, 1.0)),
        ("area", (0.5, 1.1)),
        ("area", (0.5, 0.4)),
        ("area", 0.5),
        ("area", (0.5,)),
        ("area", ("a", "b")),
        ("aspect", (0, 1)),
        ("aspect", (1.0, float("nan"))),
    ],
)
def test_a_part_that_cannot_be_is_refused_when_it_is_asked_for(name, value):
    with pytest.raises(UserError, match=rf"RandomResizedCrop\.{name} \(least, greatest\) above 0"):
        RandomResizedCrop(**{name: value})


def test_the_central_224_of_256_pixels_are_shown_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    np.testing.assert_array_equal(central_part(tf.constant(pixels), (224, 224)), pixels[16:240, 16:240])


@pytest.mark.parametrize(("height", "width"), [(150, 250), (250, 187), (50, 45)])
def test_the_central_part_is_that_of_resizing_to_256_and_cropping_to_224(height, width):
    part = central_part(tf.constant(coordinates(height, width)), (224, 224)).numpy()
    scale = 256 / min(height, width)
    # Pixel i of the crop is pixel i + (scaled - 224) / 2 of the resized image.
    columns, rows = ((np.arange(224) + (side * scale - 224) / 2 + 0.5) / scale - 0.5 for side in (width, height))
    tolerance = 1.5  # a part begins and ends at whole pixels, and its outermost ones are continued
    np.testing.assert_allclose(part[:, :, 0], np.broadcast_to(columns, (224, 224)), atol=tolerance)
    np.testing.assert_allclose(part[:, :, 1].T, np.broadcast_to(rows, (224, 224)), atol=tolerance)


def test_file_names_need_not_be_utf8(tmp_path):
    path = bytes(tmp_path) + b"/\xff.png"
    Image.new("RGB", (9, 9)).save(tmp_path / "0.png")
    (tmp_path / "0.png").rename(path.decode(errors="surrogateescape"))
    records = (Record(path.decode(errors="surrogateescape"), 0, 0),) * 2
    dataset = validation_batches(ImageFiles(ClassData("", ("a",), records, records)), image_size=SIZE, batch_size=2)
    assert len(list(dataset)) == 1
