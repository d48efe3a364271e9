"""Reads MSMT17, V1 and V2 (Wei et al. 2018, "Person Transfer GAN to Bridge Domain Gap for Person Re-ID")."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from kdas_tf import files
from kdas_tf.data import counts, layouts
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError

MISSING = "missing: in the list of a split, but there is no such file"

# With `with_val` the training images become 32,621.
PUBLISHED = {"train": (30_248, 1_041), "query": (11_659, 3_060), "gallery": (82_161, 3_060)}
PUBLISHED_VAL = 2_373

TRAIN_FOLDERS = ("train", "mask_train_v2")  # V1, V2
TEST_FOLDERS = ("test", "mask_test_v2")

# 0000/0000_000_01_0303morning_0015_0.jpg 0: the third field of the name is the camera, 1..15; then the identity.
_LINE = re.compile(r"(?P<path>\d+/\d+_\d+_(?P<camera>\d{1,400})_[^/\s]+)\s+(?P<identity>\d{1,400})", re.ASCII)


def read(root: str | os.PathLike, *, name: str = "MSMT17", with_val: bool = False) -> ReIDData:
    """Reads the images that `list_train.txt`, `list_query.txt` and `list_gallery.txt` name.

    The lists count the identities of training and of test from 0 each. Here identity i of training becomes i + 1, since
    0 stands for distractors, and the identities of test follow (1,042 to 4,101).

    Args:
        root: the folder MSMT17_V1 or MSMT17_V2, or a folder that holds exactly one of them.
        name: name of the data set, for people.
        with_val: whether to train on the images of `list_val.txt`, too. It lists other images of the training people;
            published scores are mostly those of training without them.

    Returns:
        The records, in the order of the lists, with absolute paths; and what was left out, with reasons.

    Raises:
        UserError: there is no `root`, no such data set in it, a list is missing or damaged, or none of the training
            images is there.
    """
    folder = layouts.find(root, layouts.MSMT17)
    train = _read_list(folder / "list_train.txt") + (_read_list(folder / "list_val.txt") if with_val else [])
    query, gallery = _read_list(folder / "list_query.txt"), _read_list(folder / "list_gallery.txt")
    train_folder, test_folder = _one_of(folder, TRAIN_FOLDERS), _one_of(folder, TEST_FOLDERS)
    first_of_test = 2 + max(record.identity for record in train)
    skipped: list[tuple[str, str]] = []
    data = ReIDData(
        name,
        _records(train_folder, train, first_identity=1, skipped=skipped),
        _records(test_folder, query, first_identity=first_of_test, skipped=skipped),
        _records(test_folder, gallery, first_identity=first_of_test, skipped=skipped),
        tuple(skipped),
    )
    if not data.train:
        raise UserError(
            f"Expected the {len(train):,} training images of the list in {train_folder}, but none is there; the first "
            f"is {train[0].path}. Unpack the data set again."
        )
    counts.warn_about_evaluation(data, folder)
    images, people = PUBLISHED["train"]
    counts.warn_unless_published(data, {**PUBLISHED, "train": (images + PUBLISHED_VAL * with_val, people)})
    return data


def _read_list(path: Path) -> list[Record]:
    """Reads the lines `path identity` of a list, with paths and identities as they are written."""
    try:
        lines = files.read_text(path).splitlines()
    except FileNotFoundError as error:
        raise UserError(
            f"Expected the list {path.name} in {path.parent}, but it is missing. Copy it from the archive of MSMT17, "
            "where the four lists lie beside the folders of images."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"Expected a list of images in {path}, but it cannot be read ({type(error).__name__}). Copy it from the "
            "archive of MSMT17 again."
        ) from error
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        if not match:
            raise UserError(
                f"Expected lines like '0000/0000_000_01_0303morning_0015_0.jpg 0' in {path}, but line {number} is "
                f"{line[:80]!r}. Copy the list from the archive of MSMT17 again."
            )
        records.append(Record(match["path"], int(match["identity"]), int(match["camera"])))
    if not records:
        raise UserError(
            f"Expected a list of images in {path}, but it is empty. Copy it from the archive of MSMT17 again."
        )
    return records


def _one_of(folder: Path, names: tuple[str, str]) -> Path:
    """The folder of V2 if it is there, otherwise that of V1."""
    return next((folder / name for name in reversed(names) if (folder / name).is_dir()), folder / names[0])


def _records(
    folder: Path, listed: Iterable[Record], *, first_identity: int, skipped: list[tuple[str, str]]
) -> tuple[Record, ...]:
    """The records whose file is in the folder; the others are added to `skipped`."""
    records = []
    for record in listed:
        path = os.path.join(folder, record.path)
        if os.path.isfile(path):
            records.append(Record(path, first_identity + record.identity, record.camera))
        else:
            skipped.append((path, MISSING))
    return tuple(records)
