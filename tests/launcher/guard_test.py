import json
from pathlib import Path

import pytest

from kdas_tf.errors import UserError
from kdas_tf.launcher.guard import FILE, Step, check_unchanged, forget, records_of, remember
from kdas_tf.stages.stage import Stage

LAUNCHER = {"seed": "0", "precision": "float32", "deterministic": "False"}


def stage(name, *reads, **properties):
    return Stage(name, "result.json", lambda job: None, reads=lambda workdir, arguments: reads, **properties)


def records(workdir, *stages, launcher=LAUNCHER, **texts):
    """Records of stages that are all given the same arguments."""
    return records_of([Step(each, texts, texts) for each in stages], workdir, launcher)


@pytest.fixture
def folder(tmp_path):
    """A stage that was begun with epochs 200 and reads the data."""
    remember(tmp_path / "data", records(tmp_path, stage("data"), size="5")["data"])
    remember(tmp_path / "search", records(tmp_path, stage("search", "data"), epochs="200")["search"])
    (tmp_path / "search" / "checkpoints").mkdir()
    return tmp_path / "search"


def search(folder, *others, launcher=LAUNCHER, **texts):
    return records(folder.parent, *others, stage("search", "data"), launcher=launcher, **texts)["search"]


def test_a_stage_that_nothing_came_of_may_be_begun_with_other_settings(tmp_path):
    first = records(tmp_path, stage("search"), epochs="200")["search"]
    remember(tmp_path / "search", first)
    check_unchanged(tmp_path / "search", records(tmp_path, stage("search"), epochs="50")["search"])
    forget(tmp_path / "search")
    assert not (tmp_path / "search").exists()


def test_what_a_stage_reads_counts_whether_or_not_the_command_does_it_too(folder):
    check_unchanged(folder, search(folder, epochs="200"))
    steps = [Step(stage("data"), {}, {"size": "5"}), Step(stage("search", "data"), {}, {"epochs": "200"})]
    same = records_of(steps, folder.parent, LAUNCHER)
    check_unchanged(folder, same["search"])


@pytest.mark.parametrize(
    ("texts", "launcher", "change"),
    [
        ({"epochs": "50"}, {}, "epochs was 200 and is now 50."),
        ({"epochs": "200", "cells": "8"}, {}, "cells was not set and is now 8."),
        ({}, {}, "epochs was 200 and is now not set."),
        ({"cells": "2", "epochs": "1"}, {}, "cells was not set and is now 2; epochs was 200 and is now 1."),
        ({"epochs": "200"}, {"seed": "1"}, "seed was 0 and is now 1."),
    ],
)
def test_other_settings_are_refused_saying_what_changed_and_what_to_do(folder, texts, launcher, change):
    before = (folder / FILE).read_text()
    with pytest.raises(UserError) as caught:
        check_unchanged(folder, search(folder, launcher=LAUNCHER | launcher, **texts))
    assert f"{folder} holds a result of other settings: {change}" in str(caught.value)
    assert "--workdir" in str(caught.value) and "delete" in str(caught.value)
    assert (folder / FILE).read_text() == before


def test_an_earlier_stage_of_other_settings_is_refused_wherever_it_stands(folder):
    other = records(folder.parent, stage("data"), size="6")["data"]
    remember(folder.parent / "data", other)
    with pytest.raises(UserError, match="data, which it reads, has changed"):
        check_unchanged(folder, search(folder, epochs="200"))


def test_a_file_that_is_read_counts_by_its_content(tmp_path):
    file = tmp_path / "genotype.json"
    file.write_text("one")
    first = records(tmp_path, stage("train", file))["train"]
    file.touch()
    assert records(tmp_path, stage("train", file))["train"] == first
    file.write_text("two")
    assert records(tmp_path, stage("train", file))["train"] != first
    assert records(tmp_path, stage("train", Path("/nowhere")))["train"]["reads"] == {"/nowhere": "no file"}


def test_a_file_that_was_moved_is_the_same_and_another_one_at_its_place_is_not(tmp_path):
    def record(path):
        read = stage("teacher", path / "weights.h5", path / "index.json")
        return records(tmp_path, read, reuse=repr(str(path)), epochs="3")["teacher"]

    for folder, text in (("one", "a"), ("moved", "a"), ("other", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "weights.h5").write_text(text)
    first = record(tmp_path / "one")
    assert first["arguments"] == {"epochs": "3"}
    assert first["reads"]["reuse/index.json"] == "no file"
    assert record(tmp_path / "moved") == first
    remember(tmp_path / "run" / "teacher", first)
    (tmp_path / "run" / "teacher" / "checkpoints").mkdir()
    with pytest.raises(UserError, match=r"settings: reuse/weights\.h5, which it reads, has changed\."):
        check_unchanged(tmp_path / "run" / "teacher", record(tmp_path / "other"))


def test_a_file_that_an_argument_names_may_have_another_name(tmp_path):
    def record(path):
        return records(tmp_path, stage("teacher", path), logits=repr(str(path)))["teacher"]

    for name in ("a.npz", "b.npz"):
        (tmp_path / name).write_text("logits")
    assert record(tmp_path / "a.npz")["reads"].keys() == {"logits"}
    assert record(tmp_path / "a.npz") == record(tmp_path / "b.npz")


def test_what_may_change_and_what_the_stage_does_not_depend_on_is_not_recorded(tmp_path):
    free = stage("search", may_change=lambda arguments: ("shown", "monitoring"), decided_by=("seed",))
    texts = {"monitoring": "@M", "monitoring.every": "3", "shown": "1", "shown_too": "2"}
    assert records(tmp_path, free, **texts)["search"] == {
        "format": 3,
        "arguments": {"shown_too": "2"},
        "launcher": {"seed": "0"},
        "repeatable": False,
        "reads": {},
    }


@pytest.mark.parametrize("content", ['{"epochs": ', "[1, 2]"])
def test_a_file_that_was_cut_off_or_is_something_else_says_nothing(folder, content):
    (folder / FILE).write_text(content)
    check_unchanged(folder, search(folder, epochs="50"))


def test_what_an_older_version_wrote_is_refused_whatever_it_says(folder):
    (folder / FILE).write_text(json.dumps({"search.run.epochs": "200", "before": "seed 0"}))
    with pytest.raises(UserError, match="was begun by an older version"):
        check_unchanged(folder, search(folder, epochs="200"))
