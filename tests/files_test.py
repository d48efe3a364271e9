import json

import pytest

from kdas_tf import files


def test_a_file_appears_when_its_block_ends(tmp_path):
    path = tmp_path / "a.weights.h5"
    with files.replacing(path) as partial:
        partial.write_text("new")
        assert partial.name.endswith(".weights.h5") and not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), files.replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_read_back_as_it_was(tmp_path):
    content = {"a": [1, 2.5, None], "ü": {"b": "c"}}
    files.write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content
