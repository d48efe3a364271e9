"""Reads any data set in the Market-1501 layout (Zheng et al. 2015, "Scalable Person Re-identification")."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

from kdas_tf.data import counts, layouts, own_people
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
JUNK = "junk: a box that shows no single person (identity -1)"
DISTRACTOR = "distractor: identity 0 cannot be learned"
WRONG_NAME = "wrong name: expected something like 0002_c1s1_000451_03.jpg"

# Of the 19,732 files in bounding_box_test 3,819 are junk.
PUBLISHED = {"train": (12_936, 751), "query": (3_368, 750), "gallery": (15_913, 750)}

# 0002_c1s1_000451_03.jpg: identity 2, camera 1, sequence 1. DukeMTMC has no sequence, and one file of Market-1501 as it
# is distributed ends in .jpg.jpg.
_NAME = re.compile(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)(s\d+)?(_.*)?\.(jpe?g|png)", re.IGNORECASE | re.ASCII)
_OWN_NAME = re.compile(r"market[-_ ]?1501", re.IGNORECASE)
_OWN_DISTRACTOR = re.compile(r"0000_c\d+s\d+_\d{6}_\d{2}\.jpg", re.ASCII)

Skipped = tuple[tuple[str, str], ...]


def read(
    root: str | os.PathLike,
    *,
    name: str = "Market-1501",
    distractors: str | None = None,
    published: bool | None = None,
    zero_is_person: bool | None = None,
    cameras_known: bool = True,
) -> ReIDData:
    """Reads the folders `bounding_box_train`, `query` and `bounding_box_test`.

    Images of identity -1 are junk and left out. Images of identity 0 are distractors in Market-1501, which stay in the
    gallery only; in a data set that counts its people from 0 they show a person, who gets the number after the highest.
    A data set without queries or gallery can be trained on: their splits are empty, and a warning is logged.

    Args:
        root: the folder that holds the three, or a folder that holds exactly one such folder.
        name: name of the data set, for people.
        distractors: a folder of photographs of nobody who is searched for, with any names; they are appended to the
            gallery as identity 0 of camera 0. For Market-1501, the folder `images` of distractors_500k.zip.
        published: whether to log what differs from the published numbers of Market-1501; None decides by the folder's
            name, because many other data sets have this layout.
        zero_is_person: whether identity 0 is a person. None: if no file of it is named as Market-1501 names its
            distractors, 0000_c1s1_000001_00.jpg.
        cameras_known: False: the cameras in the names are not real; every match counts.

    Returns:
        The records, in the order of their file names, with absolute paths; and what was left out, with reasons.

    Raises:
        UserError: there is no `root`, no folder of training images in it, no usable image in that folder, or
            no image in `distractors`.
    """
    folder = layouts.find(root, layouts.MARKET1501)
    splits = {part: _read_split(folder / part) for part in (TRAIN, QUERY, GALLERY)}
    (train, _), (query, _), (gallery, _) = splits.values()
    skipped = tuple(each for _, some in splits.values() for each in some)
    data = _with_identity_0(ReIDData(name, train, query, gallery, skipped), zero_is_person)
    if not data.train:
        reasons = counts.count_reasons(path for path in data.skipped if Path(path[0]).parent == folder / TRAIN)
        raise UserError(
            f"Expected images named like 0002_c1s1_000451_03.jpg in {folder / TRAIN}, but none can be used "
            f"({reasons or _what_else(folder / TRAIN)}). Unpack the data set again or rename the images.",
            code="content",
        )
    if not cameras_known:
        data = own_people.without_cameras(data)
    counts.warn_about_evaluation(data, folder)
    if published or (published is None and _OWN_NAME.search(folder.name)):
        counts.warn_unless_published(data, PUBLISHED)
    if distractors is None:
        return data
    more, more_skipped = _read_distractors(distractors)
    return dataclasses.replace(data, gallery=data.gallery + more, skipped=data.skipped + more_skipped)


def _with_identity_0(data: ReIDData, is_person: bool | None) -> ReIDData:
    """Gives the person of identity 0 another number, or leaves distractors out of all but the gallery."""
    everyone = (*data.train, *data.query, *data.gallery)
    names = [os.path.basename(record.path) for record in everyone if record.identity == 0]
    if not names:
        return data
    if is_person is None:
        is_person = not any(map(_OWN_DISTRACTOR.fullmatch, names))
    if is_person:
        number = 1 + max(record.identity for record in everyone)
        splits: dict[str, Any] = {
            split: tuple(dataclasses.replace(each, identity=each.identity or number) for each in getattr(data, split))
            for split in ("train", "query", "gallery")
        }
        note = (
            f"Identity 0 is taken for a person ({len(names):,} images) and has the number {number:,}, since its files "
            "are not named as Market-1501's distractors. market1501.read.zero_is_person=False makes it distractors."
        )
        return dataclasses.replace(data, **splits, notes=(*data.notes, note))
    train, query = (tuple(each for each in records if each.identity) for records in (data.train, data.query))
    left = tuple((each.path, DISTRACTOR) for each in (*data.train, *data.query) if not each.identity)
    notes = data.notes
    if left:
        notes += (
            f"{len(left):,} images of identity 0 outside of the gallery are left out: its files are named as "
            "Market-1501's distractors. If it is a person, give market1501.read.zero_is_person=True.",
        )
    return dataclasses.replace(data, train=train, query=query, skipped=(*data.skipped, *left), notes=notes)


def _what_else(folder: Path) -> str:
    """What a folder holds that has no image in it."""
    entries = layouts.list_folder(folder)
    inner = layouts.subfolders(folder)
    if not inner:
        return "the folder is empty" + (f" of images, with {len(entries)} other files" if entries else "")
    people = f"; if they are people, use --gin_file={layouts.PEOPLE.gin_file} and --data_dir={folder}"
    return f"it holds {len(inner)} folders ({layouts.some_of([path.name for path in inner])}), no image{people}"


def _read_split(folder: Path) -> tuple[tuple[Record, ...], Skipped]:
    """Reads one flat folder; a missing folder holds nothing."""
    if not folder.is_dir():
        return (), ()
    records: list[Record] = []
    paths, skipped = layouts.image_files(folder)
    for path in paths:
        match = _NAME.fullmatch(os.path.basename(path))
        if not match:
            skipped.append((path, WRONG_NAME))
        elif match["identity"] == "-1":
            skipped.append((path, JUNK))
        else:
            records.append(Record(path, int(match["identity"]), int(match["camera"])))
    return tuple(records), tuple(skipped)


def _read_distractors(distractors: str) -> tuple[tuple[Record, ...], Skipped]:
    """All images of a flat folder, or of the folder `images` in it."""
    option = "market1501.read.distractors"
    folder = layouts.existing_folder(distractors, "a folder of distractors", option)
    paths, skipped = layouts.image_files(folder)
    if not paths and not skipped and (folder / "images").is_dir():
        return _read_distractors(str(folder / "images"))
    if not paths:
        entries = layouts.list_folder(folder)
        came = f"{len(entries)} entries ({layouts.some_of(entries)})" if entries else "an empty folder"
        raise UserError(
            f"Expected images in the folder of distractors {folder}, but found {came}. Correct {option}.",
            code="content",
        )
    return tuple(Record(path, identity=0, camera=0) for path in paths), tuple(skipped)
