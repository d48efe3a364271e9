import hashlib
import json
import logging
import os

import keras
import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.evaluation import cache
from kdas_tf.evaluation.cache import EmbeddingCache
from kdas_tf.evaluation.features import extract

MADE_FROM = {"weights": "w1", "photographs": "p1"}
FEATURES = np.arange(12, dtype=np.float32).reshape(4, 3)


class Maker:
    """Writes features in two parts, as batches come, and counts how often it is asked to."""

    def __init__(self, features=FEATURES):
        self.features = features
        self.calls = 0

    def __call__(self, out):
        self.calls += 1
        array = out(self.features.shape)
        array[:2], array[2:] = self.features[:2], self.features[2:]
        return array


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "embeddings"


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_embeddings_are_made_once_for_the_same_weights_and_photographs(folder):
    make = Maker()
    np.testing.assert_array_equal(EmbeddingCache(folder).get("query", MADE_FROM, make), FEATURES)
    np.testing.assert_array_equal(EmbeddingCache(folder).get("query", dict(MADE_FROM), make), FEATURES)
    assert make.calls == 1
    assert names(folder) == ["query.json", "query.npy"]
    np.testing.assert_array_equal(np.load(folder / "query.npy"), FEATURES)


def test_what_is_extracted_goes_straight_into_the_cache(folder):
    images = np.random.default_rng(0).uniform(1, 255, (5, 4, 2, 3)).astype(np.float32)
    batches = [{"image": images[:3]}, {"image": images[3:]}]

    def network(images):
        return images.mean((1, 2))

    cached = EmbeddingCache(folder).get("q", MADE_FROM, lambda out: extract(network, batches, total=5, out=out))
    assert names(folder) == ["q.json", "q.npy"]
    np.testing.assert_array_equal(cached, extract(network, batches))


def test_other_weights_replace_the_embeddings_and_the_log_says_what_changed(folder, caplog):
    EmbeddingCache(folder).get("query", MADE_FROM, Maker())
    caplog.set_level(logging.INFO)
    other = {**MADE_FROM, "weights": "w2"}
    found = EmbeddingCache(folder).get("query", other, Maker(FEATURES + 1))
    np.testing.assert_array_equal(found, FEATURES + 1)
    assert [record.message.partition("query.npy")[2] for record in caplog.records] == [
        " was made from other weights; it is made anew."
    ]
    np.testing.assert_array_equal(EmbeddingCache(folder).get("query", other, Maker()), FEATURES + 1)
    assert names(folder) == ["query.json", "query.npy"]


def cut(folder):
    content = (folder / "query.npy").read_bytes()
    (folder / "query.npy").write_bytes(content[:-4])


def flip_a_bit(folder):
    content = bytearray((folder / "query.npy").read_bytes())
    content[-1] ^= 1
    (folder / "query.npy").write_bytes(content)


def lose(folder):
    (folder / "query.npy").unlink()


def put_a_pickle(folder):
    np.save(folder / "query.npy", np.array([{}], object), allow_pickle=True)


def garble_the_note(folder):
    (folder / "query.json").write_text("{")


@pytest.mark.parametrize("damage", [cut, flip_a_bit, lose, put_a_pickle, garble_the_note])
def test_damaged_embeddings_are_made_anew_with_a_warning(folder, caplog, damage):
    EmbeddingCache(folder).get("query", MADE_FROM, Maker())
    damage(folder)
    make = Maker()
    np.testing.assert_array_equal(EmbeddingCache(folder).get("query", MADE_FROM, make), FEATURES)
    assert make.calls == 1
    assert [(record.levelname, "damaged" in record.message) for record in caplog.records] == [("WARNING", True)]
    caplog.clear()
    EmbeddingCache(folder).get("query", MADE_FROM, make)
    assert (make.calls, caplog.records) == (1, [])


def test_a_stopped_run_leaves_nothing_that_is_taken_for_a_result(folder):
    def stop(out):
        out(FEATURES.shape)[:2] = FEATURES[:2]
        raise KeyboardInterrupt

    EmbeddingCache(folder).get("query", {"weights": "old"}, Maker(FEATURES + 9))
    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(folder).get("query", MADE_FROM, stop)
    np.testing.assert_array_equal(EmbeddingCache(folder).get("query", MADE_FROM, Maker()), FEATURES)


@pytest.mark.parametrize("again", [False, True])
def test_large_embeddings_are_mapped_and_small_ones_are_read_and_both_cannot_be_changed(folder, again):
    for limit, mapped in ((FEATURES.nbytes, True), (10 * FEATURES.nbytes, False)):
        if again:
            EmbeddingCache(folder).get(f"{limit}", MADE_FROM, Maker())
        features = EmbeddingCache(folder, memory_map_above=limit).get(f"{limit}", MADE_FROM, Maker())
        assert isinstance(features, np.memmap) == mapped
        np.testing.assert_array_equal(features, FEATURES)
        with pytest.raises(ValueError, match="read-only"):
            features[0] = 0


def test_pruning_keeps_what_was_asked_for_and_what_is_not_of_a_cache(folder):
    old = EmbeddingCache(folder)
    for name in ("query", "gallery-v1.5", "gallery"):
        old.get(name, MADE_FROM, Maker())
    (folder / "partial.left.npy").write_bytes(b"half")
    np.save(folder / "mine.npy", FEATURES)
    (folder / "mine.json").write_text('{"sha256": "of another program"}')
    new = EmbeddingCache(folder)
    new.get("query", MADE_FROM, Maker())
    new.prune()
    assert names(folder) == ["mine.json", "mine.npy", "query.json", "query.npy"]


def test_embeddings_that_cannot_be_kept_are_made_in_memory_with_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_text("no folder")
    features = EmbeddingCache(tmp_path / "file").get("query", MADE_FROM, Maker())
    np.testing.assert_array_equal(features, FEATURES)
    assert "cannot be kept" in caplog.records[0].message


def test_a_full_disk_costs_the_cache_and_not_the_process(folder, caplog):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = np.ones((1 << 10, 1 << 10), np.float32)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        features = EmbeddingCache(folder).get("query", MADE_FROM, Maker(large))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    np.testing.assert_array_equal(features, large)
    assert "cannot be kept" in caplog.records[0].message
    assert names(folder) == []


def test_the_note_says_what_the_embeddings_were_made_from(folder):
    EmbeddingCache(folder).get("query", MADE_FROM, Maker())
    note = json.loads((folder / "query.json").read_text())
    assert note["made_from"] == MADE_FROM
    assert note["shape"] == [4, 3]
    assert note["sha256"] == hashlib.sha256((folder / "query.npy").read_bytes()).hexdigest()


def dense(seed):
    layer = keras.layers.Dense(2, kernel_initializer=keras.initializers.RandomNormal(seed=seed))
    layer.build((None, 3))
    return layer


def test_the_hash_of_weights_is_that_of_their_values_whatever_their_names():
    one, same, other = dense(0), dense(0), dense(1)
    assert cache.hash_weights(one.weights) == cache.hash_weights(same.weights) != cache.hash_weights(other.weights)
    kernel, bias = (np.asarray(weight) for weight in one.weights)
    assert cache.hash_weights([kernel, bias]) == cache.hash_weights(one.weights)
    assert cache.hash_weights([bias, kernel]) != cache.hash_weights([kernel, bias])
    assert cache.hash_weights([kernel.T, bias]) != cache.hash_weights([kernel, bias])
    bias[1] = np.nextafter(bias[1], 1)
    assert cache.hash_weights([kernel, bias]) != cache.hash_weights(one.weights)


def test_the_hash_of_an_exported_model_follows_its_files(tmp_path):
    model = tmp_path / "model"
    (model / "variables").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"graph")
    (model / "variables" / "v").write_bytes(b"1")
    seen = {cache.hash_files(model)}
    (model / "variables" / "v").write_bytes(b"2")
    seen.add(cache.hash_files(model))
    (model / "variables" / "v").rename(model / "variables" / "w")
    seen.add(cache.hash_files(model))
    assert len(seen) == 3
    model.rename(tmp_path / "moved")
    assert cache.hash_files(tmp_path / "moved") in seen
    assert cache.hash_files(tmp_path / "moved" / "saved_model.pb") not in seen


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"Expected a file or a folder at .*nothing\.h5"):
        cache.hash_files(tmp_path / "nothing.h5")


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
