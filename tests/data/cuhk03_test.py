import os
import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image

from kdas_tf.data import cuhk03
from kdas_tf.errors import UserError
from tests.conftest import REFERENCE
from tests.data import miniatures

BOXES = ("labeled", "detected")


def split_file(folder, boxes="labeled"):
    return folder / f"cuhk03_new_protocol_config_{boxes}.mat"


def change_split(folder, **changes):
    content = scipy.io.loadmat(split_file(folder))
    content = {name: content[name] for name in content if not name.startswith("__")} | changes
    scipy.io.savemat(split_file(folder), {name: value for name, value in content.items() if value is not None})


def files(records):
    return [os.path.basename(record.path) for record in records]


@pytest.mark.parametrize("boxes", BOXES)
def test_the_official_split_files_have_the_published_numbers(boxes):
    split = cuhk03.read_split(REFERENCE / f"cuhk03_new_protocol_config_{boxes}.mat")
    for name, (images, identities) in cuhk03.PUBLISHED[boxes].items():
        indices = getattr(split, name)
        assert len(set(indices)) == len(indices) == images
        assert len({split.identities[i] for i in indices}) == identities
    assert sorted(split.train + split.query + split.gallery) == list(range(len(split.names)))
    assert not {split.identities[i] for i in split.train} & {split.identities[i] for i in split.query + split.gallery}


@pytest.mark.parametrize("boxes", BOXES)
def test_names_identities_and_cameras_of_the_official_split_files_agree(boxes):
    split = cuhk03.read_split(REFERENCE / f"cuhk03_new_protocol_config_{boxes}.mat")
    people = [tuple(name.split("_")[:2]) for name in split.names]
    assert len(set(zip(people, split.identities, strict=True))) == len(set(people)) == 1_467
    assert [int(name.split("_")[2]) for name in split.names] == split.cameras
    # One query for each of the 700 people and cameras.
    assert len({(split.identities[i], split.cameras[i]) for i in split.query}) == 1_400


@pytest.mark.parametrize("boxes", BOXES)
def test_the_miniature_has_the_variables_of_the_official_split_files(tmp_path, boxes):
    miniatures.cuhk03(tmp_path)
    official = scipy.io.loadmat(REFERENCE / f"cuhk03_new_protocol_config_{boxes}.mat")
    small = scipy.io.loadmat(split_file(tmp_path, boxes))
    assert {name for name in official if name[0] != "_"} == {name for name in small if name[0] != "_"}
    for name in ("filelist", "labels", "camId", "train_idx", "query_idx", "gallery_idx"):
        assert (small[name].dtype, small[name].ndim, small[name].shape[1]) == (official[name].dtype, 2, 1)
    assert official["filelist"][0, 0] == small["filelist"][0, 0] == np.array(["1_001_1_01.png"])


@pytest.mark.parametrize("raw", [True, False])
def test_people_images_and_cameras_are_those_of_the_split_file(tmp_path, raw):
    data = cuhk03.read(miniatures.cuhk03(tmp_path, raw=raw))
    # People 1, 3, 5, 7 are trained on: 3 of camera pair 1 (1-3), 2 of pair 2 (4, 5), then one of each pair.
    assert files(data.train)[:5] == [*(f"1_001_{c}_{n}.png" for c, n in ((1, "01"), (1, "02"), (2, "06"), (2, "07"))), (
        "1_003_1_01.png"
    )]  # fmt: skip
    assert [(r.identity, r.camera) for r in data.train[:5]] == [(1, 1), (1, 1), (1, 2), (1, 2), (3, 1)]
    assert files(data.query)[:4] == ["1_002_1_01.png", "1_002_2_06.png", "2_001_1_01.png", "2_001_2_06.png"]
    assert [(r.identity, r.camera) for r in data.query[:4]] == [(2, 1), (2, 2), (4, 1), (4, 2)]
    assert files(data.gallery)[:2] == ["1_002_1_02.png", "1_002_2_07.png"]
    assert {r.identity for r in data.train} == {1, 3, 5, 7}
    assert {r.identity for r in data.query} == {r.identity for r in data.gallery} == {2, 4, 6, 8}
    assert data.skipped == ()


@pytest.mark.parametrize("boxes", BOXES)
def test_images_come_out_of_the_raw_file_upright_and_unchanged(tmp_path, boxes):
    data = cuhk03.read(miniatures.cuhk03(tmp_path), boxes=boxes)
    records = (*data.train, *data.query, *data.gallery)
    assert {os.path.dirname(record.path) for record in records} == {str(tmp_path / f"images_{boxes}")}
    assert len(records) == (32 if boxes == "labeled" else 31)
    for record in records:
        pair, person, _, cell = (int(part) for part in os.path.basename(record.path)[:-4].split("_"))
        with Image.open(record.path) as image:
            np.testing.assert_array_equal(np.asarray(image), miniatures.cuhk03_pixels(boxes, pair, person, cell))


def test_images_that_are_there_are_not_extracted_again(tmp_path):
    first = cuhk03.read(miniatures.cuhk03(tmp_path))
    kept, removed = first.train[0].path, first.query[0].path
    miniatures.write(tmp_path / "images_labeled" / os.path.basename(kept), np.zeros((4, 2, 3), np.uint8))
    os.remove(removed)
    calls = []
    assert cuhk03.read(tmp_path, progress=lambda done, total: calls.append((done, total))) == first
    assert calls == [(1, 1)]
    assert os.path.exists(removed)
    with Image.open(kept) as image:
        assert image.size == (2, 4)


def test_extracted_images_are_enough(tmp_path):
    from_raw = cuhk03.read(miniatures.cuhk03(tmp_path))
    os.remove(tmp_path / "cuhk-03.mat")
    assert cuhk03.read(tmp_path) == from_raw


def test_images_can_be_listed_without_extracting_them(tmp_path):
    listed = cuhk03.read(miniatures.cuhk03(tmp_path), extract=False)
    assert not (tmp_path / "images_labeled").exists()
    assert listed == cuhk03.read(tmp_path)


def test_images_are_extracted_to_another_place_when_asked_for(tmp_path):
    miniatures.cuhk03(tmp_path / "data")
    elsewhere = tmp_path / "deep" / "elsewhere"
    data = cuhk03.read(tmp_path / "data", extract_to=str(elsewhere))
    assert data.train[0].path == str(elsewhere / "images_labeled" / "1_001_1_01.png")
    assert sorted(os.listdir(elsewhere / "images_labeled")) == sorted(
        files((*data.train, *data.query, *data.gallery))
    )  # and nothing that is half written
    assert not (tmp_path / "data" / "images_labeled").exists()
    # The two kinds of boxes have the same names, so each has a folder of its own.
    detected = cuhk03.read(tmp_path / "data", boxes="detected", extract_to=str(elsewhere))
    assert detected.train[0].path == str(elsewhere / "images_detected" / "1_001_1_01.png")


def test_a_place_that_cannot_be_written_to_is_an_error_that_asks_for_another(tmp_path):
    miniatures.cuhk03(tmp_path / "data")
    (tmp_path / "data" / "images_labeled").touch()  # a file where the folder should be
    with pytest.raises(UserError, match=r"Expected to write .*cuhk03\.read\.extract_to"):
        cuhk03.read(tmp_path / "data")


@pytest.mark.parametrize("where", ["beside cuhk-03.mat", "beside cuhk03_release", "in the given folder's parent"])
def test_the_split_file_is_found_around_the_raw_file(tmp_path, where):
    miniatures.cuhk03(tmp_path)
    (tmp_path / "cuhk03_release").mkdir()
    shutil.move(tmp_path / "cuhk-03.mat", tmp_path / "cuhk03_release")
    if where == "beside cuhk-03.mat":
        for boxes in BOXES:
            shutil.move(split_file(tmp_path, boxes), tmp_path / "cuhk03_release")
    data = cuhk03.read(tmp_path / "cuhk03_release" if "parent" in where else tmp_path)
    assert len(data.train) == 16
    assert data.train[0].path.startswith(str(tmp_path / "cuhk03_release" / "images_labeled"))


@pytest.mark.parametrize("boxes", BOXES)
def test_a_missing_split_file_is_an_error_that_names_it_and_its_source(tmp_path, boxes):
    split_file(miniatures.cuhk03(tmp_path), boxes).unlink()
    message = f"split file cuhk03_new_protocol_config_{boxes}.mat .* missing.*github.com/zhunzhong07/person-re-ranking"
    with pytest.raises(UserError, match=message):
        cuhk03.read(tmp_path, boxes=boxes)


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "HDF5"])
def test_a_damaged_split_file_is_an_error(tmp_path, kind):
    content = split_file(miniatures.cuhk03(tmp_path)).read_bytes()
    mat = (tmp_path / "cuhk-03.mat").read_bytes()
    split_file(tmp_path).write_bytes(
        {"empty": b"", "text": b"no MATLAB file " * 20, "truncated": content[: len(content) // 2], "HDF5": mat}[kind]
    )
    with pytest.raises(UserError, match=r"Expected a split file .* cannot be used .*github\.com") as error:
        cuhk03.read(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "came"),
    [
        ({"labels": None}, "there is no labels"),
        ({"labels": np.full((32, 1), 1.5)}, "labels holds something else than whole numbers"),
        ({"labels": np.zeros((32, 1))}, "a label is below 1"),
        ({"camId": np.ones((31, 1))}, "different lengths"),
        ({"query_idx": np.array([[0]])}, r"query_idx does not lie in 1\.\.32"),
        ({"gallery_idx": np.array([[33]])}, r"gallery_idx does not lie in 1\.\.32"),
        ({"filelist": np.array([["../../x.png"]] * 32, object)}, "got '../../x.png'"),
        ({"filelist": np.ones((32, 1))}, "cannot be used"),
    ],
)
def test_a_split_file_that_does_not_fit_together_is_an_error(tmp_path, changes, came):
    change_split(miniatures.cuhk03(tmp_path), **changes)
    with pytest.raises(UserError, match=came):
        cuhk03.read(tmp_path)


def test_an_image_that_the_folder_lacks_is_left_out_with_a_reason(tmp_path):
    miniatures.cuhk03(tmp_path, raw=False)
    path = tmp_path / "images_labeled" / "1_001_1_01.png"
    path.unlink()
    data = cuhk03.read(tmp_path)
    assert data.skipped == ((str(path), cuhk03.MISSING),)
    assert str(path) not in {record.path for record in data.train}
    assert len(data.train) == 15


def test_split_files_alone_are_an_error_that_asks_for_the_images(tmp_path):
    (miniatures.cuhk03(tmp_path) / "cuhk-03.mat").unlink()
    with pytest.raises(UserError, match=r"none can be used \(32 missing\)\. Put cuhk-03\.mat or the extracted images"):
        cuhk03.read(tmp_path)


def test_boxes_of_another_kind_are_an_error(tmp_path):
    with pytest.raises(UserError, match="'labeled' or 'detected', but got 'drawn'"):
        cuhk03.read(miniatures.cuhk03(tmp_path), boxes="drawn")


@pytest.mark.parametrize(("boxes", "gallery"), [("labeled", "5,328"), ("detected", "5,332")])
def test_what_differs_from_the_published_numbers_is_logged(tmp_path, caplog, boxes, gallery):
    cuhk03.read(miniatures.cuhk03(tmp_path), boxes=boxes)
    assert f"gallery has 8 images of 4 people, expected {gallery} of 700" in caplog.text
