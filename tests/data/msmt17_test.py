import os

import pytest
from PIL import Image

from kdas_tf.data import msmt17
from kdas_tf.errors import UserError
from tests.data import miniatures

LISTS = ("list_train.txt", "list_query.txt", "list_gallery.txt")


def write_lists(folder, train, query=(), gallery=()):
    """Writes lists (path, identity) and an empty file for every path."""
    for split, split_folder, lines in (
        ("train", "train", train),
        ("query", "test", query),
        ("gallery", "test", gallery),
    ):
        lines = lines or [("0000/0000_000_01_x_0.jpg", 0)]
        for path, _ in lines:
            (folder / split_folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / split_folder / path).touch()
        (folder / f"list_{split}.txt").write_text("".join(f"{path} {identity}\n" for path, identity in lines))
    return folder


def test_records_follow_the_lists_and_no_two_people_share_a_number(tmp_path):
    folder = write_lists(
        tmp_path,
        train=[("0007/0007_045_12_0303morning_0006_2.jpg", 7), ("0000/0000_046_03_0303morning_0006_2_ex.jpg", 0)],
        query=[("0000/0000_000_01_0303morning_0015_0.jpg", 0)],
        gallery=[("0001/0001_042_15_0113noon_1651_10.jpg", 1), ("0000/0000_008_02_0303morning_0019_2.jpg", 0)],
    )
    data = msmt17.read(folder)
    assert [(r.path, r.identity, r.camera) for r in data.train] == [
        (str(tmp_path / "train/0007/0007_045_12_0303morning_0006_2.jpg"), 8, 12),
        (str(tmp_path / "train/0000/0000_046_03_0303morning_0006_2_ex.jpg"), 1, 3),
    ]
    # Training has the numbers 1..8, so person 0 of test is 9.
    assert [(r.identity, r.camera) for r in data.query] == [(9, 1)]
    assert [(r.identity, r.camera) for r in data.gallery] == [(10, 15), (9, 2)]


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_are_read(tmp_path, version):
    data = msmt17.read(miniatures.msmt17(tmp_path, version, train=4, test=3, cameras=2, images=2))
    assert (len(data.train), len(data.query), len(data.gallery)) == (16, 6, 6)
    assert {r.identity for r in data.train} == {1, 2, 3, 4}
    assert {r.identity for r in data.query} == {r.identity for r in data.gallery} == {5, 6, 7}
    assert {r.camera for r in data.gallery} == {1, 2}
    assert {os.path.relpath(r.path, tmp_path).split(os.sep)[0] for r in (*data.train, *data.query)} == (
        {"train", "test"} if version == 1 else {"mask_train_v2", "mask_test_v2"}
    )
    with Image.open(data.query[0].path) as image:
        assert image.size == (16, 32)


def test_the_images_of_list_val_are_trained_on_only_when_asked_for(tmp_path):
    folder = miniatures.msmt17(tmp_path, train=4)
    without, with_val = msmt17.read(folder), msmt17.read(folder, with_val=True)
    assert with_val.train[:16] == without.train
    assert len(with_val.train) == 16 + 4
    assert (with_val.query, with_val.gallery) == (without.query, without.gallery)


def test_list_val_is_needed_only_when_it_is_asked_for(tmp_path):
    (miniatures.msmt17(tmp_path) / "list_val.txt").unlink()
    assert msmt17.read(tmp_path).train
    with pytest.raises(UserError, match=r"Expected the list list_val\.txt"):
        msmt17.read(tmp_path, with_val=True)


def test_the_published_numbers_grow_by_those_of_list_val(tmp_path, caplog):
    folder = miniatures.msmt17(tmp_path)
    msmt17.read(folder)
    assert "expected 30,248 of 1,041" in caplog.text
    msmt17.read(folder, with_val=True)
    assert "expected 32,621 of 1,041" in caplog.text
    assert "expected 11,659 of 3,060" in caplog.text
    assert "expected 82,161 of 3,060" in caplog.text


def test_an_image_that_is_not_there_is_left_out_with_a_reason(tmp_path):
    first = msmt17.read(miniatures.msmt17(tmp_path)).query[0].path
    os.remove(first)
    data = msmt17.read(tmp_path)
    assert data.skipped == ((first, msmt17.MISSING),)
    assert len(data.query) == 5


@pytest.mark.parametrize("file", LISTS)
def test_a_missing_list_is_an_error_that_names_it(tmp_path, file):
    (miniatures.msmt17(tmp_path) / file).unlink()
    with pytest.raises(UserError, match=rf"Expected the list {file} in .* missing\. Copy it from the archive"):
        msmt17.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "came"),
    [
        (b"", "it is empty"),
        (b"\n\n", "it is empty"),
        (b"0000/0000_000_01_x_0.jpg 0\n0000/0000_001_x_0.jpg 0\n", "line 2 is '0000/0000_001_x_0.jpg 0'"),
        (b"0000/0000_000_01_x_0.jpg\n", "line 1 is"),
        (b"0000/0000_000_01_x_0.jpg -1\n", "line 1 is"),
        (b"../0000_000_01_x_0.jpg 0\n", "line 1 is"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_damaged_list_is_an_error_that_says_where(tmp_path, content, came):
    (miniatures.msmt17(tmp_path) / "list_gallery.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"list_gallery\.txt") as error:
        msmt17.read(tmp_path)
    assert came in str(error.value)
    assert "\n" not in str(error.value)


def test_lists_with_the_line_ends_of_windows_are_read(tmp_path):
    for path in miniatures.msmt17(tmp_path).glob("*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(msmt17.read(tmp_path).gallery) == 6


def test_lists_without_any_of_their_training_images_are_an_error(tmp_path):
    miniatures.msmt17(tmp_path)
    (tmp_path / "train").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"Expected the 16 training images .* none is there"):
        msmt17.read(tmp_path)


def test_a_list_that_begins_with_a_byte_order_mark_is_read(tmp_path):
    root = miniatures.msmt17(tmp_path)
    before = msmt17.read(root)
    for path in root.glob("list_*.txt"):
        path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    assert msmt17.read(root) == before
