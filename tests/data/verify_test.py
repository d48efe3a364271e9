import os
import re
import time

import numpy as np
import pytest

from kdas_tf.data import verify
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError
from tests import pictures


def spoil(path, kind, write_image):
    if kind == "missing":
        return
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_image(path, pixels=pixels)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"not an image", "truncated": content[: len(content) // 2]}[kind])


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("empty", "damaged: an empty file"),
        ("text", "damaged: not an image in one of the formats JPEG, PNG, BMP, GIF, TIFF, WebP"),
        ("truncated", "damaged: a {kind} that is cut short"),
        ("missing", "damaged: No such file or directory"),
    ],
)
def test_an_image_that_cannot_be_read_is_left_out_with_a_reason(
    tmp_path, make_records, write_image, kind, reason, suffix
):
    good = make_records(2, 2)
    bad = Record(str(tmp_path / f"bad.{suffix}"), 1, 1)
    spoil(tmp_path / f"bad.{suffix}", kind, write_image)
    data = ReIDData(
        "tiny", train=(good[0], bad, good[1]), query=(good[2],), gallery=(good[3],), skipped=(("x", "junk"),)
    )
    checked = verify.drop_damaged(data)
    assert checked.train == (good[0], good[1])
    assert (checked.query, checked.gallery) == (data.query, data.gallery)
    assert checked.skipped[0] == ("x", "junk")
    assert checked.skipped[1][0] == bad.path
    assert checked.skipped[1][1].startswith(reason.format(kind="PNG" if suffix == "png" else "JPEG"))


def test_a_file_of_too_many_bytes_is_left_out_without_being_read(make_records, monkeypatch):
    records = make_records(1, 2, size=(10, 10))
    monkeypatch.setattr(verify, "MAX_BYTES", 99)
    with pytest.raises(UserError, match="bytes are more than 99"):
        verify.drop_damaged(ReIDData("tiny", train=tuple(records)))


@pytest.mark.parametrize("what", pictures.damaged_files())
def test_every_file_that_would_end_a_training_is_left_out_in_a_line_that_says_why(tmp_path, what):
    content, reason = pictures.damaged_files()[what]
    (tmp_path / "person.jpg").write_bytes(content)
    damage = verify.damages_of([str(tmp_path / "person.jpg")])[str(tmp_path / "person.jpg")]
    assert reason in damage and "\n" not in damage


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert verify.damages_of([str(tmp_path / "pipe.jpg")]) == {str(tmp_path / "pipe.jpg"): "not a file"}


def test_a_signal_waits_for_the_images_at_hand_only(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(verify, "_damage", lambda path: opened.append(path) or time.sleep(0.01))

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify.damages_of([str(number) for number in range(4000)], stop)
    assert len(opened) < 1000


def test_progress_is_told_after_every_image(make_records):
    records = make_records(1, 3)
    calls = []
    verify.drop_damaged(
        ReIDData("tiny", train=tuple(records[:2]), query=(records[2],)),
        progress=lambda done, total: calls.append((done, total)),
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_split_whose_images_are_all_damaged_is_an_error(make_records):
    data = ReIDData("tiny", train=tuple(make_records(1, 2)), gallery=(Record("/nowhere/1.jpg", 1, 1),))
    with pytest.raises(UserError, match=r"gallery split of tiny, but every one of its 1 is damaged.*/nowhere/1.jpg"):
        verify.drop_damaged(data)


def test_identities_with_a_single_image_are_not_trained_on():
    records = [Record("a", 5, 1), Record("b", 7, 1), Record("c", 5, 2), Record("d", 9, 1), Record("e", 9, 1)]
    kept, skipped = verify.keep_trainable(records)
    assert [r.path for r in kept] == ["a", "c", "d", "e"]
    assert skipped == (("b", verify.SINGLE_IMAGE),)


@pytest.mark.parametrize(("identities", "found"), [([1, 2], "0 (and 2 with"), ([1, 1, 2], "1 (and 1 with")])
def test_fewer_than_two_people_with_two_images_are_an_error(identities, found):
    with pytest.raises(UserError, match=rf"two or more training images each, but there are {re.escape(found)}"):
        verify.keep_trainable([Record(str(number), identity, 1) for number, identity in enumerate(identities)])
