import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.training.devices.determinism import be_deterministic


def sums_under(names):
    """Sums of three numbers, many times over, in a graph in which the numbers have these names."""
    values = np.random.default_rng(0).uniform(0, 9, (3, 1000)).astype("float32")

    @tf.function
    def sums(*arguments):
        parts = []
        for name, value in zip(names, arguments, strict=True):
            with tf.name_scope(name):
                parts.append(tf.sqrt(value))
        return tf.add_n(parts), parts[0] + (parts[1] + parts[2])

    return np.stack([result.numpy() for result in sums(*map(tf.constant, values))])


@pytest.mark.deterministic
def test_the_order_of_a_sum_does_not_depend_on_the_names_of_its_terms():
    names = [("layer_8", "layer_9", "layer_7"), ("layer_9", "layer_10", "layer_8")]
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True})
    one, other = map(sums_under, names)
    be_deterministic()
    assert np.any(one != other)  # what the graph optimizer does by itself
    np.testing.assert_array_equal(*map(sums_under, names))
