"""The networks on Keras' JAX backend, and the benchmark that times them.

JAX is no requirement. These tests use this Python's, or that of the Python that JAX_PYTHON names; without one they are
skipped.
"""

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from kdas_tf.space import edges, operations
from tests.build_test import ROOT


def run(script, *arguments, python=sys.executable, **environment):
    command = [python, ROOT / "benchmarks" / f"{script}.py", *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def jax_python():
    """A Python that has JAX and Keras."""
    python = os.environ.get("JAX_PYTHON", sys.executable)
    looked = subprocess.run([python, "-c", "import jax"], capture_output=True, text=True)
    if looked.returncode:
        pytest.skip(f"no JAX in {python}; set JAX_PYTHON to a Python that has jax and keras")
    return python


@pytest.mark.slow
def test_outputs_statistics_and_gradients_on_jax_are_those_on_tensorflow(jax_python, tmp_path):
    expected, found = tmp_path / "tensorflow.npz", tmp_path / "jax.npz"
    result = run("backend_numbers", expected, KERAS_BACKEND="tensorflow")
    assert result.returncode == 0, result.stderr
    result = run(
        "backend_numbers",
        *(found, "--compare", expected, "--tolerance", "2e-4"),
        python=jax_python,
        KERAS_BACKEND="jax",
        XLA_FLAGS="--xla_backend_optimization_level=0",  # a third of the time
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "arrays compared" in result.stdout.splitlines()[-1]


@pytest.mark.slow
def test_everything_is_measured_on_the_cpu_at_tiny_sizes(jax_python):
    arguments = ["--cpu", "--only", "Auto-ReID", "--precisions", "bfloat16", "--what", "inference", "step"]
    result = run("gpu_jax", *arguments, python=jax_python, XLA_FLAGS="--xla_backend_optimization_level=0")
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout.splitlines()[-1])
    assert set(content["ceilings"]) == {"float32", "tf32", "bfloat16", "copy"}
    inference, step = content["results"]
    assert 0 < inference["seconds"] < step["seconds"]
    assert inference["operations"] * 3 == step["operations"] > 0
    assert step["peak_bytes"] > inference["peak_bytes"] > 0


@pytest.mark.slow
def test_steps_are_counted_as_xla_counts_them_and_rematerialized_cells_keep_less(jax_python):
    arguments = ["--count", "--only", "Auto-ReID", "supernet", "supernet-remat", "--precisions", "float32"]
    result = run("gpu_jax", *arguments, python=jax_python)
    assert result.returncode == 0, result.stderr
    student, supernet, rematerialized = json.loads(result.stdout.splitlines()[-1])["results"]
    for each in (student, supernet):
        # XLA counts additions, normalisations and functions too, and the optimizers.
        assert 1.0 < each["xla_operations"] / each["operations"] < 1.1
    assert rematerialized["kept_bytes"] < 0.1 * supernet["kept_bytes"]
    assert rematerialized["xla_operations"] > 1.2 * supernet["xla_operations"]


def test_a_missing_jax_is_said_and_is_no_failure(tmp_path):
    (tmp_path / "jax.py").write_text('raise ImportError("there is no JAX here")\n')
    result = run("gpu_jax", PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("not measured: no JAX; install it with python -m pip install")


def test_a_missing_gpu_is_said_and_is_no_failure(jax_python):
    result = run("gpu_jax", python=jax_python, JAX_PLATFORMS="cpu")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("not measured: JAX finds no GPU")


def test_a_network_that_is_not_measured_is_refused_with_the_known_ones():
    result = run("gpu_jax", "--only", "OSNet")
    assert result.returncode == 2
    assert "supernet-remat" in result.stderr and "Traceback" not in result.stderr


@pytest.fixture
def variants(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("jax_variants")


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolutions_by_shifts_are_those_of_the_supernet(variants, stride, dilation):
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=shape).astype("float32") for shape in ((2, 2, 9, 6, 4), (2, 3, 3, 4, 1)))
    way = {"stride": stride, "dilation": dilation}
    np.testing.assert_allclose(
        variants.depthwise_by_shifts(x, kernel, **way), edges.depthwise(x, kernel, **way), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_max_pooling_by_index_is_that_of_the_supernet_with_its_gradient_where_pixels_are_equal(variants, stride):
    import tensorflow as tf

    x = tf.constant(np.random.default_rng(0).integers(0, 3, (2, 8, 6, 4)), tf.float32)
    found = []
    for pool in (variants.max_pool_by_index, operations._max_pool):
        with tf.GradientTape() as tape:
            tape.watch(x)
            pooled = pool(x, stride)
        weights = np.random.default_rng(1).normal(size=pooled.shape).astype("float32")
        found.append((pooled, tape.gradient(pooled, x, output_gradients=weights)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-6)
