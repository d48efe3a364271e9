import zipfile

import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.evaluation import embeddings
from kdas_tf.evaluation.embeddings import ARRAYS, Embeddings


def arrays(**changes):
    random = np.random.default_rng(0)
    content = {
        "query_features": random.normal(size=(2, 3)).astype(np.float32),
        "query_pids": np.array([5, 6]),
        "query_camids": np.array([1, 1]),
        "gallery_features": random.normal(size=(4, 3)).astype(np.float32),
        "gallery_pids": np.array([5, 6, 0, -1]),
        "gallery_camids": np.array([2, 2, 3, 1], np.int16),
    }
    return content | changes


def test_a_file_is_read_as_it_was_written(tmp_path):
    content = arrays()
    query, gallery = Embeddings(*list(content.values())[:3]), Embeddings(*list(content.values())[3:], "gallery")
    embeddings.save(query, gallery, tmp_path / "file")  # of any name
    read = embeddings.load(tmp_path / "file")
    for before, after in zip((query, gallery), read, strict=True):
        for field in ("features", "identities", "cameras"):
            np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
            assert getattr(after, field).dtype == getattr(before, field).dtype
    assert [each.name for each in read] == ["query", "gallery"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_files_that_others_write_with_numpy_are_read(write, tmp_path):
    write(tmp_path / "file.npz", **arrays(), notes="more arrays do not matter")
    query, gallery = embeddings.load(tmp_path / "file.npz")
    assert (len(query), len(gallery)) == (2, 4)
    np.testing.assert_array_equal(gallery.identities, [5, 6, 0, -1])
    assert gallery.cameras.dtype == np.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_features": np.full((2, 3), np.nan, np.float32)}, "finite query features.*row 0 of 2"),
        ({"gallery_features": np.array([[1, 2], [3, np.inf], [1, 2], [1, 2]])}, "finite gallery features.*row 1 of 4"),
        ({"query_features": np.ones(3)}, r"query features \[images, D\].*\(3,\)"),
        ({"query_features": np.ones((2, 0))}, r"query features \[images, D\]"),
        ({"query_features": np.ones((2, 3), int)}, "floating-point numbers.*int64"),
        ({"query_pids": np.array([5])}, r"each of 2 query features as its identities.*\(1,\)"),
        ({"gallery_camids": np.ones((4, 1), int)}, r"each of 4 gallery features as its cameras.*\(4, 1\)"),
        ({"gallery_pids": np.ones(4)}, "one integer for each.*float64"),
        ({"gallery_pids": np.array([{}] * 4)}, "without objects"),
    ],
)
def test_arrays_that_are_no_embeddings_are_refused_with_the_reason(change, message, tmp_path):
    np.savez(tmp_path / "file.npz", **arrays(**change))
    with pytest.raises(UserError, match=message) as error:
        embeddings.load(tmp_path / "file.npz")
    assert "\n" not in str(error.value)


def test_a_feature_far_down_that_is_not_finite_is_found():
    features = np.ones((9000, 2))
    features[8765, 1] = -np.inf
    with pytest.raises(UserError, match="row 8765 of 9000"):
        Embeddings(features, np.ones(9000, int), np.ones(9000, int))


def test_missing_arrays_are_named(tmp_path):
    content = arrays()
    del content["query_camids"], content["gallery_pids"]
    np.savez(tmp_path / "file.npz", **content)
    with pytest.raises(UserError, match="lacks query_camids, gallery_pids; it has query_features, query_pids"):
        embeddings.load(tmp_path / "file.npz")


def damage(path, kind):
    """Makes a file that is none of embeddings."""
    np.savez_compressed(path, **arrays(query_features=np.random.default_rng(0).normal(size=(2, 999))))
    content = bytearray(path.read_bytes())
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "bits":
        content[200:400] = bytes(byte ^ 0x55 for byte in content[200:400])
        path.write_bytes(content)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("query_features")
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones((2, 3)))
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name in ARRAYS:
                file.writestr(f"{name}.npy", "no array")
    elif kind == "missing":
        path.unlink()
    elif kind == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("kind", ["cut", "bits", "empty", "text", "npy", "zip", "missing", "folder"])
def test_a_file_of_another_kind_is_refused_with_the_reason(kind, tmp_path):
    path = tmp_path / "file.npz"
    damage(path, kind)
    with pytest.raises(UserError, match=r"Expected .*(file.npz, with the arrays|got an array of shape)") as error:
        embeddings.load(path)
    assert "\n" not in str(error.value)


def test_embeddings_on_disk_stay_there(tmp_path):
    np.save(tmp_path / "features.npy", np.ones((5, 2), np.float32))
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    made = Embeddings(mapped, np.ones(5, int), np.ones(5, int))
    assert np.shares_memory(made.features, mapped)
