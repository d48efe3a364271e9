import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf import genotype
from kdas_tf.errors import UserError
from kdas_tf.models.networks import Student, Supernet
from kdas_tf.models.teacher_network import Teacher
from kdas_tf.training.checkpoints import Checkpoints, Position, damage_of

SMALL = {"image_size": (32, 16), "channels": 4, "cells": 2, "reductions": (1,)}


def numbers(network, optimizer):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in (*network.variables, *optimizer.variables)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Student(genotype.AUTO_REID, 5, **SMALL),
        lambda: Supernet(5, **SMALL),
        lambda: Teacher("MobileNetV2", 5, image_size=(32, 32), backbone_arguments={"alpha": 0.35}),
    ],
    ids=["student", "supernet", "teacher"],
)
def test_all_of_a_network_and_its_optimizer_is_restored_its_statistics_too(make, tmp_path):
    results = []
    for first in (True, False):
        network, optimizer = make(), keras.optimizers.Adam()
        optimizer.build(network.trainable_variables)
        checkpoints = Checkpoints(tmp_path, {"network": network, "optimizer": optimizer})
        if first:
            random = np.random.default_rng(0)
            for variable in (*network.variables, *optimizer.variables):
                variable.assign(random.integers(1, 100, variable.shape))
            checkpoints.save(Position(3))
        else:
            assert checkpoints.restore() == Position(3)
        results.append(numbers(network, optimizer))
    for saved, restored in zip(*results, strict=True):
        np.testing.assert_array_equal(saved, restored)


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


@pytest.mark.parametrize("damage", [flip_a_bit, lambda path: path.unlink()], ids=["bit", "gone"])
@pytest.mark.parametrize("file", ["state.data-00000-of-00001", "state.index"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(file, damage, tmp_path, caplog):
    checkpoints, variable = three(tmp_path)
    damage(tmp_path / "checkpoints" / "epoch_3" / file)
    assert checkpoints.restore() == Position(2)
    assert np.all(variable.numpy() == 20)
    assert "epoch_3 is damaged" in caplog.text and "The one before it is used" in caplog.text
    checkpoints.save(Position(3))  # takes its place
    assert checkpoints.restore() == Position(3)


def test_no_damage_of_any_byte_or_length_gives_another_state(tmp_path):
    """Every sixteenth byte of the data and every third of the index, each with one flipped bit, and files cut there."""
    checkpoints, variable = three(tmp_path, keep=1)
    variable.assign(np.arange(1000))
    checkpoints.save(Position(4, 7, ((0.25, 1.5),)))
    expected = checkpoints.restore(), variable.numpy()
    folder, detected = checkpoints.all()[0], []
    for path, every in ((folder / "state.data-00000-of-00001", 16), (folder / "state.index", 3)):
        whole = path.read_bytes()
        for place in range(0, len(whole), every):
            flipped = whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
            for content in (flipped, whole[:place]):
                path.write_bytes(content)
                detected.append(damage_of(folder) is not None)
                if not detected[-1]:  # such as a byte that fills up the index and is never read
                    assert checkpoints.restore() == expected[0]
                    np.testing.assert_array_equal(variable.numpy(), expected[1])
        path.write_bytes(whole)
    assert len(detected) > 500 and np.mean(detected) > 0.9


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
    checkpoints.remove_all_but(1)
    assert [path.name for path in checkpoints.all()] == ["epoch_3_step_11"]
    assert checkpoints.restore() == Position(3, 11, ((0.1,), (2.0, 3.5)))


def test_what_a_killed_process_left_unfinished_is_no_checkpoint(tmp_path):
    checkpoints, _ = three(tmp_path)
    (tmp_path / "checkpoints" / "epoch_3").rename(tmp_path / "checkpoints" / "partial.epoch_3")
    assert checkpoints.restore() == Position(2)
    checkpoints.save(Position(3))
    assert not (tmp_path / "checkpoints" / "partial.epoch_3").exists()


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    _, variable = three(tmp_path)
    for other in ({"variable": tf.Variable(np.zeros(3, "float32"))}, {"variable": variable, "more": tf.Variable(1.0)}):
        with pytest.raises(UserError, match="other settings than this one, or by another version") as caught:
            Checkpoints(tmp_path / "checkpoints", other).restore()
        assert "\n" not in str(caught.value)


def test_where_nothing_can_be_written_the_checkpoints_before_are_kept(tmp_path):
    checkpoints, _ = three(tmp_path)
    (tmp_path / "checkpoints" / "partial.epoch_4").write_text("")  # a file where a folder must be
    with pytest.raises(UserError, match=r"Expected to write the checkpoint .*epoch_4, but it failed .File exists"):
        checkpoints.save(Position(4))
    assert checkpoints.restore() == Position(3)
