"""Reads a user's own photographs to evaluate on: one folder per person."""

import collections
import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

from kdas_tf.data import counts, layouts
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError

NO_PERSON = "no person: a photograph outside of the folders of the people"
NO_CAMERA = "no camera: the name does not match camera_pattern"


def read(root: str | os.PathLike, *, name: str = "own photographs", camera_pattern: str | None = None) -> ReIDData:
    r"""Reads the photographs in the sub-folders of a folder, each of which is one person.

    There is nothing to train on. A match in the query's own camera does not count in Re-ID: two pictures of one moment
    are too easy. So with cameras, the first photograph of a person in each camera is a query, as long as another camera
    keeps a photograph of that person in the gallery. Without cameras, every photograph gets a camera of its own, so
    that every match counts, and the first photograph of each person is the query. All others are the gallery.

    Args:
        root: the folder of the folders. Their names do not matter; in their order the people are numbered from 1.
        name: name of the data set, for people.
        camera_pattern: a regular expression that is searched for in the file names and has a group named `camera`, for
            example '_c(?P<camera>[0-9]+)'. Cameras that are not numbers are numbered from 1 in their order. None:
            nobody knows the cameras.

    Returns:
        The records, in the order of folders and files, with absolute paths; and what was left out, with reasons.

    Raises:
        UserError: there is no `root`, it holds a benchmark or fewer than two people with photographs, the pattern
            cannot be used or matches no name, or nobody has two photographs (with cameras: in two cameras).
    """
    folder = layouts.existing_folder(root)
    pattern = _compiled(camera_pattern)
    people, skipped = _photographs(folder)
    if pattern is None:
        cameras = {path: number for number, path in enumerate((p for paths in people for p in paths), start=1)}
    else:
        cameras = _cameras(people, pattern)
        skipped += [(path, NO_CAMERA) for paths in people for path in paths if path not in cameras]
    query: list[Record] = []
    gallery: list[Record] = []
    for identity, paths in enumerate(people, start=1):
        records = [Record(path, identity, cameras[path]) for path in paths if path in cameras]
        chosen = _first_per_camera(records) if pattern else records[:1] if len(records) > 1 else []
        query += chosen
        gallery += [record for record in records if record not in chosen]
    data = ReIDData(name, (), tuple(query), tuple(gallery), tuple(skipped))
    _check_queries(data, folder, with_cameras=pattern is not None)
    return data


def _compiled(camera_pattern: str | None) -> re.Pattern[str] | None:
    if camera_pattern is None:
        return None
    example = "for example '_c(?P<camera>[0-9]+)', or None when nobody knows the cameras"
    try:
        pattern = re.compile(camera_pattern)
    except re.error as error:
        raise UserError(
            f"Expected folders.read.camera_pattern to be a regular expression, but got {camera_pattern!r} ({error}). "
            f"Give one, {example}."
        ) from error
    if "camera" not in pattern.groupindex:
        raise UserError(
            f"Expected folders.read.camera_pattern to have a group named camera, but got {camera_pattern!r}. Give one, "
            f"{example}."
        )
    return pattern


def _photographs(folder: Path) -> tuple[list[list[str]], list[tuple[str, str]]]:
    """The paths of the photographs of each person who has some, and (path, reason) of the other photographs."""
    benchmark = layouts.look_alike(folder)
    if benchmark:
        raise UserError(f"Expected one folder per person in {folder}, but found a benchmark. {benchmark}")
    skipped = [(str(folder / file), NO_PERSON) for file in layouts.image_names(folder)]
    people, empty = [], []
    for person in layouts.subfolders(folder):
        paths, others = layouts.image_files(person)
        skipped += others
        if paths:
            people.append(paths)
        else:
            empty.append(person)
    if len(people) < 2:
        raise UserError(
            f"Expected one folder of photographs for each of two or more people in {folder}, but found "
            f"{_what_is_there(folder, photographs=len(skipped), people=len(people), empty=empty)}"
        )
    if empty:
        logging.warning(
            "%d folders in %s hold no photograph: %s.", len(empty), folder, layouts.some_of([p.name for p in empty])
        )
    return people, skipped


def _what_is_there(folder: Path, *, photographs: int, people: int, empty: Sequence[Path]) -> str:
    part = layouts.part_of_a_benchmark(folder)
    if part:
        return f"a part of a benchmark. {part}"
    if photographs and not people:
        return f"{photographs} photographs in no folder: it looks like the folder of one person. Give its parent."
    inner = next((path for path in empty if layouts.subfolders(path)), None)
    if inner and not people:
        return f"folders without photographs, one of which, {inner.name}, holds folders. Give {inner}."
    if people:
        return "only one. Add people: with one person every match is right."
    return f"{len(empty)} folders without photographs. Put photographs of each person into a folder."


def _cameras(people: Sequence[Sequence[str]], pattern: re.Pattern[str]) -> dict[str, int]:
    """The camera of every photograph whose name tells it: a number, or a name's place among all names."""
    names: dict[str, str] = {}
    for paths in people:
        for path in paths:
            match = pattern.search(os.path.basename(path))
            if match and match["camera"]:
                names[path] = match["camera"]
    if not names:
        raise UserError(
            f"Expected file names that match folders.read.camera_pattern, but {pattern.pattern!r} matches none, for "
            f"example not {os.path.basename(people[0][0])}. Correct it, or give None when nobody knows the cameras."
        )
    numbers = {name: number for number, name in enumerate(sorted(set(names.values())), start=1)}
    if all(name.isdecimal() for name in numbers):
        numbers = {name: int(name) for name in numbers}
    return {path: numbers[name] for path, name in names.items()}


def _first_per_camera(records: Sequence[Record]) -> list[Record]:
    """One person's queries: the first photograph of every camera, as long as another camera has one in the gallery.

    A camera with two or more photographs keeps some in the gallery. If fewer than two cameras do, the first camera with
    the most photographs keeps all, so that the queries of the others have a match.
    """
    by_camera: dict[int, list[Record]] = collections.defaultdict(list)
    for record in records:
        by_camera[record.camera].append(record)
    chosen = {camera: group[0] for camera, group in by_camera.items()}
    if sum(len(group) > 1 for group in by_camera.values()) < 2 and by_camera:
        del chosen[max(by_camera, key=lambda camera: len(by_camera[camera]))]
    return list(chosen.values())


def _check_queries(data: ReIDData, folder: Path, *, with_cameras: bool) -> None:
    """Warns of people who are not searched for; raises UserError if nobody is."""
    gallery_only = {record.identity for record in data.gallery} - {record.identity for record in data.query}
    if not data.query and with_cameras:
        raise UserError(
            f"Expected people seen by two or more cameras in {folder}, but all matches are in the query's own camera, "
            "where they do not count. Correct folders.read.camera_pattern, or give None when nobody knows the cameras."
        )
    if not data.query:
        raise UserError(
            f"Expected people with two or more photographs in {folder}, but each of the {len(gallery_only)} has one "
            "only, and nothing to find. Add photographs."
        )
    if gallery_only:
        few = "were seen by one camera only" if with_cameras else "have one photograph only"
        logging.warning(
            "%d people in %s %s: they stay in the gallery and are not searched for.", len(gallery_only), folder, few
        )
    if data.skipped:
        logging.warning("Left out in %s: %s.", folder, counts.count_reasons(data.skipped))
