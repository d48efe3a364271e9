"""Set-up of all tests: logical devices, reproducible numbers, and the recorded references."""

import logging
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf

from gin import config as gin
from kdas_tf.training.devices.determinism import be_deterministic

# Before TensorFlow starts: distribution is tested on logical CPUs.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)
# Jobs are not deterministic by default, and neither are the tests. Determinism cannot be switched off again, so tests
# that compare bits of two runs have a process of their own: KDAS_TF_TEST_DETERMINISTIC=1, which launch/test.sh sets.
DETERMINISTIC = os.environ.get("KDAS_TF_TEST_DETERMINISTIC") == "1"
if DETERMINISTIC:
    be_deterministic()
keras.utils.set_random_seed(0)  # deterministic operations refuse random numbers without a seed

REFERENCE = Path(__file__).parent / "reference"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("deterministic") and not DETERMINISTIC:
            item.add_marker(pytest.mark.skip(reason="needs KDAS_TF_TEST_DETERMINISTIC=1"))


@pytest.fixture(autouse=True)
def same_random_numbers():
    """Every test draws the same random numbers, whichever tests were run before it."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def reference():
    """Loads an array file of `tests/reference` (its README names the sources)."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(REFERENCE / name, allow_pickle=False) as arrays:
            return dict(arrays)

    return load


@pytest.fixture
def as_before():
    """Puts back what the launcher sets for a whole process."""
    gin.clear_config()
    policy, filters = keras.mixed_precision.dtype_policy(), list(logging.getLogger().filters)
    yield
    gin.clear_config()
    keras.mixed_precision.set_dtype_policy(policy)
    logging.getLogger().filters[:] = filters
    tf.config.optimizer.set_experimental_options({"layout_optimizer": True, "remapping": True})
