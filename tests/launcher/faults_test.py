"""Real faults: full and read-only file systems, limits on files, memory that is not there."""

import ctypes
import os
import resource
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf import files
from kdas_tf.errors import UserError
from kdas_tf.launcher import faults
from kdas_tf.settings import Sampling
from kdas_tf.training.callbacks import MetricsFile
from kdas_tf.training.checkpoints import Checkpoints, Position

P_AND_K = {"sampling": Sampling(identities_per_batch=16, images_per_identity=4)}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB of its own, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this process may not mount a file system")
    yield folder
    ctypes.CDLL(None).umount2(os.fsencode(folder), 2)  # MNT_DETACH: whatever is still open


def explained(action):
    """What people read about the error of an action."""
    with pytest.raises(Exception) as caught:
        action()
    line = faults.explain(caught.value, "search", P_AND_K)
    assert line is not None and "\n" not in line, repr(caught.value)
    return line


def large_checkpoints(folder):
    variable = tf.Variable(np.zeros(100_000, "float32"))  # 400 kB
    return Checkpoints(folder / "checkpoints", {"variable": variable}), variable


def test_a_full_disk_stops_a_checkpoint_and_the_run_continues_once_there_is_room(small_disk):
    checkpoints, variable = large_checkpoints(small_disk)
    for epoch in (1, 2):
        variable.assign(np.full(100_000, float(epoch)))
        checkpoints.save(Position(epoch))
    with pytest.raises(UserError, match=r"write the checkpoint .*epoch_3.*No space left on device.*make room"):
        checkpoints.save(Position(3))
    assert {path.name for path in (small_disk / "checkpoints").iterdir()} == {"epoch_1", "epoch_2"}
    assert not list((small_disk / "checkpoints").glob("partial*"))
    variable.assign(np.zeros(100_000))
    assert checkpoints.restore() == Position(2) and np.all(variable.numpy() == 2)
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    checkpoints.save(Position(3))
    assert checkpoints.restore() == Position(3)


def test_a_disk_that_becomes_read_only_stops_a_checkpoint(small_disk):
    checkpoints, _ = large_checkpoints(small_disk)
    checkpoints.save(Position(1))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(UserError, match=r"epoch_2, but it failed .Read-only file system.*give access"):
        checkpoints.save(Position(2))
    assert "access was refused" in explained(lambda: files.write_json(small_disk / "train.json", {}))
    assert checkpoints.restore() == Position(1)


def test_a_limit_on_the_size_of_files_stops_a_checkpoint(tmp_path):
    checkpoints, _ = large_checkpoints(tmp_path)
    checkpoints.save(Position(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match="Expected to write the checkpoint"):
            checkpoints.save(Position(2))
        line = explained(lambda: (tmp_path / "large").write_bytes(bytes(200_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "Make room" in line
    assert checkpoints.restore() == Position(1)


def test_metrics_on_a_full_disk(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl", "search", 0)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    line = explained(lambda: metrics.on_epoch_end(0, {"total": 1.0}))
    assert "Expected room on the disk" in line and "the same command continues" in line


def test_memory_that_is_not_there_says_what_to_lower_and_by_how_much():
    line = explained(lambda: tf.zeros([1 << 20, 1 << 23]))  # 32 TiB
    assert "Out of memory in the stage search (the last request: shape[1048576,8388608])" in line
    assert "Lower search/settings.Sampling.identities_per_batch from 16 to 8" in line and "mixed_bfloat16" in line
    assert "batch_size from 256 to 128" in faults.explain(MemoryError(), "pretrain", {"batch_size": 256})
    assert "Lower the sizes" in faults.explain(MemoryError(), "evaluate", {})


def test_faults_of_the_program_are_not_explained_away():
    for error in (ValueError("shape"), KeyError("x"), FileNotFoundError(2, "No such file"), ZeroDivisionError()):
        assert faults.explain(error, "search", P_AND_K) is None


def test_a_clock_that_goes_backwards_changes_nothing_about_checkpoints(tmp_path):
    variable = tf.Variable(0.0)
    checkpoints = Checkpoints(tmp_path, {"variable": variable}, keep=2)
    for epoch in (9, 10, 11):
        variable.assign(epoch)
        checkpoints.save(Position(epoch))
        for path in (tmp_path / f"epoch_{epoch}", *(tmp_path / f"epoch_{epoch}").iterdir()):
            os.utime(path, (2_000_000_000 - epoch * 86_400,) * 2)
    assert [path.name for path in checkpoints.all()] == ["epoch_10", "epoch_11"]
    assert checkpoints.restore() == Position(11) and variable.numpy() == 11
