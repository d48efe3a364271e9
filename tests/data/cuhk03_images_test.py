import os

import h5py
import numpy as np
import pytest
from PIL import Image

from kdas_tf.data import cuhk03_images
from kdas_tf.errors import UserError
from tests.data import miniatures


@pytest.fixture
def mat(tmp_path):
    return miniatures.cuhk03(tmp_path / "data") / "cuhk-03.mat"


def reference_of(file, pair, person, cell, boxes="labeled"):
    return file[file[boxes][0, pair - 1]][cell - 1, person - 1]


def point_to(mat, node, pair=1, person=1, cell=1):
    """Makes one cell of the labeled boxes refer to what `node` makes in the file."""
    with h5py.File(mat, "r+") as file:
        cells = file[file["labeled"][0, pair - 1]]
        cells[cell - 1, person - 1] = node(file["#refs#"])


@pytest.mark.parametrize("name", ["1_001_1_03.png", "1_004_1_01.png", "6_001_1_01.png", "0_001_1_01.png"])
def test_an_empty_or_absent_place_has_no_image(mat, tmp_path, name):
    assert cuhk03_images.extract(mat, "labeled", [name], tmp_path) == {name: cuhk03_images.NO_IMAGE}
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("node", "came"),
    [
        (lambda group: group.create_dataset("x", data=np.zeros((3, 4, 5), np.float64)).ref, "of float64"),
        (lambda group: group.create_dataset("x", data=np.zeros((4, 4, 5), np.uint8)).ref, "got [4, 4, 5]"),
        (lambda group: group.create_dataset("x", data=np.zeros((3, 0, 5), np.uint8)).ref, "got [3, 0, 5]"),
        (lambda group: group.create_group("x").ref, "got a group"),
        (lambda group: group.create_dataset("x", shape=(3, 90_000, 90_000), dtype="u1", chunks=True).ref, "90000"),
    ],
)
def test_what_is_no_image_is_left_out_with_a_reason_and_the_others_are_written(mat, tmp_path, node, came):
    point_to(mat, node)
    failed = cuhk03_images.extract(mat, "labeled", ["1_001_1_01.png", "1_001_1_02.png"], tmp_path)
    assert list(failed) == ["1_001_1_01.png"]
    assert failed["1_001_1_01.png"].startswith("damaged: ")
    assert came in failed["1_001_1_01.png"]
    assert (tmp_path / "1_001_1_02.png").exists()


def test_a_null_reference_has_no_image(mat, tmp_path):
    point_to(mat, lambda group: h5py.Reference())
    assert cuhk03_images.extract(mat, "labeled", ["1_001_1_01.png"], tmp_path) == {
        "1_001_1_01.png": cuhk03_images.NO_IMAGE
    }


@pytest.mark.parametrize("kind", ["empty", "text", "truncated"])
def test_a_damaged_file_is_an_error(mat, tmp_path, kind):
    content = mat.read_bytes()
    mat.write_bytes({"empty": b"", "text": b"text" * 1_000, "truncated": content[: len(content) // 2]}[kind])
    with pytest.raises(UserError, match=r"Expected the cuhk-03\.mat .* not an HDF5 file, or not a complete one"):
        cuhk03_images.extract(mat, "labeled", ["1_001_1_01.png"], tmp_path)


@pytest.mark.parametrize(
    ("change", "came"),
    [
        (lambda file: None, "it has no images under 'labeled'"),
        (lambda file: file.create_group("labeled"), "expected references to objects"),
        (lambda file: file.create_dataset("labeled", data=np.ones((1, 5))), "expected references to objects"),
        (lambda file: file.create_dataset("labeled", data=file["detected"][()].T[:, :0]), "it has no camera pair"),
        (lambda file: file.create_dataset("labeled", data=file[file["detected"][0, 0]][()]), "references to objects"),
    ],
)
def test_a_file_of_another_structure_is_an_error(mat, tmp_path, change, came):
    with h5py.File(mat, "r+") as file:
        del file["labeled"]
        change(file)
    with pytest.raises(UserError, match=came) as error:
        cuhk03_images.extract(mat, "labeled", ["1_001_1_01.png"], tmp_path)
    assert "\n" not in str(error.value)


def test_an_interrupted_write_leaves_nothing_under_the_name_of_an_image(mat, tmp_path, monkeypatch):
    def fail(self, path, **arguments):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(UserError, match=r"No space left on device\. Give another place .*extract_to"):
        cuhk03_images.extract(mat, "labeled", ["1_001_1_01.png"], tmp_path / "images")
    assert os.listdir(tmp_path / "images") == []
