"""Reads any data set in the Market-1501 layout (Zheng et al. 2015, "Scalable Person Re-identification")."""

import collections
import logging
import os
import re
from pathlib import Path

from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
JUNK = "junk: a box that shows no single person (identity -1)"
DISTRACTOR = "distractor: identity 0 cannot be learned"
WRONG_NAME = "wrong name: expected something like 0002_c1s1_000451_03.jpg"
NOT_A_FILE = "not a file: a folder or a broken link with the name of an image"

# 0002_c1s1_000451_03.jpg: identity 2, camera 1, sequence 1. DukeMTMC has no sequence, and one file of Market-1501 as it
# is distributed ends in .jpg.jpg.
_NAME = re.compile(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)(s\d+)?(_.*)?\.(jpe?g|png)", re.IGNORECASE | re.ASCII)
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_OTHER_LAYOUTS = {
    "CUHK03": ("cuhk-03.mat", "cuhk03_release", "images_labeled", "images_detected"),
    "MSMT17": ("list_train.txt", "MSMT17_V1", "MSMT17_V2", "mask_train_v2"),
}


def read(root: str | os.PathLike, *, name: str = "Market-1501") -> ReIDData:
    """Reads the folders `bounding_box_train`, `query` and `bounding_box_test`.

    Images of identity -1 are junk and left out; those of identity 0 are distractors, which stay in the gallery only.
    A data set without queries or gallery can be trained on: their splits are empty, and a warning is logged.

    Args:
        root: the folder that holds the three, or one that holds exactly one such folder.
        name: name of the data set, for people.

    Returns:
        The records, in the order of their file names, with absolute paths; and what was left out, with reasons.

    Raises:
        UserError: there is no `root`, no folder of training images in it, or no usable image in that folder.
    """
    folder = _find_layout(Path(os.path.abspath(os.path.expanduser(root))))
    train, skipped = _read_split(folder / TRAIN, keep_distractors=False)
    if not train:
        reasons = _count_reasons(skipped) or "the folder is empty"
        raise UserError(
            f"Expected images named like 0002_c1s1_000451_03.jpg in {folder / TRAIN}, but none can be used "
            f"({reasons}). Unpack the data set again or rename the images."
        )
    query, query_skipped = _read_split(folder / QUERY, keep_distractors=False)
    gallery, gallery_skipped = _read_split(folder / GALLERY, keep_distractors=True)
    _warn_about_evaluation(folder, train, query, gallery)
    return ReIDData(name, train, query, gallery, skipped + query_skipped + gallery_skipped)


def describe(data: ReIDData) -> str:
    """A table of images, identities (without distractors) and cameras per split, then what was left out, by reason."""
    lines = [f"{data.name:<12}{'images':>10}{'identities':>12}{'cameras':>9}"]
    for split in ("train", "query", "gallery"):
        records = getattr(data, split)
        identities = {record.identity for record in records} - {0}
        cameras = {record.camera for record in records}
        lines.append(f"{split:<12}{len(records):>10,}{len(identities):>12,}{len(cameras):>9,}")
    distractors = sum(record.identity == 0 for record in data.gallery)
    if distractors:
        lines.append(f"The gallery holds {distractors:,} distractors.")
    if data.skipped:
        lines.append(f"Left out: {len(data.skipped):,} files ({_count_reasons(data.skipped)}).")
    return "\n".join(lines)


def _count_reasons(skipped: tuple[tuple[str, str], ...]) -> str:
    """What comes before the colon is the kind of a reason: '3,819 junk, 2 wrong name'."""
    counts = collections.Counter(reason.partition(":")[0] for _, reason in skipped)
    return ", ".join(
        f"{count:,} {kind}" for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def _find_layout(root: Path) -> Path:
    """The folder that holds `bounding_box_train`: `root` or its only sub-folder that does."""
    if not root.is_dir():
        came = "a file" if root.is_file() else "nothing"
        raise UserError(f"Expected the folder of a data set at {root}, but there is {came}. Correct --data_dir.")
    if (root / TRAIN).is_dir():
        return root
    candidates = [root / entry for entry in _list(root) if (root / entry / TRAIN).is_dir()]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = ", ".join(path.name for path in candidates)
        raise UserError(
            f"Expected one data set in {root}, but there are {len(candidates)}: {names}. Choose one of them."
        )
    raise UserError(
        f"Expected the folders {TRAIN}, {QUERY} and {GALLERY} in {root}, but found {_what_is_there(root)}. "
        f"{_what_to_do(root)}"
    )


def _what_is_there(root: Path) -> str:
    found = [folder for folder in (QUERY, GALLERY) if (root / folder).is_dir()]
    if found:
        return f"only {' and '.join(found)}"
    entries = _list(root)
    if not entries:
        return "an empty folder"
    return f"none of them among its {len(entries)} entries ({', '.join(entries[:4])}{', ...' if entries[4:] else ''})"


def _what_to_do(root: Path) -> str:
    for data_set, marks in _OTHER_LAYOUTS.items():
        mark = next((mark for mark in marks if mark in root.name or (root / mark).exists()), None)
        if mark:
            return (
                f"It looks like {data_set} (because of {mark}), which has no reader yet: bring it into the layout of "
                "Market-1501."
            )
    if root.name in (TRAIN, QUERY, GALLERY) and (root.parent / TRAIN).is_dir():
        return f"Give its parent, {root.parent}."
    return "Give the folder that was unpacked from the archive of the data set."


def _list(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(
            f"Expected to read the folder {folder}, but: {error.strerror}. Check its permissions."
        ) from error


def _read_split(folder: Path, *, keep_distractors: bool) -> tuple[tuple[Record, ...], tuple[tuple[str, str], ...]]:
    """Reads one flat folder; sub-folders are not entered, so that a loop of links cannot hang."""
    records: list[Record] = []
    skipped: list[tuple[str, str]] = []
    for file in _list(folder) if folder.is_dir() else ():
        # Thumbs.db, .DS_Store, and the ._0002_c1s1_000451_03.jpg that macOS adds to archives.
        if file.startswith(".") or not file.lower().endswith(_IMAGE_SUFFIXES):
            continue
        path = os.path.join(folder, file)
        match = _NAME.fullmatch(file)
        if not os.path.isfile(path):
            skipped.append((path, NOT_A_FILE))
        elif not match:
            skipped.append((path, WRONG_NAME))
        elif match["identity"] == "-1":
            skipped.append((path, JUNK))
        elif int(match["identity"]) == 0 and not keep_distractors:
            skipped.append((path, DISTRACTOR))
        else:
            records.append(Record(path, int(match["identity"]), int(match["camera"])))
    return tuple(records), tuple(skipped)


def _warn_about_evaluation(
    folder: Path, train: tuple[Record, ...], query: tuple[Record, ...], gallery: tuple[Record, ...]
) -> None:
    empty = [name for name, records in ((QUERY, query), (GALLERY, gallery)) if not records]
    if empty:
        logging.warning(
            "No usable image in %s of %s: this data set can be trained on, not evaluated on.",
            " and ".join(empty),
            folder,
        )
    shared = {record.identity for record in train} & {record.identity for record in (*query, *gallery)}
    if shared:
        logging.warning(
            "%d identities of %s are in both training and test images: its scores will be too high.",
            len(shared),
            folder,
        )
