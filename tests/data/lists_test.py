import os

import pytest

from kdas_tf.data import lists
from kdas_tf.errors import UserError


def make(root, text, name="people.csv", files=("a1", "a2", "b1", "b2", "c1", "c2")):
    root.mkdir(exist_ok=True)
    for file in files:
        (root / f"{file}.jpg").touch()
    (root / name).write_text(text, encoding="utf-8")
    return root


FULL = (
    "path,identity,camera,split\n"
    "a1.jpg,anna,door,train\na2.jpg,anna,attic,train\n"
    "b1.jpg,ben,door,query\nb2.jpg,ben,attic,gallery\n"
    "c1.jpg,chris,door,gallery\nc2.jpg,chris,attic,gallery\n"
)


def rows(records):
    return [(os.path.basename(r.path), r.identity, r.camera) for r in records]


def test_a_table_says_who_is_where(tmp_path):
    data = lists.read(make(tmp_path, FULL))
    assert rows(data.train) == [("a1.jpg", 1, 2), ("a2.jpg", 1, 1)]
    assert rows(data.query) == [("b1.jpg", 2, 2)]
    assert rows(data.gallery) == [("b2.jpg", 2, 1), ("c1.jpg", 3, 2), ("c2.jpg", 3, 1)]
    assert data.train[0].path == str(tmp_path / "a1.jpg")
    assert data.cameras_known
    assert data.matched_queries() == 1


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + FULL,
        FULL.replace(",", ";"),
        FULL.replace(",", "\t"),
        FULL.replace("\n", "\r\n"),
        FULL.replace("path,identity,camera,split", "File, PID ,CamID,Subset"),
        FULL.replace("query", " Query "),
        FULL + "\n,,,\n",
    ],
)
def test_tables_as_programs_write_them_are_the_same(tmp_path, text):
    expected = lists.read(make(tmp_path / "a", FULL))
    found = lists.read(make(tmp_path / "b", text))
    for split in ("train", "query", "gallery"):
        assert rows(getattr(found, split)) == rows(getattr(expected, split))


def test_test_leaves_the_queries_to_the_rule(tmp_path):
    text = FULL.replace("query", "test").replace("gallery", "test")
    data = lists.read(make(tmp_path, text))
    assert rows(data.query) == [("b2.jpg", 2, 1), ("c2.jpg", 3, 1)]
    assert rows(data.gallery) == [("b1.jpg", 2, 2), ("c1.jpg", 3, 2)]


def test_tables_named_after_the_splits_need_no_column(tmp_path):
    make(tmp_path, "path,identity\na1.jpg,1\na2.jpg,1\n", "train.csv")
    make(tmp_path, "path,identity\nb1.jpg,2\nc1.jpg,3\nb2.jpg,2\nc2.jpg,3\n", "test.csv")
    data = lists.read(tmp_path)
    assert rows(data.train) == [("a1.jpg", 1, 1), ("a2.jpg", 1, 2)]
    assert len(data.query) == len(data.gallery) == 2
    assert not data.cameras_known


def test_without_a_split_the_people_are_split_by_the_seed_as_those_of_folders(tmp_path):
    files = [f"{person}{number}" for person in "abcdef" for number in (1, 2)]
    text = "path,identity\n" + "".join(f"{file}.jpg,{file[0]}\n" for file in files)
    root = make(tmp_path, text, files=files)
    data = lists.read(root, training=True)
    assert (len(data.train), len(data.query), len(data.gallery)) == (6, 3, 3)
    assert lists.read(root).train == ()
    assert "lists.read.seed = 0" in data.notes[0]


def test_what_is_missing_or_listed_twice_is_left_out_with_a_reason(tmp_path):
    data = lists.read(make(tmp_path, FULL + "nowhere.jpg,ben,door,gallery\na1.jpg,anna,door,train\n"))
    assert data.skipped == ((str(tmp_path / "nowhere.jpg"), lists.MISSING), (str(tmp_path / "a1.jpg"), lists.TWICE))


def test_identities_of_any_length_are_names(tmp_path):
    data = lists.read(make(tmp_path, FULL.replace("anna", "9" * 20)))
    assert {record.identity for record in (*data.train, *data.query, *data.gallery)} == {1, 2, 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line of .*people.csv to be 'path,identity,camera,split'"),
        ("a1.jpg,anna\n", "the first line"),
        (FULL + "x.jpg,,door,train\n", "line 8 is 'x.jpg,,door,train'"),
        (FULL + "x.jpg,eve,door,valid\n", "split of train, test, query, gallery, but line 8"),
        (FULL + "x.jpg\n", "line 8 is 'x.jpg'"),
        (FULL.replace("a1.jpg,anna,door,train", "a1.jpg,anna,,train"), "a camera in every line .* but 1 of 6"),
        (FULL.replace("a1.jpg,anna,door,train", "a1.jpg,anna,door"), "a split in every line .* but 1 of 6"),
        (FULL + "a1.jpg,ben,door,train\n", "is said to show 'anna' and 'ben'"),
        (FULL.replace(".jpg", ".JPEG"), "none of 6 is there; the first is .*a1.JPEG"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error_in_one_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        lists.read(make(tmp_path, text))
    assert "\n" not in str(error.value)


def test_no_table_or_several_are_an_error_that_says_how_to_choose(tmp_path):
    with pytest.raises(UserError, match="but there are none"):
        lists.read(tmp_path)
    make(tmp_path, FULL)
    make(tmp_path, FULL, "other.csv")
    with pytest.raises(UserError, match=r"but there are 2: other\.csv, people\.csv\. Give its name"):
        lists.read(tmp_path)
    assert lists.read(tmp_path, file="other.csv").train
    (tmp_path / "other.csv").write_bytes(b"path,identity\n\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        lists.read(tmp_path, file="other.csv")


@pytest.mark.parametrize("cell", ["x" * 200_000, "\0" + "y" * 200_000, '"never closed' + "z" * 200_000])
def test_a_table_with_cells_that_no_name_can_have_is_refused_in_one_line(tmp_path, cell):
    with pytest.raises(UserError, match="cannot be read") as error:
        lists.read(make(tmp_path, FULL + cell + ",anna,door,train\n"))
    assert "\n" not in str(error.value)
