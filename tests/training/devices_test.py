import subprocess
import sys
from pathlib import Path

import keras
import tensorflow as tf

from kdas_tf.training.devices import make_strategy

ROOT = Path(__file__).parents[2]


def test_precision_and_devices_are_set_for_the_process():
    before = keras.mixed_precision.dtype_policy()
    try:
        assert make_strategy(1, None, "mixed_bfloat16").num_replicas_in_sync == 1
        assert keras.mixed_precision.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_dtype_policy(before)
        tf.config.optimizer.set_experimental_options({"layout_optimizer": True})


def test_logical_cpus_make_as_many_replicas():
    """In a process of its own: logical devices are fixed once TensorFlow has started."""
    code = (
        "from kdas_tf.training.devices import make_strategy; print(make_strategy(2, 3, 'float32').num_replicas_in_sync)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "2"
