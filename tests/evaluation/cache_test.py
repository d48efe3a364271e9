import os

import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.evaluation import cache

MADE_FROM = {"network": "n1", "photographs": "p1"}
FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "embeddings"


def others(number):
    """What other embeddings are made from."""
    return [{**MADE_FROM, "network": f"other {index}"} for index in range(number)]


def test_embeddings_are_read_back_for_what_they_were_made_from_and_cannot_be_changed(folder):
    assert cache.read(folder, "query", MADE_FROM) is None
    cache.keep(folder, "query", MADE_FROM, FEATURES)
    features = cache.read(folder, "query", dict(reversed(MADE_FROM.items())))
    np.testing.assert_array_equal(features, FEATURES)
    with pytest.raises(ValueError, match="read-only"):
        features[0] = 0
    for name, made_from in (("gallery", MADE_FROM), ("query", {**MADE_FROM, "flip": "True"}), ("query", others(1)[0])):
        assert cache.read(folder, name, made_from) is None


def test_those_that_were_used_last_stay(folder):
    for index, made_from in enumerate((MADE_FROM, *others(cache.KEPT))):
        cache.keep(folder, "gallery", made_from, FEATURES + index)
        cache.keep(folder, "query", made_from, FEATURES)
        assert cache.read(folder, "gallery", MADE_FROM) is not None  # used again after each of the others
    stay = [cache.read(folder, "gallery", made_from) for made_from in others(cache.KEPT)]
    assert [features is None for features in stay] == [True] + [False] * (cache.KEPT - 1)
    np.testing.assert_array_equal(stay[-1], FEATURES + cache.KEPT)
    assert len(list(folder.iterdir())) == 2 * 2 * cache.KEPT


def test_embeddings_in_a_folder_that_cannot_be_changed_are_read(folder, monkeypatch, caplog):
    cache.keep(folder, "query", MADE_FROM, FEATURES)

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")  # of files that belong to another user

    monkeypatch.setattr(os, "utime", refuse)
    np.testing.assert_array_equal(cache.read(folder, "query", MADE_FROM), FEATURES)
    assert not caplog.records


def cut(file):
    file.write_bytes(file.read_bytes()[:-4])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def put_a_pickle(file):
    np.save(file, np.array([{}], object), allow_pickle=True)


def garble_the_note(file):
    file.with_suffix(".json").write_text("{")


def write_another_note(file):
    file.with_suffix(".json").write_text("[]")


@pytest.mark.parametrize("damage", [cut, flip_a_bit, os.unlink, put_a_pickle, garble_the_note, write_another_note])
def test_damaged_embeddings_are_not_read_and_can_be_written_again(folder, caplog, damage):
    cache.keep(folder, "query", MADE_FROM, FEATURES)
    (file,) = folder.glob("*.npy")
    damage(file)
    assert cache.read(folder, "query", MADE_FROM) is None
    assert [(record.levelname, "damaged" in record.message) for record in caplog.records] == [("WARNING", True)]
    cache.keep(folder, "query", MADE_FROM, FEATURES)
    np.testing.assert_array_equal(cache.read(folder, "query", MADE_FROM), FEATURES)


def test_what_a_killed_process_has_left_is_deleted(folder):
    folder.mkdir()
    (folder / "partial.query-0123.npy").write_bytes(b"half")
    cache.keep(folder, "query", MADE_FROM, FEATURES)
    assert {path.suffix for path in folder.iterdir()} == {".npy", ".json"} and len(list(folder.iterdir())) == 2


def test_embeddings_that_cannot_be_kept_cost_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    cache.keep(tmp_path / "file", "query", MADE_FROM, FEATURES)
    assert "cannot be kept" in caplog.records[0].message


def test_a_full_disk_costs_a_warning(folder, caplog):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        cache.keep(folder, "query", MADE_FROM, np.ones((1 << 10, 1 << 10), np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be kept" in caplog.records[0].message
    assert list(folder.iterdir()) == []


@pytest.fixture
def photographs(tmp_path):
    paths = []
    for name in ("query/a.jpg", "query/b.jpg", "gallery/c.jpg"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        os.utime(path, ns=(10**18, 10**18))
        paths.append(str(path))
    return paths


def test_the_hash_of_photographs_follows_order_size_and_time_of_change(photographs):
    seen = {cache.hash_photographs(photographs), cache.hash_photographs(photographs[::-1])}
    seen.add(cache.hash_photographs(photographs[:2]))
    os.utime(photographs[1], ns=(10**18, 10**18 + 1))
    seen.add(cache.hash_photographs(photographs))
    with open(photographs[1], "ab") as file:
        file.write(b"more")
    os.utime(photographs[1], ns=(10**18, 10**18))
    seen.add(cache.hash_photographs(photographs))
    assert len(seen) == 5


def test_a_data_set_may_move_with_its_times(photographs, tmp_path, monkeypatch):
    before = cache.hash_photographs(photographs)
    monkeypatch.chdir(tmp_path)
    assert cache.hash_photographs([os.path.relpath(path) for path in photographs]) == before
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert cache.hash_photographs([path.replace("/data/", "/elsewhere/") for path in photographs]) == before


def test_a_missing_photograph_is_named(photographs):
    os.unlink(photographs[1])
    with pytest.raises(UserError, match=r"Expected the photograph .*b\.jpg"):
        cache.hash_photographs(photographs)
