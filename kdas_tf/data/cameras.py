"""Which camera took a photograph, as file names tell it; and which pattern might tell it where nobody has said."""

import collections
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kdas_tf.errors import UserError

OPTION = "folders.read.camera_pattern"

PATTERNS = (
    "_c(?P<camera>[0-9]+)s[0-9]+",  # Market-1501: 0002_c1s1_000451_03
    "^[0-9]{4}_[0-9]{3}_(?P<camera>[0-9]{2})_",  # MSMT17: 0000_000_01_0303morning_0015_0
    "^[0-9]+_[0-9]{3}_(?P<camera>[12])_[0-9]{2}[.]",  # CUHK03: 1_001_1_01
    "(?i)cam(era)?[-_ ]?(?P<camera>[0-9]+)",  # cam1, Camera_02
    "(?i)cam(era)?[-_ ]?(?P<camera>[a-z])[^a-z]",  # cam_a
    "(?i)(^|[^a-z])(ch|channel|ipc|nvr|view|kamera)[-_ ]?(?P<camera>[0-9]+)",  # recorders: ch01
    "(?i)(^|[^a-z])c[-_ ]?(?P<camera>[0-9]+)",  # c1
    "^(?P<camera>[A-Za-z][A-Za-z0-9]*)[-_ ][0-9]",  # entrance_0001
)
"""Patterns of common names, the surest first; without what a shell or gin would read otherwise."""

MOST_CAMERAS = 100


class Guess(NamedTuple):
    """A pattern that names seem to follow."""

    pattern: str
    cameras: int
    names: int  # that match


def compiled(camera_pattern: str) -> re.Pattern[str]:
    """A user's pattern; raises UserError if it cannot be used."""
    example = "for example '_c(?P<camera>[0-9]+)', or None when nobody knows the cameras"
    try:
        pattern = re.compile(camera_pattern)
    except re.error as error:
        raise UserError(
            f"Expected {OPTION} to be a regular expression, but got {camera_pattern!r} ({error}). Give one, {example}."
        ) from error
    if "camera" not in pattern.groupindex:
        raise UserError(
            f"Expected {OPTION} to have a group named camera, but got {camera_pattern!r}. Give one, {example}."
        )
    return pattern


def guess(names_of: Mapping[str, Sequence[str]]) -> Guess | None:
    """The first of `PATTERNS` that most names follow, with cameras that several people share; None if there is none.

    A number that only counts photographs is not told from a camera, so this is a proposal, for people to decide on.

    Args:
        names_of: {person: file names without folder}.
    """
    for pattern in PATTERNS:
        seen_by: dict[str, set[str]] = collections.defaultdict(set)  # people of a camera
        cameras_of: dict[str, set[str]] = collections.defaultdict(set)
        matched = 0
        for person, names in names_of.items():
            for name in names:
                match = re.search(pattern, name)
                if match:
                    matched += 1
                    seen_by[match["camera"]].add(person)
                    cameras_of[person].add(match["camera"])
        shared = sum(len(people) > 1 for people in seen_by.values())
        in_two = sum(len(cameras) > 1 for cameras in cameras_of.values())
        enough = matched >= 0.8 * sum(map(len, names_of.values()))
        if enough and 2 <= len(seen_by) <= MOST_CAMERAS and 2 * shared > len(seen_by) and in_two > 1:
            return Guess(pattern, len(seen_by), matched)
    return None


def numbered(names: Sequence[str]) -> dict[str, int]:
    """{camera as it is written: its number}: itself where all are numbers of at most 18 digits, else its place."""
    distinct = sorted(set(names))
    if all(name.isascii() and name.isdecimal() and len(name) <= 18 for name in distinct):
        return {name: int(name) for name in distinct}
    return {name: number for number, name in enumerate(distinct, start=1)}
