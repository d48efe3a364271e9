"""Mixed precision through the stages: losses are finite and near float32's, and all that is kept is float32."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.settings import Monitoring
from kdas_tf.stages import train
from tests.stages import pretrain_test, small


def one_epoch_of_each_stage(workdir):
    """Runs the stages under the policy that is set; returns their metrics by stage, and the alphas."""
    small.prepare(workdir, view="clean")  # one run of the teacher: its training is what is new here
    small.run_search(workdir, epochs=1, monitoring=Monitoring(measured_batches=1))
    train.run(
        small.job(workdir, "train"),
        network=small.CELLS,
        sampling=small.SAMPLING,
        fitting=dataclasses.replace(small.ADAM, epochs=1),
        architecture="AUTO_REID",
        temperature=lambda epoch: 2.0,
    )
    pretrain_test.run(workdir, pretrain_test.make_images(workdir / "colours"), epochs=1)
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    alphas = json.loads((workdir / "search" / "genotype.json").read_text())["alphas"]
    return {entry["stage"]: entry for entry in entries}, alphas


@pytest.fixture(scope="module")
def result_of(tmp_path_factory):
    """Runs the stages once for each policy; returns also the folder."""

    @functools.cache
    def run(policy):
        before, workdir = keras.mixed_precision.dtype_policy(), tmp_path_factory.mktemp(policy)
        keras.mixed_precision.set_dtype_policy(policy)
        try:
            return (*one_epoch_of_each_stage(workdir), workdir)
        finally:
            keras.mixed_precision.set_dtype_policy(before)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_every_stage_learns_in_mixed_precision_as_in_float32(policy, result_of):
    expected, expected_alphas, _ = result_of("float32")
    metrics, alphas, workdir = result_of(policy)
    assert set(metrics) == set(expected) == {"teacher", "search", "train", "pretrain"}
    for stage, entry in metrics.items():
        assert all(np.all(np.isfinite(value)) for name, value in entry.items() if name != "stage"), stage
        for name in ("total", "distillation", "triplet"):
            if name in entry:
                assert entry[name] == pytest.approx(expected[stage][name], rel=0.2), (
                    stage,
                    name,
                )  # a few steps of young networks
        (last,) = (workdir / stage / "checkpoints").iterdir()  # of a finished stage
        reader = tf.train.load_checkpoint(str(last / "state"))
        kinds = {kind for kind in reader.get_variable_to_dtype_map().values() if kind.is_floating}
        assert kinds == {tf.float32}, stage  # weights, alphas, statistics and optimizers
    # Of the cell near the loss; Adam makes whole steps of the other one's gradients, mostly rounding so early.
    assert np.corrcoef(np.ravel(alphas["reduce"]), np.ravel(expected_alphas["reduce"]))[0, 1] > 0.5
