import logging
import os

import pytest

from kdas_tf.data import layouts, market1501
from kdas_tf.data.records import Record
from kdas_tf.errors import UserError


def make(root, files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")  # the reader only looks at names
    return root


COMPLETE = [
    "bounding_box_train/0007_c3s1_000001_01.jpg",
    "bounding_box_train/0002_c1s1_000451_03.jpg",
    "bounding_box_train/0002_c2s1_000451_03.jpg.jpg",
    "query/0001_c6s4_000002_00.jpg",
    "bounding_box_test/0001_c1s4_000002_00.jpg",
    "bounding_box_test/0000_c2s1_000003_00.jpg",
    "bounding_box_test/-1_c3s2_000004_00.jpg",
    "bounding_box_test/Thumbs.db",
]


def test_records_hold_identity_and_camera_in_the_order_of_file_names(tmp_path):
    root = make(tmp_path, COMPLETE)
    data = market1501.read(root, name="tiny")
    train = root / "bounding_box_train"
    assert data.name == "tiny"
    assert data.train == (
        Record(str(train / "0002_c1s1_000451_03.jpg"), 2, 1),
        Record(str(train / "0002_c2s1_000451_03.jpg.jpg"), 2, 2),
        Record(str(train / "0007_c3s1_000001_01.jpg"), 7, 3),
    )
    assert [(r.identity, r.camera) for r in data.query] == [(1, 6)]


def test_distractors_stay_in_the_gallery_and_junk_is_left_out_with_a_reason(tmp_path):
    data = market1501.read(make(tmp_path, COMPLETE))
    assert [r.identity for r in data.gallery] == [0, 1]
    assert [(os.path.basename(path), reason) for path, reason in data.skipped] == [
        ("-1_c3s2_000004_00.jpg", market1501.JUNK)
    ]


def test_a_distractor_among_the_training_images_is_left_out(tmp_path):
    data = market1501.read(make(tmp_path, [*COMPLETE, "bounding_box_train/0000_c1s1_000001_00.jpg"]))
    assert 0 not in {r.identity for r in data.train}
    assert market1501.DISTRACTOR in dict(data.skipped).values()


@pytest.mark.parametrize(
    ("name", "identity", "camera"),
    [
        ("0002_c1s1_000451_03.jpg", 2, 1),
        ("1501_c6s3_000000_00.JPG", 1501, 6),
        ("0005_c2_f0046985.jpg", 5, 2),
        ("0005_c15s1_1.jpeg", 5, 15),
        ("12_c3.png", 12, 3),
    ],
)
def test_names_seen_in_the_wild_are_read(tmp_path, name, identity, camera):
    (record,) = market1501.read(make(tmp_path, [*COMPLETE[3:5], f"bounding_box_train/{name}"])).train
    assert (record.identity, record.camera) == (identity, camera)


@pytest.mark.parametrize("name", ["person2.jpg", "c1_0002.jpg", "-2_c1s1_1.jpg", "0002_c1s1_1.gif", "0002c1s1.jpg"])
def test_images_with_wrong_names_are_left_out_with_a_reason(tmp_path, name):
    data = market1501.read(make(tmp_path, [*COMPLETE, f"bounding_box_train/{name}"]))
    assert dict(data.skipped)[str(tmp_path / "bounding_box_train" / name)] == market1501.WRONG_NAME


def test_links_that_lead_nowhere_or_in_a_loop_are_left_out(tmp_path):
    train = make(tmp_path, COMPLETE) / "bounding_box_train"
    (train / "loop").symlink_to(train)
    (train / "0009_c1s1_000001_00.jpg").symlink_to(train / "0009_c1s1_000001_00.jpg")
    (train / "0009_c1s1_000002_00.jpg").mkdir()
    data = market1501.read(tmp_path)
    assert len(data.train) == 3
    assert [reason for _, reason in data.skipped].count(layouts.NOT_A_FILE) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "but found an empty folder"),
        (["a.txt", "b.txt"], r"none of them among its 2 entries \(a.txt, b.txt\)"),
        (["query/0001_c1s1_1.jpg"], "but found only query"),
        (["bounding_box_train/Thumbs.db"], "the folder is empty"),
        (["bounding_box_train/a.jpg", "bounding_box_train/b.jpg"], "2 wrong name"),
    ],
)
def test_a_folder_without_usable_training_images_is_an_error_that_says_what_came(tmp_path, files, message):
    with pytest.raises(UserError, match=message) as error:
        market1501.read(make(tmp_path, files))
    assert "\n" not in str(error.value)


def test_training_images_alone_are_enough_but_warned_about(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        data = market1501.read(make(tmp_path, COMPLETE[:3]))
    assert (data.query, data.gallery) == ((), ())
    assert "query and gallery" in caplog.text


@pytest.mark.parametrize(
    ("folder", "published", "warned"),
    [
        ("Market-1501-v15.09.15", None, True),
        ("market1501", None, True),
        ("people", None, False),
        ("embedded", None, False),
        ("people", True, True),
        ("Market-1501-v15.09.15", False, False),
    ],
)
def test_numbers_are_compared_with_the_published_ones_when_the_folder_claims_them(
    tmp_path, caplog, folder, published, warned
):
    with caplog.at_level(logging.WARNING):
        market1501.read(make(tmp_path / folder, COMPLETE), published=published)
    assert ("train has 3 images of 2 people, expected 12,936 of 751" in caplog.text) == warned


def test_every_image_of_a_folder_of_distractors_is_one_in_the_gallery(tmp_path, caplog):
    make(tmp_path / "more", ["0.jpg", "-1_c1s1_000001_00.jpg", "0002_c1s1_000001_00.PNG", "Thumbs.db", "x/1.jpg"])
    (tmp_path / "more" / "broken.jpg").symlink_to("nowhere")
    root = make(tmp_path / "Market-1501", COMPLETE)
    with caplog.at_level(logging.WARNING):
        data = market1501.read(root, distractors=str(tmp_path / "more"))
    plain = market1501.read(root)
    assert data.gallery[: len(plain.gallery)] == plain.gallery
    assert data.gallery[len(plain.gallery) :] == tuple(
        Record(str(tmp_path / "more" / file), 0, 0)
        for file in ("-1_c1s1_000001_00.jpg", "0.jpg", "0002_c1s1_000001_00.PNG")
    )
    assert data.skipped[-1] == (str(tmp_path / "more" / "broken.jpg"), layouts.NOT_A_FILE)
    assert (data.train, data.query) == (plain.train, plain.query)
    assert "gallery has 2 images of 1 people" in caplog.text  # distractors are no part of the published gallery


def test_the_folder_that_the_archive_of_distractors_holds_is_found(tmp_path):
    make(tmp_path / "distractors_500k", ["images/0.jpg"])
    data = market1501.read(make(tmp_path / "a", COMPLETE), distractors=str(tmp_path / "distractors_500k"))
    assert data.gallery[-1] == Record(str(tmp_path / "distractors_500k" / "images" / "0.jpg"), 0, 0)


@pytest.mark.parametrize(
    ("files", "given", "came"),
    [
        ([], "nowhere", "there is nothing"),
        (["more/a.jpg"], "more/a.jpg", "there is a file"),
        (["more/a.txt"], "more", r"found 1 entries \(a.txt\)"),
        (["more/x/a.jpg"], "more/x/b", "there is nothing"),
    ],
)
def test_distractors_that_are_no_folder_of_images_are_an_error(tmp_path, files, given, came):
    make(tmp_path, files)
    with pytest.raises(UserError, match=f"{came}.*Correct market1501.read.distractors"):
        market1501.read(make(tmp_path / "data", COMPLETE), distractors=str(tmp_path / given))


def test_identity_0_is_a_person_where_no_file_is_named_as_a_distractor_of_market1501(tmp_path):
    files = [f"bounding_box_train/{person}_c{c}.jpg" for person in (0, 1) for c in (1, 2)]
    files += ["query/0_c1.jpg", "bounding_box_test/0_c2.jpg", "bounding_box_test/2_c2.jpg"]
    data = market1501.read(make(tmp_path, files))
    assert [r.identity for r in data.train] == [3, 3, 1, 1]
    assert [r.identity for r in (*data.query, *data.gallery)] == [3, 3, 2]
    assert data.skipped == ()
    assert "Identity 0 is taken for a person (4 images) and has the number 3" in data.notes[0]
    as_distractors = market1501.read(tmp_path, zero_is_person=False)
    assert [r.identity for r in as_distractors.train] == [1, 1]
    assert [r.identity for r in as_distractors.gallery] == [0, 2]


def test_images_of_identity_0_that_are_left_out_are_counted_and_can_be_kept(tmp_path):
    root = make(tmp_path, [*COMPLETE, *(f"bounding_box_train/0000_c{c}s1_000001_00.jpg" for c in (1, 2))])
    data = market1501.read(root)
    assert len(data.train) == 3
    assert data.notes[0].startswith("2 images of identity 0 outside of the gallery are left out")
    assert "market1501.read.zero_is_person=True" in data.notes[0]
    kept = market1501.read(root, zero_is_person=True)
    assert [r.identity for r in kept.train] == [8, 8, 2, 2, 7]
    assert market1501.read(make(tmp_path / "other", COMPLETE)).notes == ()


def test_cameras_that_are_not_real_can_be_declared_so(tmp_path):
    files = ["bounding_box_train/1_c1.jpg", "query/2_c1_1.jpg", "bounding_box_test/2_c1_2.jpg"]
    assert market1501.read(make(tmp_path, files)).matched_queries() == 0
    data = market1501.read(tmp_path, cameras_known=False)
    assert data.matched_queries() == 1
    assert not data.cameras_known and "NOT KNOWN" in data.notes[0]


def test_folders_in_place_of_images_are_said_to_be_there(tmp_path):
    make(tmp_path, ["bounding_box_train/0001/a.jpg", "bounding_box_train/0002/a.jpg"])
    with pytest.raises(UserError, match=r"it holds 2 folders \(0001, 0002\), no image; if they are people") as error:
        market1501.read(tmp_path)
    assert f"--data_dir={tmp_path / 'bounding_box_train'}" in str(error.value)
    assert "empty" not in str(error.value)
