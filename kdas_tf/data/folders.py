"""Reads a user's own photographs: one folder per person."""

import logging
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from kdas_tf.data import cameras, counts, layouts, own_people
from kdas_tf.data.own_people import Photograph, Splitting
from kdas_tf.data.records import ReIDData
from kdas_tf.errors import UserError

NO_PERSON = "no person: a photograph outside of the folders of the people"
NO_SPLIT = "no split: a photograph beside the folders of the splits"
VALIDATION = ("val", "valid", "validation")
NO_CAMERA = "no camera: the name does not match camera_pattern"


def read(
    root: str | os.PathLike,
    *,
    name: str = "own photographs",
    camera_pattern: str | None = None,
    judged_share: float = 0.5,
    seed: int = 0,
    training: bool = False,
) -> ReIDData:
    r"""Reads the photographs in the sub-folders of a folder, each of which is one person.

    If the folder holds `train` and `test`, the people are in these two: who is in `train` is trained on, and who is in
    `test` judged. `query` and `gallery` instead of `test` say what is searched for; beside `train` alone, `val` is
    taken for `test`. Otherwise `own_people.arrange` splits the people.

    Args:
        root: the folder of the folders. Their names do not matter; in their order the people are numbered from 1.
        name: name of the data set, for people.
        camera_pattern: a regular expression that is searched for in the file names and has a group named `camera`, for
            example '_c(?P<camera>[0-9]+)'. Cameras that are not numbers are numbered from 1 in their order. With a
            slash in it, the photographs of a person may lie in sub-folders, and it is searched for in, for example,
            'entrance/0001.jpg'. None: nobody knows the cameras.
        judged_share: share of the people who can be searched for that are judged, and not trained on.
        seed: draws them.
        training: whether the data set is trained on; otherwise everybody is judged.

    Returns:
        The records, in the order of folders and files, with absolute paths; and what was left out, with reasons.

    Raises:
        UserError: there is no `root`, it holds a benchmark or fewer than two people with photographs, the pattern
            cannot be used or matches no name, or there is nothing to train on and nothing to judge.
    """
    folder = layouts.existing_folder(root)
    pattern = None if camera_pattern is None else cameras.compiled(camera_pattern)
    benchmark = layouts.look_alike(folder)
    if benchmark:
        raise UserError(f"Expected one folder per person in {folder}, but found a benchmark. {benchmark}")
    parts = _parts(folder)
    photographs: list[Photograph] = []
    skipped: list[tuple[str, str]] = []
    for part, split in parts.items() if parts else [(folder, None)]:
        some, others = _photographs(part, split, pattern)
        photographs += some
        skipped += others
    if parts:
        skipped += _beside(folder, parts)
    if pattern is not None:
        photographs, unknown = _with_cameras(photographs, pattern)
        skipped += [(photograph.path, NO_CAMERA) for photograph in unknown]
    photographs.sort(key=lambda photograph: photograph.person)  # stable
    splitting = Splitting(judged_share, seed, "folders.read")
    data = own_people.arrange(name, photographs, skipped, training=training, splitting=splitting)
    own_people.check(data, folder, f"Correct {cameras.OPTION}, or give None when nobody knows the cameras.")
    if parts:
        counts.warn_about_evaluation(data, folder)
    return data


def _parts(folder: Path) -> dict[Path, str]:
    """{folder: split} of the folders into which the people are divided; empty if the folders are people."""
    found = {path.name.lower(): path for path in layouts.subfolders(folder)}
    named = {found[split]: split for split in own_people.SPLITS if split in found}
    if set(named.values()) == {"train"}:
        named |= {found[name]: "test" for name in VALIDATION if name in found}
    if len(named) < 2 or any(next(layouts.image_names(path), None) for path in named):
        return {}
    return named


def _beside(folder: Path, parts: Collection[Path]) -> list[tuple[str, str]]:
    """(path, reason) of the photographs that are in no split."""
    others = [path for path in layouts.subfolders(folder) if path not in parts]
    inner = [each for path in others for each in (path, *layouts.subfolders(path))]
    return [(str(each / name), NO_SPLIT) for each in (folder, *inner) for name in layouts.image_names(each)]


def _photographs(
    folder: Path, split: str | None, pattern: re.Pattern[str] | None
) -> tuple[list[Photograph], list[tuple[str, str]]]:
    """The photographs of the people in a folder, and (path, reason) of the others."""
    skipped = [(str(folder / file), NO_PERSON) for file in layouts.image_names(folder)]
    photographs: list[Photograph] = []
    empty = []
    nested = pattern is not None and "/" in pattern.pattern
    for person in layouts.subfolders(folder):
        paths, others = layouts.image_files(person)
        for inner in layouts.subfolders(person) if nested else ():
            more, other = layouts.image_files(inner)
            paths, others = paths + more, others + other
        skipped += others
        photographs += [Photograph(path, person.name, None, split) for path in paths]
        if not paths:
            empty.append(person)
    people = len({photograph.person for photograph in photographs})
    if people < 2:
        raise UserError(
            f"Expected one folder of photographs for each of two or more people in {folder}, but found "
            f"{_what_is_there(folder, photographs=len(skipped), people=people, empty=empty)}"
        )
    if empty:
        logging.warning(
            "%d folders in %s hold no photograph: %s.%s",
            len(empty),
            folder,
            layouts.some_of([p.name for p in empty]),
            _of_cameras(empty),
        )
    return photographs, skipped


def _what_is_there(folder: Path, *, photographs: int, people: int, empty: Sequence[Path]) -> str:
    part = layouts.part_of_a_benchmark(folder)
    if part:
        return f"a part of a benchmark. {part}"
    if photographs and not people:
        return f"{photographs} photographs in no folder: it looks like the folder of one person. Give its parent."
    inner = next((path for path in empty if layouts.subfolders(path)), None)
    if inner and not people:
        return (
            f"folders without photographs, one of which, {inner.name}, holds folders. Give {inner} if those are people."
            f"{_of_cameras(empty)}"
        )
    if people:
        return "only one. Add people: with one person every match is right."
    lists = sorted(path.name for path in folder.glob("*.csv"))
    if lists:
        return f"{lists[0]}. If it lists the photographs, use --gin_file=gin/data/lists.gin."
    return f"{len(empty)} folders without photographs. Put photographs of each person into a folder."


def _of_cameras(empty: Sequence[Path]) -> str:
    """Advice about people whose photographs lie in folders."""
    if not any(layouts.subfolders(path) for path in empty):
        return ""
    return (
        f" If the folders in {empty[0].name} are cameras, give --gin_param=\"{cameras.OPTION}='^(?P<camera>[^/]+)/'\"."
    )


def _with_cameras(
    photographs: Sequence[Photograph], pattern: re.Pattern[str]
) -> tuple[list[Photograph], list[Photograph]]:
    """The photographs whose name tells the camera, with it, and the others."""
    known, unknown = [], []
    for photograph in photographs:
        parts = Path(photograph.path).parts
        searched = parts[-1]
        if "/" in pattern.pattern and parts[-2] != photograph.person:
            searched = "/".join(parts[-2:])
        match = pattern.search(searched)
        if match and match["camera"]:
            known.append(photograph._replace(camera=match["camera"]))
        else:
            unknown.append(photograph)
    if not known:
        raise UserError(
            f"Expected file names that match {cameras.OPTION}, but {pattern.pattern!r} matches none, for example not "
            f"{os.path.basename(photographs[0].path)}. Correct it, or give None when nobody knows the cameras."
        )
    return known, unknown
