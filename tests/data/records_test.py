import json
import shutil

import pytest

from kdas_tf.data import records
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError


def test_identities_and_cameras_of_many_digits_are_numbered_in_their_order():
    long = 10**20
    data = ReIDData("x", (Record("a", long + 1, 1), Record("b", long, 2)), (), (Record("c", 0, 10**30),))
    small = records.with_small_numbers(data)
    assert [(r.identity, r.camera) for r in (*small.train, *small.gallery)] == [(2, 1), (1, 2), (0, 3)]
    assert "19 digits" in small.notes[0]
    fits = ReIDData("x", (Record("a", 10**18, 1),))
    assert records.with_small_numbers(fits) is fits


def test_an_index_keeps_what_lies_in_its_workdir_relative_and_all_else_absolute(tmp_path):
    inside, outside = str(tmp_path / "run" / "data" / "a.jpg"), str(tmp_path / "elsewhere" / "b.jpg")
    data = ReIDData("x", (Record(inside, 1, 1), Record(outside, 2, 1)), notes=("n",), cameras_known=False)
    records.save(data, tmp_path / "run" / "data" / "dataset.json")
    assert records.load(tmp_path / "run" / "data" / "dataset.json") == data
    assert [each["path"] for each in json.loads((tmp_path / "run" / "data" / "dataset.json").read_text())["train"]] == [
        "data/a.jpg",
        outside,
    ]
    shutil.move(tmp_path / "run", tmp_path / "moved")
    moved = records.load(tmp_path / "moved" / "data" / "dataset.json")
    assert [r.path for r in moved.train] == [str(tmp_path / "moved" / "data" / "a.jpg"), outside]


def test_an_index_that_is_reached_through_a_link_is_that_of_the_folder_behind_it(tmp_path):
    inside = str(tmp_path / "run" / "photographs" / "a.jpg")
    records.save(ReIDData("x", (Record(inside, 1, 1),)), tmp_path / "run" / "data" / "dataset.json")
    (tmp_path / "run" / "table").mkdir()
    (tmp_path / "run" / "table" / "data").symlink_to("../data")
    assert records.load(tmp_path / "run" / "table" / "data" / "dataset.json").train[0].path == inside


def test_a_query_matches_in_another_camera_only():
    gallery = (Record("g", 1, 1), Record("h", 2, 2))
    queries = (Record("a", 1, 1), Record("b", 2, 1), Record("c", 3, 1))
    assert ReIDData("x", (), queries, gallery).matched_queries() == 1


def test_an_index_of_an_older_version_is_told_from_a_damaged_one(tmp_path):
    older = {"name": "x", "train": [], "query": [], "gallery": [], "skipped": []}
    (tmp_path / "dataset.json").write_text(json.dumps(older))
    with pytest.raises(UserError, match="older version") as caught:
        records.load(tmp_path / "dataset.json")
    assert caught.value.code == "content"
    (tmp_path / "dataset.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(UserError) as caught:
        records.load(tmp_path / "dataset.json")
    assert caught.value.code == "damaged"
