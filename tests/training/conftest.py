"""What the tests of training share."""

import pytest
import tensorflow as tf


@pytest.fixture(scope="session")
def two_devices():
    """One for all tests of a process: the collectives of several strategies confuse one another."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
