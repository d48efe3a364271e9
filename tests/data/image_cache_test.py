import os

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.data import pipeline, transforms
from kdas_tf.data.image_cache import ImageCache
from kdas_tf.data.records import relabel
from kdas_tf.data.transforms import Augmentation
from kdas_tf.errors import UserError
from kdas_tf.settings import Sampling

SIZE = (10, 4)
IMAGES = 12
NEEDED = IMAGES * 10 * 4 * 3 * 4


@pytest.fixture
def records(make_records):
    return make_records(3, 4, size=(17, 6))


def batches(records, cache=None):
    return pipeline.balanced_batches(
        records,
        relabel(records)[0],
        range(IMAGES),
        image_size=SIZE,
        sampling=Sampling(
            identities_per_batch=3,
            images_per_identity=4,
            augmentation=Augmentation(padding=2, erasing_probability=0.5),
        ),
        seed=1,
        epochs=3,
        cache=cache,
    )


def pixels(dataset):
    return [batch["image"].numpy() for batch in dataset]


def test_batches_are_bit_for_bit_those_of_the_files_which_are_read_once(records):
    expected = pixels(batches(records))
    cache = ImageCache(records, SIZE, limit=NEEDED)
    first = pixels(batches(records, cache))
    for record in records:
        os.remove(record.path)
    again = pixels(batches(records, cache))  # another data set, as after a checkpoint
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
    distributed = strategy.experimental_distribute_dataset(batches(records, ImageCache(records, SIZE, limit=NEEDED)))
    joined = [tf.concat(strategy.experimental_local_results(batch["image"]), 0).numpy() for batch in distributed]
    np.testing.assert_array_equal(joined, pixels(batches(records)))


@pytest.mark.parametrize("limit", [-1, float("nan")])
def test_a_limit_that_is_none_is_an_error(records, limit):
    with pytest.raises(UserError, match="at least 0 bytes"):
        ImageCache(records, SIZE, limit=limit)


def test_a_cache_of_another_size_is_not_used(records):
    with pytest.raises(UserError, match=r"of \(10, 4\), but got one of \(20, 8\)"):
        batches(records, ImageCache(records, (20, 8), limit=0))
