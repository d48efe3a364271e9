import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from kdas_tf.serving.graphs.plain_operations import Map, as_map, joined, plain_operation

from kdas_tf.genotype import OPERATIONS
from kdas_tf.serving.graphs.targets import TensorFlowTarget
from kdas_tf.space.mixed import make_operation
from kdas_tf.space.operations import PointwiseConv
from tests.serving import networks


def check(operation, size, channels=6):
    operation.build((None, *size, channels))
    generator = np.random.default_rng(0)
    for weight in operation.weights:  # biases too start as zeros
        weight.assign(generator.uniform(-0.5, 0.5, weight.shape))
    networks.untrained(keras.Sequential([operation]))
    x = generator.normal(size=(2, *size, channels)).astype("float32")
    expected = operation(x, training=False)[0]
    target = TensorFlowTarget()
    found = plain_operation(operation, target)(as_map(target, tf.constant(x)))
    np.testing.assert_allclose(found.raw, expected, atol=2e-5)
    np.testing.assert_allclose(found.relu, np.maximum(expected, 0), atol=2e-5)


@pytest.mark.parametrize("size", [(8, 6), (9, 7), (11, 4)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_plain_operation_gives_what_its_layer_gives(name, stride, size):
    check(make_operation(name, 6, stride=stride), size)


@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "skip_connect"])
def test_normalisations_may_have_no_scale_or_follow_a_pool_or_be_missing(name):
    check(make_operation(name, 6, stride=2, affine=False, normalize=True), (8, 6))
    check(make_operation(name, 6, stride=2, normalize=False), (8, 6))


def test_a_map_and_its_relu_are_made_once_and_only_if_somebody_asks():
    made = []
    parts = [Map(lambda i=i: made.append(i) or i, lambda: None) for i in range(3)]
    whole = joined(types.SimpleNamespace(concat=list), parts[:2])
    assert made == []
    assert whole.raw == whole.raw == [0, 1]
    assert made == [0, 1]


def test_the_input_of_a_cell_changes_width():
    check(PointwiseConv(4), (5, 3))
