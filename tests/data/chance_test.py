import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.data import chance


@pytest.mark.parametrize("count", [1, 4, 70])
@pytest.mark.parametrize("bits", [32, 64])
def test_the_numbers_are_the_bits_of_tensorflow_s_generator(count, bits):
    seeds = np.random.default_rng(0).integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, (20, 2), np.int64)
    expected = [tf.random.stateless_uniform([count], seed) for seed in tf.cast(seeds, f"int{bits}")]
    numbers = chance.uniform(seeds, count)
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers, expected)


def test_no_seeds_give_no_numbers():
    assert chance.uniform(np.zeros((0, 2), np.int32), 5).shape == (0, 5)
