import json

import keras
import numpy as np
import pytest

from kdas_tf import genotype
from kdas_tf.errors import UserError
from kdas_tf.models import saved
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import ResNet
from kdas_tf.models.teacher_network import Teacher


def student():
    return Student(genotype.AUTO_REID, 5, image_size=(32, 16), channels=4, cells=2, reductions=(1,))


def teacher():
    return Teacher("MobileNetV2", 5, image_size=(32, 32), backbone_arguments={"alpha": 0.35})


def student_with_options():
    arguments = {"channels": 4, "cells": 2, "reductions": (1,), "stem": "cifar", "drop_path": 0.2}
    return Student(genotype.DARTS_V2, 5, image_size=(32, 16), **arguments)


def resnet():
    return ResNet(18, 5, image_size=(32, 16), last_stride=1)


@pytest.mark.parametrize("make", [student, teacher, student_with_options, resnet])
def test_a_saved_network_says_the_same_when_it_is_loaded(tmp_path, make):
    network = make()
    for variable in network.variables:  # also the statistics, which start alike
        variable.assign(np.random.default_rng(0).uniform(0.5, 1, variable.shape))
    saved.save(network, tmp_path, image_size=(32, 16))
    images = np.random.default_rng(1).uniform(0, 255, (2, 32, 16, 3)).astype("float32")
    loaded = saved.load(tmp_path)
    assert type(loaded) is type(network)
    for ours, theirs in zip(network(images), loaded(images), strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs))
    assert saved.describe(tmp_path)["image_size"] == (32, 16)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / saved.INDEX).unlink(), "Expected a trained network"),
        (lambda folder: (folder / saved.INDEX).write_text("[1]"), "Expected a trained network"),
        (lambda folder: (folder / saved.WEIGHTS).unlink(), "cannot be loaded"),
        (lambda folder: (folder / saved.WEIGHTS).write_bytes(b"PK damaged"), "cannot be loaded"),
        (lambda folder: _change(folder, kind="Lambda"), "to be one of Student, Teacher, ResNet"),
        (lambda folder: _change(folder, config={"genotype": {}}), "cannot be loaded"),
        (lambda folder: _change(folder, image_size=[3]), "Expected a trained network"),
    ],
)
def test_a_damaged_network_is_refused_in_one_line(tmp_path, damage, message):
    saved.save(student(), tmp_path, image_size=(32, 16))
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        saved.load(tmp_path)
    assert "\n" not in str(caught.value)


def _change(folder, **changes):
    path = folder / saved.INDEX
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
