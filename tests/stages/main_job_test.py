"""The main job, end to end at tiny scale: run, stopped and continued."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf import genotype
from kdas_tf.data.records import Record, ReIDData, save
from kdas_tf.errors import UserError
from kdas_tf.settings import Backbone, Stabilizers
from kdas_tf.stages import data, teacher
from tests.stages import small
from tests.stages.small import job, lines, prepare, run_search

TEACHER = {"image_size": (32, 16), "backbone": Backbone(), "sampling": small.SAMPLING, "fitting": small.ADAM}
STABILIZED = {
    "network": dataclasses.replace(small.CELLS, channels=6),
    "stabilizers": Stabilizers(
        alpha_warmup_epochs=1,
        beta_weight=4.0,
        max_skip=0,
        partial_channels=2,
        parameter_budget=5000.0,
        budget_weight=200.0,  # far more than the objective, whose gradient changes its sign
    ),
}


@pytest.mark.deterministic
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, STABILIZED], ids=["plain", "stabilized"])
def test_a_search_that_is_stopped_and_continued_equals_one_that_never_was(options, tmp_path):
    prepare(tmp_path)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for copy in (whole, parts):
        copy.mkdir()
        for stage in ("data", "teacher"):
            (copy / stage).symlink_to(tmp_path / stage)
    run_search(whole, **options)

    with small.stopped_after_the_first_epoch(parts):
        run_search(parts, **options)
    assert not (parts / "search" / "genotype.json").exists()
    run_search(parts, **options)

    assert (whole / "search/genotype.json").read_text() == (parts / "search/genotype.json").read_text()
    assert lines(whole, "search") == lines(parts, "search")
    saved = [tf.train.load_checkpoint(str(copy / "search/checkpoints/epoch_2/state")) for copy in (whole, parts)]
    names = set(saved[0].get_variable_to_shape_map())
    assert names == set(saved[1].get_variable_to_shape_map())
    for part in ("network", "optimizer", "alpha_optimizer", "temperature"):
        assert any(name.startswith(part) for name in names), f"{part} is not in the checkpoint"
    for name in names - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        np.testing.assert_array_equal(saved[0].get_tensor(name), saved[1].get_tensor(name), err_msg=name)


@pytest.mark.slow
def test_search_leaves_the_genotype_as_data_and_as_pictures(tmp_path):
    prepare(tmp_path, view="clean")
    run_search(tmp_path)

    folder = tmp_path / "search"
    content = json.loads((folder / "genotype.json").read_text())
    alphas = content["alphas"]
    assert np.shape(alphas["normal"]) == np.shape(alphas["reduce"]) == (14, 7)
    found = genotype.load(folder / "genotype.json")
    assert found == genotype.derive(alphas["normal"], alphas["reduce"])
    assert content["derived_from"]["identities"] == 16
    for picture in ("genotype.png", "alpha_normal.png", "alpha_reduce.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")

    entries = lines(tmp_path, "search")
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert [entry["temperature"] for entry in entries] == [2.0, 1.0]
    assert np.mean(entries[-1]["entropies_normal"]) == pytest.approx(np.mean(genotype.entropies(alphas["normal"])))
    events = "".join(str(path) for path in (tmp_path / "tensorboard").rglob("events*"))
    assert "teacher" in events and "search" in events
    assert json.loads((tmp_path / "teacher" / "teacher.json").read_text())["kind"] == "table"


@pytest.mark.slow
def test_a_stabilized_search_logs_what_its_options_did(tmp_path):
    prepare(tmp_path, view="clean")
    run_search(tmp_path, **STABILIZED)

    first, second = lines(tmp_path, "search")
    assert second.keys() - first.keys() == {"val_accuracy", "val_accuracy_derived"}  # after the last epoch
    assert 0 <= second["val_accuracy_derived"] <= 1
    assert [first["beta_weight"], second["beta_weight"]] == [0.0, 2.0]  # on the way to 4 after the second epoch
    # The alphas rest at about 0 and then move.
    assert first["beta_decay"] == pytest.approx(np.log(7), abs=1e-3)
    assert first["entropy_normal"] == pytest.approx(np.log(7), abs=1e-5)
    assert second["entropies_normal"] != first["entropies_normal"]
    assert first["expected_parameters"] > second["expected_parameters"] > 5000
    content = json.loads((tmp_path / "search" / "genotype.json").read_text())
    assert content["derived_from"]["max_skip"] == 0
    found = genotype.load(tmp_path / "search" / "genotype.json")
    assert found == genotype.derive(content["alphas"]["normal"], content["alphas"]["reduce"], max_skip=0)
    assert second["skip_connections"] == found.skip_count("reduce")
    uncapped = genotype.derive(content["alphas"]["normal"], content["alphas"]["reduce"])
    assert second["skip_connections_uncapped"] == uncapped.skip_count("normal") + uncapped.skip_count("reduce")


@pytest.mark.slow
def test_teacher_can_be_a_file_of_logits(tmp_path):
    prepare_only = tmp_path / "run"
    prepare(prepare_only, view="clean")
    table = np.load(prepare_only / "teacher" / "logits.npy")
    records = data.load(prepare_only).train
    names = [record.path.rsplit("/", 1)[1] for record in records]
    order = np.random.default_rng(0).permutation(len(names))
    np.savez(tmp_path / "logits.npz", images=np.array(names)[order], logits=table[order])

    other = tmp_path / "other"
    (other / "teacher").mkdir(parents=True)
    (other / "data").symlink_to(prepare_only / "data")
    teacher.run(job(other), **TEACHER, logits=str(tmp_path / "logits.npz"))
    np.testing.assert_array_equal(np.load(other / "teacher" / "logits.npy"), table)


def write_teacher(folder, data, shape=(6, 3)):
    """A teacher's table as it is made for a data set."""
    folder.mkdir()
    np.save(folder / "logits.npy", np.zeros(shape, "float32"))
    content = {"kind": "table", "photographs": teacher.photographs_of(data)}
    (folder / "teacher.json").write_text(json.dumps(content))


def test_teacher_of_another_run_is_taken_over_if_it_is_of_the_same_data(tmp_path):
    def people(*identities, folder="a"):
        return ReIDData("x", tuple(Record(f"{folder}/{i}_{n}.jpg", i, 1) for i in identities for n in range(2)))

    (tmp_path / "data").mkdir()
    (tmp_path / "teacher").mkdir()
    save(people(1, 2, 3), tmp_path / "data" / "dataset.json")
    write_teacher(tmp_path / "fits", people(1, 2, 3, folder="b"))
    write_teacher(tmp_path / "other", people(1, 2, 4))  # as many people with as many photographs
    with pytest.raises(UserError, match="made from other training photographs or people"):
        teacher.run(job(tmp_path), **TEACHER, reuse=str(tmp_path / "other"))
    with pytest.raises(UserError, match="teacher folder of a finished run"):
        teacher.run(job(tmp_path), **TEACHER, reuse=str(tmp_path / "nowhere"))
    assert not (tmp_path / "teacher" / "teacher.json").exists()
    teacher.run(job(tmp_path), **TEACHER, reuse=str(tmp_path / "fits"))
    assert np.load(tmp_path / "teacher" / "logits.npy").shape == (6, 3)
    assert teacher.load(tmp_path, people(1, 2, 3)).table.shape == (6, 3)
    np.save(tmp_path / "teacher" / "logits.npy", np.zeros((12, 3), "float32"))
    with pytest.raises(UserError, match=r"logits \[6, 3\] of the training images, got \[12, 3\]"):
        teacher.load(tmp_path, people(1, 2, 3))
    assert json.loads((tmp_path / "teacher" / "teacher.json").read_text())["reused_from"] == str(tmp_path / "fits")
