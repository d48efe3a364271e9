import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
import tensorflow as tf

from kdas_tf.training.devices.strategy import make_strategy, threads_for_cells

ROOT = Path(__file__).parents[3]


def test_precision_and_devices_are_set_for_the_process():
    before = keras.mixed_precision.dtype_policy()
    try:
        assert make_strategy(1, None, "mixed_bfloat16").num_replicas_in_sync == 1
        assert keras.mixed_precision.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.mixed_precision.set_dtype_policy(before)
        tf.config.optimizer.set_experimental_options({"layout_optimizer": True, "remapping": True})


@pytest.mark.parametrize(("cores", "variable", "threads"), [(2, None, 1), (4, None, 1), (5, None, 0), (2, "2", 0)])
def test_a_network_of_cells_gets_one_thread_an_operation_on_few_cores(monkeypatch, cores, variable, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if variable:
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", variable)
    assert threads_for_cells() == threads


@pytest.mark.parametrize(
    ("job", "given", "threads"), [("search", "None", "1"), ("evaluate", "None", "0"), ("evaluate", "3", "3")]
)
def test_the_launcher_says_how_many_threads_share_an_operation(job, given, threads):
    """In a process of its own: threads are fixed once TensorFlow has started."""
    code = (
        "import os; os.sched_getaffinity = lambda process: {0, 1}\n"
        "from kdas_tf.launch import parse_and_run\n"
        f"parse_and_run(['--gin_file=gin/{job}.gin', '--gin_file=gin/scale/tiny.gin', '--dry_run',\n"
        f"    '--gin_param=launch.run.intra_op_threads={given}'])\n"
        "import tensorflow as tf; print(tf.config.threading.get_intra_op_parallelism_threads())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TF_NUM_INTRAOP_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == threads


def test_logical_cpus_make_as_many_replicas():
    """In a process of its own: logical devices are fixed once TensorFlow has started."""
    module = "kdas_tf.training.devices.strategy"
    code = f"from {module} import make_strategy; print(make_strategy(2, 3, 'float32').num_replicas_in_sync)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "2"
