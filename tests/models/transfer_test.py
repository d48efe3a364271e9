import numpy as np
import pytest
from keras import ops

from kdas_tf import genotype
from kdas_tf.errors import UserError
from kdas_tf.genotype import Genotype
from kdas_tf.models import saved
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import ResNet
from kdas_tf.models.transfer import start_from


def student(classes, found=genotype.AUTO_REID, **arguments):
    sizes = {"image_size": (32, 32), "channels": 4, "cells": 2, "reductions": (1,)}
    return Student(found, classes, **(sizes | arguments))


def draw(network, seed):
    """Gives every weight other numbers, also the statistics, which all networks begin with alike."""
    random = np.random.default_rng(seed)
    for weight in network.weights:
        weight.assign(random.uniform(0.5, 1.0, weight.shape))
    return network


def numbers(network):
    return [ops.convert_to_numpy(weight) for weight in network.weights]


@pytest.fixture
def pretrained(tmp_path):
    saved.save(draw(student(7), 1), tmp_path, image_size=(32, 32))
    return tmp_path


def test_all_but_the_classifier_is_copied_into_a_network_for_other_classes_and_another_image_size(pretrained):
    network = draw(student(3, image_size=(48, 16)), 2)
    before = numbers(network)
    copied = start_from(network, pretrained)
    assert copied == len(network.weights) - 1
    for weight, old, expected in zip(network.weights, before, numbers(saved.load(pretrained)), strict=True):
        is_classifier = "classifier" in weight.path
        np.testing.assert_array_equal(ops.convert_to_numpy(weight), old if is_classifier else expected, weight.path)


def test_drop_path_and_its_random_state_are_not_copied(pretrained):
    network = student(3, drop_path=0.25)
    state = ops.convert_to_numpy(network.drop_path.generator.state)
    assert start_from(network, pretrained) == len(student(3).weights) - 1
    assert float(ops.convert_to_numpy(network.drop_path.rate)) == 0.25
    np.testing.assert_array_equal(ops.convert_to_numpy(network.drop_path.generator.state), state)


def test_a_resnet_may_have_another_last_stride(tmp_path):
    network = ResNet(18, 3, image_size=(32, 32))
    saved.save(network, tmp_path, image_size=(32, 32))
    other = ResNet(18, 5, image_size=(32, 32), last_stride=1)
    assert start_from(other, tmp_path) == len(other.weights) - 1


def swapped(found):
    """The same operations with the same numbers of weights, but edges that begin elsewhere."""
    (first, a), (second, b), *rest = found.normal
    return Genotype(((first, b), (second, a), *rest), found.reduce, found.concat)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 6}, "not of the same architecture: channels 4 there and 6 here. Give one"),
        ({"cells": 3}, "cells 2 there and 3 here"),
        ({"found": genotype.DARTS_V2}, "another genotype"),
        ({"found": swapped(genotype.AUTO_REID)}, "not of the same architecture: another genotype. Give one"),
        ({"reductions": (0,)}, "another reductions. Give one"),
    ],
)
def test_another_architecture_is_refused_in_one_line_and_nothing_is_copied(pretrained, arguments, message):
    network = draw(student(3, **arguments), 2)
    before = numbers(network)
    with pytest.raises(UserError, match=message) as caught:
        start_from(network, pretrained)
    assert "\n" not in str(caught.value)
    for old, now in zip(before, numbers(network), strict=True):
        np.testing.assert_array_equal(old, now)


def test_another_kind_of_network_is_refused(pretrained):
    with pytest.raises(UserError, match="it is a Student, this one a ResNet"):
        start_from(ResNet(18, 3, image_size=(32, 32)), pretrained)
