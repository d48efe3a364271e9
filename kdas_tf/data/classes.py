"""Reads a folder of class folders, ImageNet's layout among them, to pre-train on."""

import collections
import dataclasses
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from kdas_tf import files
from kdas_tf.data import counts, layouts, verify
from kdas_tf.data.records import DAMAGED_INDEX, MAX_INDEX_BYTES, Progress, Record
from kdas_tf.errors import UserError

TRAIN, VAL = "train", "val"

# Names of splits: beside a folder of this kind, `train` is a split, too, and no class.
_SPLITS = {TRAIN, VAL, "test"}


@dataclasses.dataclass(frozen=True)
class ClassData:
    """Images of things that have one class each.

    Args:
        name: name of the data set, for people.
        classes: names of the classes, in the order of their numbers.
        train: images to learn from; `identity` is the number of the class from 0 on, `camera` is 0.
        val: images to judge by, of the same form.
        skipped: (path, reason) of every file that was left out.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[Record, ...]
    val: tuple[Record, ...]
    skipped: tuple[tuple[str, str], ...] = ()


def check_held_out(held_out: float) -> None:
    """Raises UserError unless a share of the images leaves some to learn from and some to judge by."""
    if not 0.0 < held_out < 1.0:
        raise UserError(
            f"Expected pretrain.run.held_out between 0 and 1, but got {held_out}. Correct it.", code="range"
        )


def read(root: str | os.PathLike, *, held_out: float = 0.1) -> ClassData:
    """Reads `train/<class>/*.jpg` and `val/<class>/*.jpg` (ImageNet's layout), or `<class>/*.jpg`.

    Without `val` a share of every class is held out. Which images these are depends on their names only: it is the
    same in every run, and images that are added later change little.

    Args:
        root: the folder.
        held_out: share of the images of a class to judge by, between 0 and 1; one image at least, if it has two.

    Returns:
        The images, class by class in the order of their names, with absolute paths.

    Raises:
        UserError: there are no class folders, only one, an empty one, or one in `val` that is not in `train`.
    """
    check_held_out(held_out)
    folder = layouts.existing_folder(root)
    hint = layouts.look_alike(folder)
    if hint:
        raise UserError(
            f"Pre-training takes a folder of class folders, such as ImageNet, and {folder} is none. {hint}",
            code="content",
        )
    train_folder = folder / TRAIN if _has_splits(folder) else folder
    names = _names_by_class(train_folder)
    if len(names) < 2:
        raise UserError(
            f"Expected at least two class folders in {train_folder}, but found only {', '.join(names)}. "
            "Give the folder that holds all class folders.",
            code="content",
        )
    classes = tuple(names)
    if train_folder != folder and (folder / VAL).is_dir():
        val_folder, val_names = folder / VAL, _val_names(folder / VAL, classes)
    else:
        val_folder, val_names = train_folder, {name: _held_out(name, names[name], held_out) for name in classes}
        names = {name: [file for file in names[name] if file not in val_names[name]] for name in classes}
    if not any(val_names.values()):
        raise UserError(
            f"Expected a class of two or more images in {train_folder}, one of them to judge by, but each has one.",
            code="content",
        )
    train, val = _records(train_folder, classes, names), _records(val_folder, classes, val_names)
    return ClassData(folder.name, classes, train, val)


def drop_damaged(data: ClassData, *, progress: Progress | None = None) -> ClassData:
    """Opens and decodes every image; a damaged image moves to `skipped`, as in `verify.drop_damaged`.

    Raises:
        UserError: every training image of a class is damaged, or every image to judge by.
    """
    damages = verify.damages_of([record.path for record in (*data.train, *data.val)], progress)
    train, val = (tuple(r for r in split if r.path not in damages) for split in (data.train, data.val))
    readable = {record.identity for record in train}
    lost = next((record for record in data.train if record.identity not in readable), None)
    if lost is not None or not val:
        first, group = (data.val[0], "to judge by") if lost is None else (lost, f"of {data.classes[lost.identity]}")
        raise UserError(
            f"Expected images {group} in {data.name}, but every one is damaged; the first, {first.path}: "
            f"{damages[first.path]}. Get them again, or take the folder out.",
            code="damaged",
        )
    return dataclasses.replace(data, train=train, val=val, skipped=data.skipped + verify.skipped(damages))


def describe(data: ClassData) -> str:
    """What the data set holds, in one line."""
    text = f"{data.name}: {len(data.classes):,} classes, {len(data.train):,} images to train on, {len(data.val):,} "
    left_out = f"; left out: {counts.count_reasons(data.skipped)}" if data.skipped else ""
    return f"{text}to judge by{left_out}"


def save(data: ClassData, path: str | os.PathLike) -> None:
    """Writes the index of a data set as JSON, atomically: {split: {folder of a class: names of its images}}."""
    content = {"name": data.name, "classes": data.classes, "skipped": data.skipped}
    files.write_json(path, {**content, TRAIN: _by_folder(data.train), VAL: _by_folder(data.val)})


def load(path: str | os.PathLike) -> ClassData:
    """Reads an index that `save` wrote.

    Raises:
        UserError: the file is missing or is not such an index.
    """
    try:
        content = files.read_json(path, max_bytes=MAX_INDEX_BYTES)
        classes = tuple(map(str, content["classes"]))
        number = {name: label for label, name in enumerate(classes)}
        train, val = (
            tuple(
                Record(os.path.join(folder, name), number[os.path.basename(folder)], camera=0)
                for folder in content[split]
                for name in content[split][folder]
            )
            for split in (TRAIN, VAL)
        )
        skipped = tuple((str(file), str(reason)) for file, reason in content["skipped"])
        return ClassData(str(content["name"]), classes, train, val, skipped)
    except DAMAGED_INDEX as error:
        raise UserError(
            f"Expected the index of a folder of class folders in {path}, but it cannot be read "
            f"({type(error).__name__}: {error}). Delete that file and run the stage again.",
            code="damaged",
        ) from error


def _has_splits(folder: Path) -> bool:
    """Whether the folder `train` is a split and not a class of that name."""
    if not (folder / TRAIN).is_dir():
        return False
    return bool(layouts.subfolders(folder / TRAIN)) or {path.name for path in layouts.subfolders(folder)} <= _SPLITS


def _names_by_class(folder: Path) -> dict[str, list[str]]:
    """{class: names of its images}, both in order."""
    names = {path.name: list(layouts.image_names(path)) for path in layouts.subfolders(folder)}
    if not names:
        entries = layouts.list_folder(folder)
        came = f"{len(entries):,} files ({layouts.some_of(entries)})" if entries else "an empty folder"
        raise UserError(
            f"Expected one folder of images per class in {folder}, but found {came}. Sort the images into a folder "
            "for each class.",
            code="content",
        )
    empty = [name for name, of_class in names.items() if not of_class]
    if empty:
        nested = layouts.subfolders(folder / empty[0])
        inside = f", only the folder {nested[0].name}, and folders in class folders are not read" if nested else ""
        raise UserError(
            f"Expected images in every class folder of {folder}, but {len(empty)} of {len(names)} have none; "
            f"{empty[0]} holds no image{inside}. Take empty folders out, or add images.",
            code="content",
        )
    return names


def _val_names(folder: Path, classes: Sequence[str]) -> dict[str, list[str]]:
    names = _names_by_class(folder)
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise UserError(
            f"Expected the classes of {folder} to be those of {folder.parent / TRAIN}, but {layouts.some_of(unknown)} "
            f"{'is' if len(unknown) == 1 else 'are'} only in {VAL}. Name the folders alike.",
            code="fit",
        )
    missing = [name for name in classes if name not in names]
    if missing:
        logging.warning("%d classes have no images in %s: %s.", len(missing), folder, layouts.some_of(missing))
    return names


def _held_out(class_name: str, names: Sequence[str], share: float) -> list[str]:
    """A share of the images of a class: the first in the order of hashes of their names."""

    def hashed(name: str) -> bytes:
        return hashlib.sha256(os.fsencode(f"{class_name}/{name}")).digest()

    number = min(max(1, round(share * len(names))), len(names) - 1)
    return sorted(sorted(names, key=hashed)[:number])


def _records(folder: Path, classes: Sequence[str], names: dict[str, list[str]]) -> tuple[Record, ...]:
    return tuple(
        Record(os.path.join(folder, class_name, name), label, camera=0)
        for label, class_name in enumerate(classes)
        for name in names.get(class_name, ())
    )


def _by_folder(records: Iterable[Record]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = collections.defaultdict(list)
    for record in records:
        folder, name = os.path.split(record.path)
        names[folder].append(name)
    return dict(names)
