"""Set-up of all tests: logical devices, reproducible numbers, and the recorded references."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import tensorflow as tf

# Before TensorFlow starts: distribution is tested on logical CPUs.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture
def reference():
    """Loads an array file of `tests/reference` (its README names the sources)."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(REFERENCE / name, allow_pickle=False) as arrays:
            return dict(arrays)

    return load
