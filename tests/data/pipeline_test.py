import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.data import pipeline, transforms
from kdas_tf.data.records import relabel
from kdas_tf.data.sampler import BalancedSampler
from kdas_tf.data.transforms import Augmentation
from kdas_tf.errors import UserError
from kdas_tf.settings import Sampling

SIZE = (12, 6)
EVERYTHING = Augmentation(padding=3, erasing_probability=0.5)


@pytest.fixture
def records(make_records):
    return make_records(5, 6, size=SIZE)


def batches(records, *, augmentation=EVERYTHING, seed=3, epochs=2, **more):
    sampling = Sampling(identities_per_batch=3, images_per_identity=4, augmentation=augmentation)
    images = pipeline.TrainingImages(records, SIZE)
    return pipeline.balanced_batches(images, sampling=sampling, seed=seed, epochs=epochs, **more)


def assert_same(ones, others):
    ones, others = list(ones), list(others)
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others, strict=True):
        for key in ("image", "label", "index"):
            np.testing.assert_array_equal(one[key], other[key])


def test_shapes_are_static_and_the_length_is_known(records):
    dataset = batches(records, epochs=5)
    assert dataset.element_spec == {
        "image": tf.TensorSpec([12, *SIZE, 3], tf.float32),
        "label": tf.TensorSpec([12], tf.int32),
        "index": tf.TensorSpec([12], tf.int32),
    }
    assert dataset.cardinality() == len(list(dataset)) == 5 * 2  # 30 images fill two batches of 12


@pytest.mark.parametrize("cache_bytes", [0, 1e9])
def test_a_teacher_sees_the_same_photographs_at_its_own_size(records, cache_bytes):
    sampling = Sampling(identities_per_batch=3, images_per_identity=4)
    images = pipeline.TrainingImages(records, SIZE, cache_bytes=cache_bytes, teacher_size=(20, 10))
    seen = list(pipeline.balanced_batches(images, sampling=sampling, seed=3, epochs=1))
    assert_same(seen, batches(records, augmentation=None, epochs=1))
    for batch in seen:
        for image, index in zip(batch["teacher_image"], batch["index"], strict=True):
            np.testing.assert_array_equal(image, transforms.load(tf.constant(records[index].path), (20, 10)))


def test_a_batch_holds_the_sampler_s_images_with_their_labels(records):
    labels = np.array(relabel(records)[0])
    indices = np.arange(0, 30, 2)[::-1].copy()
    sampler = BalancedSampler(labels[indices], 3, 4, seed=3)
    seen = list(batches(records, indices=indices, augmentation=None))
    assert len(seen) == 2
    for epoch, batch in enumerate(seen):
        expected = indices[sampler.batch(epoch, 0)]
        np.testing.assert_array_equal(batch["index"], expected)
        np.testing.assert_array_equal(batch["label"], labels[expected])
        for image, index in zip(batch["image"].numpy(), expected, strict=True):
            # The fixture draws photograph number n from seed n.
            np.testing.assert_array_equal(
                image, np.random.default_rng(index).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            )


def test_starting_at_a_later_epoch_continues_bit_for_bit(records):
    uninterrupted = list(batches(records, epochs=4))
    assert_same(batches(records, start_epoch=2, epochs=4), uninterrupted[4:])
    assert_same(batches(records, epochs=2), uninterrupted[:4])
    inside = batches(records, start_epoch=1, start_step=1, epochs=4)
    assert_same(inside, uninterrupted[3:])
    assert inside.cardinality() == 5


def test_reading_twice_gives_the_same_and_another_seed_another(records):
    dataset = batches(records)
    assert_same(dataset, dataset)
    first, other = next(iter(dataset)), next(iter(batches(records, seed=4)))
    assert (first["index"].numpy() != other["index"].numpy()).any()


def test_the_same_image_is_augmented_differently_at_every_place(records):
    images = [
        image.tobytes()
        for batch in batches(records, indices=range(18), epochs=10)
        for image, index in zip(batch["image"].numpy(), batch["index"].numpy(), strict=True)
        if index == 7
    ]
    assert len(images) > 5
    assert len(set(images)) == len(images)


def test_replicas_get_the_parts_of_the_global_batch(records):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    distributed = strategy.experimental_distribute_dataset(batches(records))
    joined = []
    for batch in distributed:
        parts = {key: strategy.experimental_local_results(value) for key, value in batch.items()}
        assert [len(part) for part in parts["label"]] == [6, 6]
        joined.append({key: tf.concat(part, axis=0) for key, part in parts.items()})
    assert_same(joined, batches(records))


def test_the_shards_of_several_processes_are_together_the_batch(records):
    shards = [list(batches(records, shard=pipeline.BatchShard(worker, 2, devices=3))) for worker in range(2)]
    joined = []
    for step in range(4):  # of each process, three parts of two rows
        parts = [part for shard in shards for part in shard[3 * step : 3 * step + 3]]
        joined.append({key: tf.concat([part[key] for part in parts], axis=0) for key in parts[0]})
    assert_same(joined, batches(records))


def test_too_few_identities_for_a_batch_are_an_error(records):
    with pytest.raises(UserError, match="the images show 2"):
        batches(records, indices=range(12))


def test_ordered_batches_hold_every_image_once_in_order(records):
    dataset = pipeline.ordered_batches(records, image_size=SIZE, batch_size=8)
    assert dataset.element_spec == {"image": tf.TensorSpec([None, *SIZE, 3], tf.float32)}
    assert dataset.cardinality() == 4
    seen = [batch["image"].numpy() for batch in dataset]
    assert [len(batch) for batch in seen] == [8, 8, 8, 6]
    for number, image in enumerate(np.concatenate(seen)):
        np.testing.assert_array_equal(image, np.random.default_rng(number).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def test_ordered_batches_of_no_image_are_empty():
    assert list(pipeline.ordered_batches([], image_size=SIZE, batch_size=8)) == []


def test_a_batch_size_below_one_is_an_error(records):
    with pytest.raises(UserError, match="batch_size >= 1, but got 0"):
        pipeline.ordered_batches(records, image_size=SIZE, batch_size=0)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (os.remove, "No such file"),
        (lambda path: os.truncate(path, 100), "cut short"),
        (lambda p: os.truncate(p, 0), "empty"),
    ],
)
@pytest.mark.parametrize("kind", ["balanced", "ordered"])
def test_an_image_damaged_after_verification_is_an_error_that_names_it(records, damage, reason, kind):
    damage(records[11].path)
    dataset = {
        "balanced": lambda: batches(records, epochs=3),
        "ordered": lambda: pipeline.ordered_batches(records, image_size=SIZE, batch_size=8),
    }[kind]()
    with pytest.raises(UserError, match=f"{records[11].path}: .*{reason}"), pipeline.naming_damaged_images(records):
        list(dataset)


def test_other_errors_pass_unchanged(records):
    with pytest.raises(tf.errors.InvalidArgumentError), pipeline.naming_damaged_images(records):
        tf.reshape(tf.zeros([2]), [3])


def test_file_names_need_not_be_utf8(records):
    strange = os.fsdecode(os.fsencode(os.path.dirname(records[0].path)) + b"/0001_c1s1_\xff.png")
    os.rename(records[0].path, strange)
    record = dataclasses.replace(records[0], path=strange)
    assert len(list(pipeline.ordered_batches([record], image_size=SIZE, batch_size=1))) == 1
