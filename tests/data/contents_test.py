import os
import shutil

import pytest

from kdas_tf.data import contents, market1501
from kdas_tf.data.contents import Photographs
from tests.data import miniatures


def photographs(root, kept):
    return Photographs(root, lambda: market1501.read(root), kept)


@pytest.fixture
def root(tmp_path):
    return miniatures.market1501(tmp_path / "people")


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(contents, "_CONTENTS", {})


def test_a_copy_with_other_times_has_the_same_digest_wherever_it_lies(root, tmp_path):
    digest = photographs(root, tmp_path / "data").digest()
    for path in root.rglob("*.jpg"):
        os.utime(path, (1, 1))
    shutil.move(root, tmp_path / "moved")
    moved = photographs(tmp_path / "moved", tmp_path / "data")
    assert moved.digest() == digest
    assert not moved.are_where_they_were()
    moved.keep()
    assert moved.are_where_they_were()


@pytest.mark.parametrize("change", ["added", "removed", "replaced", "renamed"])
def test_every_change_of_the_photographs_changes_the_digest(root, tmp_path, change):
    kept = photographs(root, tmp_path / "data")
    kept.keep()
    digest, path = kept.digest(), sorted(root.rglob("query/*.jpg"))[0]
    if change == "added":
        shutil.copy(path, path.with_name("0099_c1s1_000001_00.jpg"))
    elif change == "removed":
        path.unlink()
    elif change == "replaced":
        miniatures.write(path, miniatures.photograph(77, 1, 1))
    else:
        path.rename(path.with_name(path.name.replace("_c1", "_c9")))
    assert kept.digest() != digest


def test_files_of_the_same_size_and_time_are_not_read_again(root, tmp_path, monkeypatch):
    kept = photographs(root, tmp_path / "data")
    kept.keep()
    digest = kept.digest()
    monkeypatch.setattr(contents, "_CONTENTS", {})
    monkeypatch.setattr(contents.files, "sha256", lambda path: pytest.fail("read again"))
    assert kept.digest() == digest


def test_a_reader_that_makes_its_files_is_told_by_its_list(root, tmp_path):
    listed = Photographs(root, lambda: market1501.read(root), tmp_path / "data", listed_only=True)
    digest = listed.digest()
    miniatures.write(next(root.rglob("query/*.jpg")), miniatures.photograph(77, 1, 1))
    assert listed.digest() == digest
