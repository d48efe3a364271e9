import os

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.data import transforms
from kdas_tf.data.image_cache import ImageCache
from kdas_tf.data.pipeline import TrainingImages, balanced_batches
from kdas_tf.data.transforms import Augmentation
from kdas_tf.settings import Sampling

SIZE = (10, 4)
IMAGES = 12
NEEDED = IMAGES * 10 * 4 * 3 * 4


@pytest.fixture
def records(make_records):
    return make_records(3, 4, size=(17, 6))


def batches(records, cache_bytes=0):
    return batches_of(TrainingImages(records, SIZE, cache_bytes=cache_bytes))


def batches_of(images):
    augmentation = Augmentation(padding=2, erasing_probability=0.5)
    sampling = Sampling(identities_per_batch=3, images_per_identity=4, augmentation=augmentation)
    return balanced_batches(images, sampling=sampling, seed=1, epochs=3)


def pixels(dataset):
    return [batch["image"].numpy() for batch in dataset]


def test_batches_are_bit_for_bit_those_of_the_files_which_are_read_once(records):
    expected = pixels(batches(records))
    images = TrainingImages(records, SIZE, cache_bytes=NEEDED)
    first = pixels(batches_of(images))
    for record in records:
        os.remove(record.path)
    again = pixels(batches_of(images))  # another data set, as after a checkpoint
    np.testing.assert_array_equal(first, expected)
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("limit", [0, NEEDED - 1])
def test_nothing_is_kept_where_not_all_images_fit(records, limit):
    cache = ImageCache(records, SIZE, limit=limit)
    assert not cache.keeps
    (first,) = cache.load(tf.constant([5]))
    np.testing.assert_array_equal(first, transforms.load(records[5].path, SIZE))
    os.remove(records[5].path)
    with pytest.raises(tf.errors.NotFoundError):
        cache.load(tf.constant([5]))


def test_only_what_is_missing_is_read(records):
    cache = ImageCache(records, SIZE, limit=NEEDED)
    expected = {index: transforms.load(records[index].path, SIZE).numpy() for index in (3, 5, 8)}
    cache.load(tf.constant([5, 8]))
    os.remove(records[5].path)
    for indices in ([8, 3, 3, 5], [3, 5]):
        np.testing.assert_array_equal(cache.load(tf.constant(indices)), [expected[index] for index in indices])
    os.remove(records[11].path)
    with pytest.raises(tf.errors.NotFoundError):
        cache.load(tf.constant([3, 11]))


def test_replicas_share_what_is_kept(records):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    distributed = strategy.experimental_distribute_dataset(batches(records, NEEDED))
    joined = [tf.concat(strategy.experimental_local_results(batch["image"]), 0).numpy() for batch in distributed]
    np.testing.assert_array_equal(joined, pixels(batches(records)))
