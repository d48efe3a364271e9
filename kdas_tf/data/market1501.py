"""Reads any data set in the Market-1501 layout (Zheng et al. 2015, "Scalable Person Re-identification")."""

import dataclasses
import os
import re
from pathlib import Path

from kdas_tf.data import counts, layouts
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

Skipped = tuple[tuple[str, str], ...]


def read(
    root: str | os.PathLike,
    *,
    name: str = "Market-1501",
    distractors: str | None = None,
    published: bool | None = None,
) -> ReIDData:
    """Reads the folders `bounding_box_train`, `query` and `bounding_box_test`.

    Images of identity -1 are junk and left out; those of identity 0 are distractors, which stay in the gallery only.
    A data set without queries or gallery can be trained on: their splits are empty, and a warning is logged.

    Args:
        root: the folder that holds the three, or a folder that holds exactly one such folder.
        name: name of the data set, for people.
        distractors: a folder of photographs of nobody who is searched for, with any names; they are appended to the
            gallery as identity 0 of camera 0. For Market-1501, the folder `images` of distractors_500k.zip.
        published: whether to log what differs from the published numbers of Market-1501; None decides by the folder's
            name, because many other data sets have this layout.

    Returns:
        The records, in the order of their file names, with absolute paths; and what was left out, with reasons.

    Raises:
        UserError: there is no `root`, no folder of training images in it, no usable image in that folder, or
            no image in `distractors`.
    """
    folder = layouts.find(root, layouts.MARKET1501)
    train, skipped = _read_split(folder / TRAIN, keep_distractors=False)
    if not train:
        reasons = counts.count_reasons(skipped) or "the folder is empty"
        raise UserError(
            f"Expected images named like 0002_c1s1_000451_03.jpg in {folder / TRAIN}, but none can be used "
            f"({reasons}). Unpack the data set again or rename the images.",
            code="content",
        )
    query, query_skipped = _read_split(folder / QUERY, keep_distractors=False)
    gallery, gallery_skipped = _read_split(folder / GALLERY, keep_distractors=True)
    data = ReIDData(name, train, query, gallery, skipped + query_skipped + gallery_skipped)
    counts.warn_about_evaluation(data, folder)
    if published or (published is None and _OWN_NAME.search(folder.name)):
        counts.warn_unless_published(data, PUBLISHED)
    if distractors is None:
        return data
    more, more_skipped = _read_distractors(distractors)
    return dataclasses.replace(data, gallery=data.gallery + more, skipped=data.skipped + more_skipped)


def _read_split(folder: Path, *, keep_distractors: bool) -> tuple[tuple[Record, ...], Skipped]:
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
        elif int(match["identity"]) == 0 and not keep_distractors:
            skipped.append((path, DISTRACTOR))
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
