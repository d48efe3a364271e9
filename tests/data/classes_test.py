import logging
import os

import pytest

from kdas_tf.data import classes, verify
from kdas_tf.errors import UserError

ANIMALS = ("bear", "cat", "dog")


@pytest.fixture
def make_folder(tmp_path):
    """Makes files with the names of images: reading looks at names only."""

    def make(*names: str):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


def of(split, images, animals=ANIMALS):
    return [f"{split}{animal}/{number}.jpg" for animal in animals for number in range(images)]


def short(records):
    """Records as `class number/file name`."""
    return [f"{record.identity}/{os.path.basename(record.path)}" for record in records]


def test_class_folders_are_numbered_in_the_order_of_their_names(make_folder):
    root = make_folder("train/dog/b.JPEG", "train/cat/a.png", "train/dog/a.jpg", "val/cat/v.jpg", "val/dog/w.jpg")
    data = classes.read(root)
    assert data.classes == ("cat", "dog")
    assert short(data.train) == ["0/a.png", "1/a.jpg", "1/b.JPEG"]
    assert short(data.val) == ["0/v.jpg", "1/w.jpg"]
    assert data.train[0].path == str(root / "train" / "cat" / "a.png")


@pytest.mark.parametrize("split", ["", "train/"])
def test_without_val_a_batch_shard_of_every_class_is_held_out(make_folder, split):
    root = make_folder(*of(split, 20))
    data = classes.read(root, held_out=0.2)
    assert [sum(r.identity == label for r in data.val) for label in range(3)] == [4, 4, 4]
    assert len(data.train) == 48
    assert not {r.path for r in data.train} & {r.path for r in data.val}
    assert classes.read(root, held_out=0.2) == data


def test_images_that_are_added_later_hardly_change_what_is_held_out(make_folder):
    held = {r.path for r in classes.read(make_folder(*of("", 20)), held_out=0.2).val}
    more = {r.path for r in classes.read(make_folder("cat/new.jpg"), held_out=0.2).val}
    assert len(held & more) >= len(held) - 1


def test_a_class_of_two_images_keeps_one_for_each_purpose_and_one_of_a_single_image_keeps_it_for_training(make_folder):
    data = classes.read(make_folder("cat/1.jpg", "cat/2.jpg", "dog/1.jpg"), held_out=0.9)
    assert [record.identity for record in data.train] == [0, 1]
    assert [record.identity for record in data.val] == [0]


def test_a_class_may_be_called_train(make_folder):
    root = make_folder("train/1.jpg", "train/2.jpg", "ship/1.jpg", "ship/2.jpg")
    assert classes.read(root).classes == ("ship", "train")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.jpg", "2.jpg"], r"one folder of images per class in \S+, but found 2 files \(1.jpg, 2.jpg\)"),
        (["train/1.jpg", "val/2.jpg"], r"one folder of images per class in \S+/train, but found 1 files \(1.jpg\)"),
        (["cat/1.jpg", "cat/2.jpg"], "at least two class folders in .* found only cat"),
        (["cat/1.jpg", "dog/notes.txt"], "1 of 2 have none; dog holds no image. Take"),
        (["cat/1.jpg", "dog/images/1.jpg"], "dog holds no image, only the folder images, and folders in class folders"),
        ([*of("train/", 1), "val/1.jpg", "val/2.jpg"], r"per class in \S+/val, but found 2 files"),
        ([*of("train/", 1), "val/horse/2.jpg"], "but horse is only in val"),
        (of("", 1), "a class of two or more images"),
        (["bounding_box_train/1.jpg", "query/1.jpg"], "folder of class folders.*It looks like Market-1501"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(make_folder, names, message):
    with pytest.raises(UserError, match=message) as caught:
        classes.read(make_folder(*names))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_empty_or_missing_is_refused(tmp_path):
    with pytest.raises(UserError, match="found an empty folder"):
        classes.read(tmp_path)
    with pytest.raises(UserError, match="there is nothing"):
        classes.read(tmp_path / "nowhere")


def test_classes_without_images_to_judge_by_are_told(make_folder, caplog):
    with caplog.at_level(logging.WARNING):
        classes.read(make_folder(*of("train/", 1), "val/cat/1.jpg"))
    assert "2 classes have no images" in caplog.text and "bear, dog" in caplog.text


@pytest.fixture
def readable(tmp_path, write_image):
    """A folder of readable images, and the data set in it."""
    for name in (*of("train/", 3), *of("val/", 1)):
        write_image(tmp_path / name)
    return tmp_path, classes.read(tmp_path)


def test_damaged_images_are_left_out_with_a_reason(readable, monkeypatch):
    root, data = readable
    monkeypatch.setattr(verify, "_WAITING", 5)  # three parts
    (root / "train/cat/1.jpg").write_bytes(b"")
    (root / "val/dog/0.jpg").write_text("no image")
    calls = []
    checked = classes.drop_damaged(data, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(done, 12) for done in range(1, 13)]
    assert short(checked.train) == [name for name in short(data.train) if name != "1/1.jpg"]
    assert short(checked.val) == ["0/0.jpg", "1/0.jpg"]
    assert [(os.path.relpath(path, root), reason.partition(":")[0]) for path, reason in checked.skipped] == [
        ("train/cat/1.jpg", "damaged"),
        ("val/dog/0.jpg", "damaged"),
    ]
    assert classes.describe(checked).endswith("3 classes, 8 images to train on, 2 to judge by; left out: 2 damaged")


@pytest.mark.parametrize(("pattern", "group"), [("train/cat/*", "of cat"), ("val/*/*", "to judge by")])
def test_a_class_or_a_split_whose_images_are_all_damaged_is_refused(readable, pattern, group):
    root, data = readable
    for path in root.glob(pattern):
        path.write_bytes(b"")
    with pytest.raises(UserError, match=f"Expected images {group} .* every one is damaged; the first, .*an empty file"):
        classes.drop_damaged(data)


def test_the_index_holds_all_of_a_data_set(readable, tmp_path):
    root, data = readable
    (root / "train/cat/1.jpg").write_bytes(b"")
    data = classes.drop_damaged(data)
    classes.save(data, tmp_path / "images.json")
    assert classes.load(tmp_path / "images.json") == data


@pytest.mark.parametrize("content", [None, "[1]", "{}", '{"name": "x", "classes": [], "train": [], "val": {}}'])
def test_a_damaged_index_is_refused_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "images.json").write_text(content)
    with pytest.raises(UserError, match="Expected the index of a folder of class folders") as caught:
        classes.load(tmp_path / "images.json")
    assert "\n" not in str(caught.value)
