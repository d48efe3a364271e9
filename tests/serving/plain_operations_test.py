import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.genotype import OPERATIONS
from kdas_tf.serving.plain_operations import plain_operation
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
    np.testing.assert_allclose(plain_operation(operation)(tf.constant(x)), expected, atol=2e-5)


@pytest.mark.parametrize("size", [(8, 6), (9, 7), (11, 4)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_plain_operation_gives_what_its_layer_gives(name, stride, size):
    check(make_operation(name, 6, stride=stride), size)


@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "skip_connect"])
def test_normalisations_may_have_no_scale_or_follow_a_pool_or_be_missing(name):
    check(make_operation(name, 6, stride=2, affine=False, normalize=True), (8, 6))
    check(make_operation(name, 6, stride=2, normalize=False), (8, 6))


def test_the_input_of_a_cell_changes_width():
    check(PointwiseConv(4), (5, 3))
