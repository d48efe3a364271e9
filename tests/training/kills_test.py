"""A search that is killed: the same command continues, and the result has the bits of a search that was not killed."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.training.jobs import Job

PARAMS = ("CELLS=1", "REDUCTIONS=()", "SEARCH_EPOCHS=3", "BACKBONE='MobileNet'", "BACKBONE_ARGUMENTS={'alpha': 0.25}")
FLAGS = ("--gin_file=gin/search.gin", "--gin_file=gin/scale/tiny.gin", "--deterministic")


def search(workdir, folder):
    folder.mkdir()
    return Job([*FLAGS, *(f"--gin_param={param}" for param in PARAMS), f"--workdir={workdir}"], folder, workers=1)


def last_checkpoint(workdir):
    reader = tf.train.load_checkpoint(str(workdir / "search/checkpoints/epoch_3/state"))
    names = set(reader.get_variable_to_shape_map()) - {"_CHECKPOINTABLE_OBJECT_GRAPH"}
    return {name: reader.get_tensor(name) for name in names}


def metrics(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [line for line in lines if json.loads(line)["stage"] == "search"]


@pytest.mark.slow
def test_a_search_that_is_killed_and_whose_newest_checkpoint_is_damaged_gives_the_same_bits(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with search(whole, tmp_path / "first") as job:
        assert job.wait() == [0], job.said()
    for stage in ("data", "teacher"):
        shutil.copytree(whole / stage, parts / stage)
    checkpoints = parts / "search" / "checkpoints"
    with search(parts, tmp_path / "killed") as job:
        job.wait_until((checkpoints / "epoch_2").exists)
        job.processes[0].kill()
        job.processes[0].wait()
    file = checkpoints / "epoch_2" / "state.data-00000-of-00001"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with search(parts, tmp_path / "continued") as job:
        assert job.wait() == [0], job.said()
        assert "continuing after epoch 1 of 3" in job.said()[0]

    assert (parts / "search/genotype.json").read_text() == (whole / "search/genotype.json").read_text()
    assert metrics(parts) == metrics(whole) and len(metrics(whole)) == 3
    expected, found = last_checkpoint(whole), last_checkpoint(parts)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
