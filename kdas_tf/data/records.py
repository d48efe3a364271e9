"""What a Re-ID data set is: records of photographs in three splits."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from operator import index
from pathlib import Path
from typing import Any

from kdas_tf import files
from kdas_tf.errors import UserError

MAX_INDEX_BYTES = 1_000_000_000
DAMAGED_INDEX = (OSError, ValueError, LookupError, TypeError)
"""What reading an index raises that is damaged, or JSON of another kind."""

Progress = Callable[[int, int], None]
"""Called with (done, in all) after every item of a long work."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One photograph of one person.

    Args:
        path: file of the photograph.
        identity: the person's number in the data set (0: a distractor, nobody's match).
        camera: the camera's number.
    """

    path: str
    identity: int
    camera: int


@dataclasses.dataclass(frozen=True)
class ReIDData:
    """A data set: training photographs, queries and gallery, and what was left out.

    Args:
        name: name of the data set, for people.
        train: photographs to learn from.
        query: photographs to search with.
        gallery: photographs to search in; its identities are those of `query`, and never those of `train`.
        skipped: (path, reason) of every file that was left out.
        notes: what people must know of it, such as how it was split.
        cameras_known: whether the cameras are those that took the photographs; otherwise each photograph has its own.
    """

    name: str
    train: tuple[Record, ...]
    query: tuple[Record, ...] = ()
    gallery: tuple[Record, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    cameras_known: bool = True

    def matched_queries(self) -> int:
        """How many queries have a match in the gallery from another camera; without one there is nothing to judge."""
        cameras: dict[int, set[int]] = {}
        for record in self.gallery:
            cameras.setdefault(record.identity, set()).add(record.camera)
        return sum(bool(cameras.get(record.identity, set()) - {record.camera}) for record in self.query)


def with_small_numbers(data: ReIDData) -> ReIDData:
    """Numbers identities and cameras from 1 in their order where one is too long for a computer's numbers.

    Identity 0 stays what it is.
    """
    everyone = (*data.train, *data.query, *data.gallery)
    if all(max(record.identity, record.camera) < 2**62 for record in everyone):
        return data
    identity = {each: i for i, each in enumerate(sorted({record.identity for record in everyone} - {0}), start=1)}
    camera = {each: i for i, each in enumerate(sorted({record.camera for record in everyone}), start=1)}

    def renumbered(records: tuple[Record, ...]) -> tuple[Record, ...]:
        return tuple(Record(each.path, identity.get(each.identity, 0), camera[each.camera]) for each in records)

    splits: dict[str, Any] = {split: renumbered(getattr(data, split)) for split in ("train", "query", "gallery")}
    note = "Some identities or cameras are numbers of 19 digits or more: here they are numbered from 1 in their order."
    return dataclasses.replace(data, **splits, notes=(*data.notes, note))


def relabel(records: Sequence[Record]) -> tuple[list[int], list[int]]:
    """Numbers the identities 0..N-1 in ascending order, for training only.

    Returns:
        (labels, identities): the label of every record, and the identity that each label stands for.
    """
    identities = sorted({record.identity for record in records})
    label_of = {identity: label for label, identity in enumerate(identities)}
    return [label_of[record.identity] for record in records], identities


def save(data: ReIDData, path: str | os.PathLike) -> None:
    """Writes the index of a data set as JSON, atomically; a file in the workdir around it may be moved with it."""
    content = dataclasses.asdict(data)
    workdir = _workdir_of(path)
    for split in ("train", "query", "gallery"):
        content[split] = [{**each, "path": files.inside(each["path"], workdir)} for each in content[split]]
    content["skipped"] = [(files.inside(file, workdir), reason) for file, reason in data.skipped]
    files.write_json(path, {**content, "matched_queries": data.matched_queries()})


def load(path: str | os.PathLike) -> ReIDData:
    """Reads an index that `save` wrote.

    Raises:
        UserError: the file is missing, is not such an index, or is of an older version.
    """
    try:
        content = files.read_json(path, max_bytes=MAX_INDEX_BYTES)
        if "train" in content and "notes" not in content:
            raise UserError(
                f"{path} was written by an older version of kdas_tf, whose results are not read. Choose another "
                "--workdir, or do that run again from the start.",
                code="content",
            )
        workdir = _workdir_of(path)
        splits = {
            split: tuple(
                Record(os.path.join(workdir, each["path"]), index(each["identity"]), index(each["camera"]))
                for each in records
            )
            for split, records in ((split, content[split]) for split in ("train", "query", "gallery"))
        }
        skipped = tuple((os.path.join(workdir, file), str(reason)) for file, reason in content["skipped"])
        notes = tuple(str(note) for note in content["notes"])
        return ReIDData(
            str(content["name"]), **splits, skipped=skipped, notes=notes, cameras_known=bool(content["cameras_known"])
        )
    except UserError:
        raise
    except DAMAGED_INDEX as error:
        raise UserError(
            f"Expected the index of a data set in {path}, which the data stage writes, but it cannot be read "
            f"({type(error).__name__}: {error}). Delete the folder {Path(path).parent} and run the data stage again.",
            code="damaged",
        ) from error


def _workdir_of(index_file: str | os.PathLike) -> Path:
    """The folder around that of an index; runs of a table share an index through a link."""
    folder = Path(index_file).absolute().parent
    return (folder.resolve() if folder.is_symlink() else folder).parent
