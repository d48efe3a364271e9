import os

import pytest

from kdas_tf.data import folders, layouts
from kdas_tf.errors import UserError
from tests.data import miniatures

CAMERA = "cam(?P<camera>[0-9]+)"


def make(root, files):
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # the reader only looks at names
    return root


def names(records, root):
    return [os.path.relpath(record.path, root) for record in records]


def test_people_are_numbered_in_the_order_of_their_folders_and_nothing_is_trained_on(tmp_path):
    data = folders.read(make(tmp_path, ["zoe/1.jpg", "zoe/2.jpg", "Ben Smith/b.png", "Ben Smith/a.png"]))
    assert data.train == ()
    assert [(name, r.identity) for name, r in zip(names(data.query, tmp_path), data.query, strict=True)] == [
        ("Ben Smith/a.png", 1),
        ("zoe/1.jpg", 2),
    ]
    assert [(name, r.identity) for name, r in zip(names(data.gallery, tmp_path), data.gallery, strict=True)] == [
        ("Ben Smith/b.png", 1),
        ("zoe/2.jpg", 2),
    ]


def test_without_cameras_every_photograph_has_one_of_its_own(tmp_path):
    data = folders.read(miniatures.people(tmp_path))
    records = (*data.query, *data.gallery)
    assert len({record.camera for record in records}) == len(records) == 16
    assert len(data.query) == 4


def test_without_cameras_a_person_with_one_photograph_is_in_the_gallery_only(tmp_path, caplog):
    data = folders.read(make(tmp_path, ["a/1.jpg", "a/2.jpg", "b/1.jpg"]))
    assert names(data.query, tmp_path) == ["a/1.jpg"]
    assert names(data.gallery, tmp_path) == ["a/2.jpg", "b/1.jpg"]
    assert "1 people in" in caplog.text
    assert "have one photograph only" in caplog.text


def test_with_cameras_the_first_photograph_of_each_camera_is_a_query(tmp_path):
    data = folders.read(miniatures.people(tmp_path, cameras=3, images=2), camera_pattern=CAMERA)
    assert names(data.query, tmp_path)[:3] == ["anna/cam1_000.jpg", "anna/cam2_000.jpg", "anna/cam3_000.jpg"]
    assert [r.camera for r in data.query] == [1, 2, 3] * 4
    assert names(data.gallery, tmp_path)[:3] == ["anna/cam1_001.jpg", "anna/cam2_001.jpg", "anna/cam3_001.jpg"]


@pytest.mark.parametrize(
    ("photographs", "queries"),
    [
        (["cam1_a", "cam2_a"], ["cam2_a"]),  # one of two has to stay
        (["cam1_a", "cam2_a", "cam3_a"], ["cam2_a", "cam3_a"]),
        (["cam1_a", "cam2_a", "cam2_b"], ["cam1_a"]),  # camera 2 is the only match of camera 1
        (["cam1_a", "cam1_b", "cam2_a", "cam2_b"], ["cam1_a", "cam2_a"]),
        (["cam1_a", "cam1_b", "cam2_a", "cam2_b", "cam3_a"], ["cam1_a", "cam2_a", "cam3_a"]),
        (["cam1_a", "cam1_b"], []),  # all matches are in the query's own camera
        (["cam1_a"], []),
    ],
)
def test_with_cameras_every_query_has_a_match_in_another_camera(tmp_path, photographs, queries):
    others = ["other/cam1_a.jpg", "other/cam2_a.jpg"]
    data = folders.read(make(tmp_path, [*others, *(f"a/{name}.jpg" for name in photographs)]), camera_pattern=CAMERA)
    assert [r.path for r in data.query if r.identity == 1] == [str(tmp_path / "a" / f"{q}.jpg") for q in queries]
    assert len(data.query) + len(data.gallery) == len(photographs) + 2
    for query in data.query:
        assert any(r.identity == query.identity and r.camera != query.camera for r in data.gallery)


def test_people_seen_by_one_camera_are_counted(tmp_path, caplog):
    folders.read(
        make(tmp_path, ["a/cam1_a.jpg", "a/cam2_a.jpg", "b/cam1_a.jpg", "b/cam1_b.jpg"]), camera_pattern=CAMERA
    )
    assert "1 people in" in caplog.text
    assert "were seen by one camera only" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "files", "cameras"),
    [
        (CAMERA, ["cam3_a", "cam12_a"], {"cam3_a": 3, "cam12_a": 12}),
        (r"^(?P<camera>[a-z]+)", ["door_1", "attic_1"], {"attic_1": 1, "door_1": 2}),
        (r"(?P<camera>[0-9]+[ab]?)_", ["2_x", "10a_x"], {"10a_x": 1, "2_x": 2}),
    ],
)
def test_cameras_are_numbers_or_are_numbered_in_their_order(tmp_path, pattern, files, cameras):
    root = make(tmp_path, [f"{person}/{file}.jpg" for person in "pq" for file in files])
    data = folders.read(root, camera_pattern=pattern)
    found = {os.path.basename(r.path)[:-4]: r.camera for r in (*data.query, *data.gallery)}
    assert found == cameras


def test_names_that_do_not_tell_the_camera_are_left_out_with_a_reason(tmp_path, caplog):
    root = make(miniatures.people(tmp_path), ["anna/holiday.jpg"])
    data = folders.read(root, camera_pattern=CAMERA)
    assert data.skipped == ((str(tmp_path / "anna" / "holiday.jpg"), folders.NO_CAMERA),)
    assert len(data.query) + len(data.gallery) == 16
    assert "1 no camera" in caplog.text


def test_a_group_that_takes_no_part_in_a_match_tells_no_camera(tmp_path):
    root = make(tmp_path, [f"{person}/{file}.jpg" for person in "pq" for file in ("x", "1x", "2x")])
    data = folders.read(root, camera_pattern="(?P<camera>[0-9])?x")
    assert [path for path, _ in data.skipped] == [str(root / "p" / "x.jpg"), str(root / "q" / "x.jpg")]


def test_what_belongs_to_nobody_is_left_out_with_a_reason(tmp_path):
    root = make(miniatures.people(tmp_path), ["group.jpg", "readme.txt", ".cache/x.jpg", "__MACOSX/x.jpg"])
    (root / "anna" / "broken.jpg").symlink_to("nowhere")
    data = folders.read(root)
    assert data.skipped == (
        (str(root / "group.jpg"), folders.NO_PERSON),
        (str(root / "anna" / "broken.jpg"), layouts.NOT_A_FILE),
    )
    assert max(r.identity for r in data.gallery) == 4


def test_folders_without_photographs_are_no_people_and_warned_about(tmp_path, caplog):
    data = folders.read(make(miniatures.people(tmp_path), ["aaron/notes.txt"]))
    assert {r.identity for r in data.query} == {1, 2, 3, 4}
    assert "1 folders in" in caplog.text
    assert "aaron" in caplog.text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "found 0 folders without photographs"),
        (["1.jpg", "2.jpg"], "2 photographs in no folder: it looks like the folder of one person. Give its parent"),
        (["anna/1.jpg", "anna/2.jpg"], "found only one. Add people"),
        (["anna/1.txt", "ben/1.txt"], "found 2 folders without photographs"),
        (["people/anna/1.jpg", "people/ben/1.jpg"], "holds folders. Give .*/people"),
        (["anna/1.jpg", "ben/1.jpg"], "each of the 2 has one only"),
    ],
)
def test_too_few_people_or_photographs_are_an_error_that_says_what_came(tmp_path, files, message):
    with pytest.raises(UserError, match=message) as error:
        folders.read(make(tmp_path, files))
    assert "\n" not in str(error.value)


def test_matches_in_the_query_s_own_camera_alone_are_an_error_that_explains_it(tmp_path):
    miniatures.people(tmp_path, cameras=1, images=3)
    with pytest.raises(UserError, match="all matches are in the query's own camera, where they do not count"):
        folders.read(tmp_path, camera_pattern=CAMERA)
    assert len(folders.read(tmp_path).query) == 4


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("cam(", "a regular expression, but got 'cam\\('"),
        ("cam([0-9])", "a group named camera, but got"),
        ("c(?P<camera>[0-9])s", "matches none, for example not cam1_000.jpg"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_an_error_that_says_why(tmp_path, pattern, message):
    with pytest.raises(UserError, match=message) as error:
        folders.read(miniatures.people(tmp_path), camera_pattern=pattern)
    assert "\n" not in str(error.value)


def test_to_train_half_of_the_people_are_kept_for_judging(tmp_path):
    files = [f"{person}/{number}.jpg" for person in ("ann", "bob", "cat", "dan", "eve", "fay") for number in "123"]
    data = folders.read(make(tmp_path, files), training=True)
    assert (len(data.train), len(data.query), len(data.gallery)) == (9, 3, 6)
    assert "folders.read.seed = 0" in data.notes[0]


def test_the_folders_train_and_test_say_who_is_trained_on(tmp_path):
    files = [
        f"{part}/{person}/{n}.jpg"
        for part, people in (("Train", "ab"), ("test", "cd"))
        for person in people
        for n in "12"
    ]
    data = folders.read(make(tmp_path, files))
    assert names(data.train, tmp_path) == ["Train/a/1.jpg", "Train/a/2.jpg", "Train/b/1.jpg", "Train/b/2.jpg"]
    assert names(data.query, tmp_path) == ["test/c/1.jpg", "test/d/1.jpg"]
    assert names(data.gallery, tmp_path) == ["test/c/2.jpg", "test/d/2.jpg"]


def test_val_is_judged_on_where_there_is_no_test_and_left_out_with_a_reason_where_there_is(tmp_path):
    files = [f"{folder}/{n}.jpg" for folder in ("train/a", "train/b", "val/c", "val/d") for n in "12"]
    assert len(folders.read(make(tmp_path, files)).query) == 2
    data = folders.read(make(tmp_path, [f"test/{person}/{n}.jpg" for person in "ef" for n in "12"]))
    assert names(data.query, tmp_path) == ["test/e/1.jpg", "test/f/1.jpg"]
    assert {reason for _, reason in data.skipped} == {folders.NO_SPLIT}
    assert len(data.skipped) == 4


def test_the_folders_query_and_gallery_say_what_is_searched_for(tmp_path, caplog):
    files = [
        f"{part}/{person}/cam{camera}.jpg"
        for part, camera in (("train", 1), ("query", 1), ("gallery", 2))
        for person in "ab"
    ]
    data = folders.read(make(tmp_path, files), camera_pattern=CAMERA)
    assert (len(data.train), len(data.query), len(data.gallery)) == (2, 2, 2)
    assert data.matched_queries() == 2
    assert "2 identities of" in caplog.text  # trained on and judged


def test_people_may_be_called_train_and_test(tmp_path):
    data = folders.read(make(tmp_path, ["train/1.jpg", "train/2.jpg", "test/1.jpg", "test/2.jpg"]))
    assert data.train == () and len(data.query) == 2


def test_folders_of_cameras_in_those_of_people_are_read_with_a_pattern_that_has_a_slash(tmp_path):
    root = make(
        tmp_path, [f"{person}/{camera}/{n}.jpg" for person in "ab" for camera in ("door", "hall") for n in "12"]
    )
    with pytest.raises(UserError, match="If the folders in a are cameras, give") as error:
        folders.read(root)
    pattern = str(error.value).split("camera_pattern='")[1].split("'")[0]
    data = folders.read(root, camera_pattern=pattern)
    assert names(data.query, tmp_path) == ["a/door/1.jpg", "a/hall/1.jpg", "b/door/1.jpg", "b/hall/1.jpg"]
    assert [r.camera for r in data.query] == [1, 2, 1, 2]


def test_a_table_in_the_folder_is_pointed_to(tmp_path):
    (tmp_path / "people.csv").touch()
    with pytest.raises(UserError, match=r"found people\.csv\. If it lists the photographs, use .*lists"):
        folders.read(tmp_path)
