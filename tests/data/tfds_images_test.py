"""What needs TensorFlow Datasets is skipped where it is not installed: it is no requirement of the project."""

import sys

import numpy as np
import pytest

from kdas_tf.data.class_batches import RandomResizedCrop, training_batches, validation_batches
from kdas_tf.data.tfds_images import TfdsImages
from kdas_tf.errors import UserError

IMAGES = {"train": 12, "validation": 5}


def test_without_the_package_people_are_told_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(UserError, match="Install it: python -m pip install tensorflow-datasets") as caught:
        TfdsImages(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data set in TFDS' own files: image number n is of one grey value, 10 n, and of class n % 3."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class TinyGrey(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["a", "b", "c"])}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, download):
            return {
                "train": self._generate_examples(0, IMAGES["train"]),
                "validation": self._generate_examples(IMAGES["train"], sum(IMAGES.values())),
            }

        def _generate_examples(self, first, last):
            for number in range(first, last):
                yield number, {"image": np.full((20, 30, 3), 10 * number, np.uint8), "label": number % 3}

    folder = tmp_path_factory.mktemp("tfds")
    TinyGrey(data_dir=folder).download_and_prepare()
    return str(folder)


def numbers_of(dataset):
    for batch in dataset:
        numbers = (batch["image"].numpy().mean((1, 2, 3)) / 10).round().astype(int)
        np.testing.assert_array_equal(batch["label"], numbers % 3)
        yield from numbers


def train(prepared, **arguments):
    return training_batches(
        TfdsImages(prepared, "tiny_grey"),
        image_size=(8, 8),
        batch_size=4,
        augmentation=RandomResizedCrop(),
        seed=1,
        **arguments,
    )


def test_names_and_numbers_of_the_classes_and_images_are_known(prepared):
    images = TfdsImages(prepared, "tiny_grey")
    assert list(images.classes) == ["a", "b", "c"]
    assert (images.train_images, images.val_images) == (12, 5)


def test_an_epoch_shows_every_image_once_and_each_epoch_in_another_order(prepared):
    numbers = list(numbers_of(train(prepared, epochs=4)))
    epochs = [tuple(numbers[first : first + 12]) for first in range(0, 48, 12)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len(set(epochs)) == 4


def test_starting_at_a_later_epoch_continues_bit_for_bit(prepared):
    whole, later = list(train(prepared, epochs=3)), list(train(prepared, start_epoch=1, epochs=3))
    assert len(whole[3:]) == len(later) == 6
    for one, other in zip(whole[3:], later, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        np.testing.assert_array_equal(one["label"], other["label"])


def test_images_to_judge_by_come_once_and_in_order(prepared):
    batches = list(validation_batches(TfdsImages(prepared, "tiny_grey"), image_size=(8, 8), batch_size=3))
    assert sorted(list(numbers_of(batches))[:5]) == [12, 13, 14, 15, 16]
    np.testing.assert_array_equal(np.concatenate([batch["weight"] for batch in batches]), [1, 1, 1, 1, 1, 0])


def test_a_data_set_that_is_not_there_is_refused_in_one_line(prepared):
    with pytest.raises(UserError, match="TensorFlow Datasets cannot read tiny_gray in") as caught:
        TfdsImages(prepared, "tiny_gray")
    assert "\n" not in str(caught.value)


def test_a_data_set_that_was_never_prepared_is_refused_with_the_command_that_does(tmp_path, prepared):
    with pytest.raises(UserError, match="tfds build imagenet2012 --data_dir="):
        TfdsImages(str(tmp_path), "imagenet2012")
