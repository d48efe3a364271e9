"""What the tests of training share."""

import keras
import pytest
import tensorflow as tf


class FourDevices(tf.distribute.MirroredStrategy):
    _collective_key_base = 1000  # TensorFlow's own way for tests to keep the collectives of two strategies apart


@pytest.fixture(scope="session")
def two_devices():
    """One for all tests of a process: the collectives of several strategies confuse one another."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def four_devices():
    return FourDevices([f"CPU:{number}" for number in range(4)])


@pytest.fixture
def float64():
    """Computes with 53 bits: rounding, which a young network doubles at each step, stays far below real differences."""
    before = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(before)
