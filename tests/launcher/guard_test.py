import json

import pytest

from kdas_tf.errors import UserError
from kdas_tf.launcher.guard import FILE, check_unchanged, remember

BEFORE = {"search.run.epochs": "200", "search.run.cells": "8", "before": "seed 0"}


@pytest.fixture
def folder(tmp_path):
    remember(tmp_path / "search", BEFORE)
    (tmp_path / "search" / "checkpoints").mkdir()
    return tmp_path / "search"


def test_a_stage_that_has_left_nothing_may_be_begun_with_other_settings(tmp_path):
    remember(tmp_path / "search", BEFORE)
    check_unchanged(tmp_path / "search", {"search.run.epochs": "50"})


def test_a_stage_that_was_never_begun_may_have_any_settings(tmp_path):
    check_unchanged(tmp_path / "search", BEFORE)
    assert not (tmp_path / "search").exists()


def test_the_same_settings_pass_in_any_order(folder):
    check_unchanged(folder, dict(reversed(BEFORE.items())))


def test_remembering_again_replaces_what_was_remembered(folder):
    remember(folder, {"search.run.epochs": "50"})
    check_unchanged(folder, {"search.run.epochs": "50"})
    assert {path.name for path in folder.iterdir()} == {FILE, "checkpoints"}


@pytest.mark.parametrize(
    "settings, change",
    [
        ({**BEFORE, "search.run.epochs": "50"}, "search.run.epochs was 200 and is now 50."),
        ({**BEFORE, "search.run.channels": "32"}, "search.run.channels was not set and is now 32."),
        ({"search.run.cells": "8", "before": "seed 0"}, "search.run.epochs was 200 and is now not set."),
        (
            {"search.run.epochs": "1", "search.run.cells": "2", "before": "seed 1"},
            "search.run.cells was 8 and is now 2; search.run.epochs was 200 and is now 1.",
        ),
        ({**BEFORE, "before": "seed 1"}, "the settings of an earlier stage, the seed or the precision have changed."),
    ],
)
def test_other_settings_are_refused_saying_what_changed_and_what_to_do(folder, settings, change):
    with pytest.raises(UserError) as caught:
        check_unchanged(folder, settings)
    assert f"{folder} holds a result of other settings: {change}" in str(caught.value)
    assert "--workdir" in str(caught.value) and "delete" in str(caught.value)
    assert json.loads((folder / FILE).read_text()) == BEFORE


@pytest.mark.parametrize("content", ["", '{"search.run.epochs": ', "[1, 2]", "3", "null"])
def test_a_file_that_was_cut_off_or_is_something_else_says_nothing(folder, content):
    (folder / FILE).write_text(content)
    check_unchanged(folder, {"search.run.epochs": "50"})
