import hashlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf import genotype
from kdas_tf.errors import UserError
from kdas_tf.models.networks import Student, Supernet
from kdas_tf.models.teacher_network import Teacher
from kdas_tf.training.checkpoints import Checkpoints, Position

SMALL = {"image_size": (32, 16), "channels": 4, "cells": 2, "reductions": (1,)}


def everything(network, optimizer):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in (*network.variables, *optimizer.variables)]


def round_trip(make, folder):
    """Saves a network whose variables are all odd numbers, and restores it into a new one."""
    results = []
    for first in (True, False):
        network, optimizer = make(), keras.optimizers.Adam()
        optimizer.build(network.trainable_variables)
        checkpoints = Checkpoints(folder, {"network": network, "optimizer": optimizer})
        if first:
            random = np.random.default_rng(0)
            for variable in (*network.variables, *optimizer.variables):
                variable.assign(random.integers(1, 100, variable.shape))
            checkpoints.save(Position(3))
        else:
            assert checkpoints.restore() == Position(3)
        results.append(everything(network, optimizer))
    return results


def test_all_of_a_student_is_restored_its_statistics_too(tmp_path):
    saved, restored = round_trip(lambda: Student(genotype.AUTO_REID, 5, **SMALL), tmp_path)
    for a, b in zip(saved, restored, strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_of_a_supernet_is_restored(tmp_path):
    saved, restored = round_trip(lambda: Supernet(5, **SMALL), tmp_path)
    for a, b in zip(saved, restored, strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_of_a_teacher_is_restored(tmp_path):
    saved, restored = round_trip(
        lambda: Teacher("MobileNetV2", 5, image_size=(32, 32), backbone_arguments={"alpha": 0.35}), tmp_path
    )
    for a, b in zip(saved, restored, strict=True):
        np.testing.assert_array_equal(a, b)


def three(folder, **arguments):
    """Checkpoints after epochs 1 to 3 of one variable, which holds 10, 20 and 30."""
    variable = tf.Variable(np.zeros(1000, "float32"))
    checkpoints = Checkpoints(folder / "checkpoints", {"variable": variable}, **arguments)
    for epoch in (1, 2, 3):
        variable.assign(np.full(1000, 10.0 * epoch))
        checkpoints.save(Position(epoch))
    variable.assign(np.zeros(1000))
    return checkpoints, variable


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [flip_a_bit, cut, lambda path: path.unlink()], ids=["bit", "cut", "gone"])
@pytest.mark.parametrize("file", ["state.data-00000-of-00001", "state.index", "position.json", "checksums.json"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(file, damage, tmp_path, caplog):
    checkpoints, variable = three(tmp_path)
    damage(tmp_path / "checkpoints" / "epoch_3" / file)
    assert checkpoints.restore() == Position(2)
    assert np.all(variable.numpy() == 20)
    assert "epoch_3 is damaged" in caplog.text and "The one before it is used" in caplog.text
    checkpoints.save(Position(3))  # takes its place
    assert checkpoints.restore() == Position(3)


def test_if_all_are_damaged_the_run_does_not_begin_again_unasked(tmp_path):
    checkpoints, _ = three(tmp_path)
    for folder in checkpoints.all():
        flip_a_bit(folder / "state.index")
    with pytest.raises(UserError, match=r"Delete the folder .* to start the stage again"):
        checkpoints.restore()


def test_the_last_ones_are_kept_the_newest_is_that_of_the_latest_step(tmp_path):
    checkpoints, _ = three(tmp_path, keep=2)
    assert [path.name for path in checkpoints.all()] == ["epoch_2", "epoch_3"]
    checkpoints.save(Position(3, 11, ((0.1,), (2.0, 3.5))))
    checkpoints.save(Position(3, 9))
    assert [path.name for path in checkpoints.all()] == ["epoch_3_step_9", "epoch_3_step_11"]
    assert checkpoints.restore() == Position(3, 11, ((0.1,), (2.0, 3.5)))
    with pytest.raises(UserError, match="at least 1, got 0"):
        three(tmp_path, keep=0)


def test_what_a_killed_process_left_unfinished_is_no_checkpoint(tmp_path):
    checkpoints, _ = three(tmp_path)
    (tmp_path / "checkpoints" / "epoch_3").rename(tmp_path / "checkpoints" / "partial.epoch_3")
    assert checkpoints.restore() == Position(2)
    checkpoints.save(Position(3))
    assert not (tmp_path / "checkpoints" / "partial.epoch_3").exists()


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    three(tmp_path)
    other = Checkpoints(tmp_path / "checkpoints", {"variable": tf.Variable(np.zeros(3, "float32"))})
    with pytest.raises(UserError, match="made by a run with other settings"):
        other.restore()
    more = {"variable": tf.Variable(np.zeros(1000, "float32")), "more": tf.Variable(1.0)}
    with pytest.raises(UserError, match="made by a run with other settings"):
        Checkpoints(tmp_path / "checkpoints", more).restore()


def test_checksums_can_be_checked_with_other_tools(tmp_path):
    three(tmp_path)
    folder = tmp_path / "checkpoints" / "epoch_3"
    sums = json.loads((folder / "checksums.json").read_text())
    assert set(sums) == {path.name for path in folder.iterdir()} - {"checksums.json"}
    for name, (size, digest) in sums.items():
        content = (folder / name).read_bytes()
        assert (size, digest) == (len(content), hashlib.sha256(content).hexdigest())


def test_where_nothing_can_be_written_the_checkpoints_before_are_kept(tmp_path):
    checkpoints, _ = three(tmp_path)
    (tmp_path / "checkpoints" / "partial.epoch_4").write_text("")  # a file where a folder must be
    with pytest.raises(UserError, match=r"Expected to write the checkpoint .*epoch_4, but it failed .File exists"):
        checkpoints.save(Position(4))
    assert checkpoints.restore() == Position(3)
