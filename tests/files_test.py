import json
import os

import pytest

from kdas_tf import files
from kdas_tf.errors import UserError


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


@pytest.mark.parametrize("read", [files.read_json, files.sha256, files.read_text, files.open_file])
def test_a_pipe_or_a_device_is_refused_instead_of_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(OSError, match="no regular file but a pipe or a device"):
            read(path)
    with pytest.raises(OSError, match="folder"):
        read(tmp_path)


def test_the_hash_of_an_exported_model_follows_its_files(tmp_path):
    model = tmp_path / "model"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"graph")
    (model / "variables" / "v").write_bytes(b"1")
    seen = {files.hash_files(model)}
    (model / "variables" / "v").write_bytes(b"2")
    seen.add(files.hash_files(model))
    (model / "variables" / "v").rename(model / "variables" / "w")
    seen.add(files.hash_files(model))
    assert len(seen) == 3
    model.rename(tmp_path / "moved")
    assert files.hash_files(tmp_path / "moved") in seen
    assert files.hash_files(tmp_path / "moved" / "saved_model.pb") not in seen


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"Expected a file or a folder at .*nothing\.h5"):
        files.hash_files(tmp_path / "nothing.h5")
