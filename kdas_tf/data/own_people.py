"""Splits photographs of one's own people: who is trained on, who is judged, and what is searched for."""

import collections
import dataclasses
import hashlib
import itertools
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdas_tf.data import cameras, counts
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError

SPLITS = ("train", "test", "query", "gallery")
"""What may be said of a photograph: 'test' leaves it to the rule whether it is a query."""

NEAR_COPIES = (
    "THE CAMERAS ARE NOT KNOWN: a match may be a near-copy of the query, of the same camera and moment, and it counts. "
    "The numbers are far higher than between cameras, and not comparable with those of benchmarks."
)


class Photograph(NamedTuple):
    """A photograph and what is known of it."""

    path: str
    person: str
    camera: str | None = None
    split: str | None = None  # of `SPLITS`


class Splitting(NamedTuple):
    """How people are split where nobody has done it.

    Attributes:
        judged_share: share of the people who can be searched for that are judged; none of them is trained on.
        seed: draws them, by the SHA-256 of seed and name, so that more people move few others.
        options: where the two are set, for messages.
    """

    judged_share: float
    seed: int
    options: str

    def check(self) -> None:
        """Raises UserError if they are out of their ranges."""
        if not 0 <= self.judged_share < 1 or self.seed < 0:
            raise UserError(
                f"Expected {self.options}.judged_share from 0 to below 1 and {self.options}.seed of at least 0, got "
                f"{self.judged_share} and {self.seed}. Correct them.",
                code="range",
            )

    def place(self, person: str) -> bytes:
        """The person's place in the drawing."""
        return hashlib.sha256(os.fsencode(f"{self.seed} {person}")).digest()


def arrange(
    name: str,
    photographs: Sequence[Photograph],
    skipped: Sequence[tuple[str, str]],
    *,
    training: bool,
    splitting: Splitting,
) -> ReIDData:
    """Makes a data set of photographs.

    Photographs that say their split are in it. Otherwise, to train, a share of the people who can be searched for is
    judged and everybody else with two or more photographs is trained on; not to train, everybody is judged. Who has one
    photograph only is in the gallery.

    People who can be searched for: with cameras, the first photograph of a person in each camera is a query, as long as
    another camera keeps a photograph of that person in the gallery: a match in the query's own camera does not count.
    Without cameras, every photograph gets a camera of its own, so that every match counts, and the first photograph of
    each person is the query.
    """
    splitting.check()
    people: dict[str, list[Photograph]] = {}
    for photograph in photographs:
        people.setdefault(photograph.person, []).append(photograph)
    identity = {person: number for number, person in enumerate(people, start=1)}
    known = any(photograph.camera is not None for photograph in photographs)
    camera_of = _numbers(photographs, known)

    def records(some: Iterable[Photograph]) -> list[Record]:
        return [Record(each.path, identity[each.person], camera_of[each.path]) for each in some]

    def judged_of(some: Mapping[str, Sequence[Photograph]]) -> tuple[list[Record], list[Record]]:
        query: list[Record] = []
        gallery: list[Record] = []
        for each in some.values():
            chosen = queries(records(each), with_cameras=known)
            query += chosen
            gallery += [record for record in records(each) if record not in chosen]
        return query, gallery

    notes = [] if known else [_without_cameras(people, splitting.options)]
    if any(photograph.split for photograph in photographs):
        named = {split: [each for each in photographs if each.split == split] for split in SPLITS}
        tested: dict[str, list[Photograph]] = collections.defaultdict(list)
        for photograph in named["test"]:
            tested[photograph.person].append(photograph)
        query, gallery = judged_of(tested)
        trained = records(named["train"])
        query, gallery = query + records(named["query"]), gallery + records(named["gallery"])
    elif training:
        searched = [person for person in people if queries(records(people[person]), with_cameras=known)]
        drawn = _drawn(people, searched, splitting)
        single = {person for person in people if len(people[person]) == 1}
        left = [person for person in people if person not in drawn and person not in single]
        query, gallery = judged_of({person: people[person] for person in people if person in drawn or person in single})
        if not drawn:
            query, gallery = [], []
        trained = records(each for person in left for each in people[person])
        notes.insert(0, _split(splitting, people=len(people), searched=len(searched), judged=len(drawn), left=left))
        if single and drawn:
            notes.append(f"{len(single)} people have one photograph only: they are in the gallery, not searched for.")
    else:
        trained = []
        query, gallery = judged_of(people)
    return ReIDData(name, tuple(trained), tuple(query), tuple(gallery), tuple(skipped), tuple(notes), known)


def check(data: ReIDData, folder: Path, correct: str) -> None:
    """Warns of people who are not searched for, where all are judged.

    Raises:
        UserError: there is nobody to train on and nobody to search for; `correct` says what to do about cameras.
    """
    if data.skipped:
        logging.warning("Left out in %s: %s.", folder, counts.count_reasons(data.skipped))
    if data.train:
        return
    gallery_only = {record.identity for record in data.gallery} - {record.identity for record in data.query}
    if not data.query and data.cameras_known:
        raise UserError(
            f"Expected people seen by two or more cameras in {folder}, but all matches are in the query's own camera, "
            f"where they do not count. {correct}"
        )
    if not data.query:
        raise UserError(
            f"Expected people with two or more photographs in {folder}, but each of the {len(gallery_only)} has one "
            "only, and nothing to find. Add photographs."
        )
    if gallery_only:
        few = "were seen by one camera only" if data.cameras_known else "have one photograph only"
        logging.warning(
            "%d people in %s %s: they stay in the gallery and are not searched for.", len(gallery_only), folder, few
        )


def without_cameras(data: ReIDData) -> ReIDData:
    """The same data set with a camera for each photograph, so that every match counts; says so."""
    number = itertools.count(1)
    splits: dict[str, Any] = {
        split: tuple(dataclasses.replace(record, camera=next(number)) for record in getattr(data, split))
        for split in ("train", "query", "gallery")
    }
    return dataclasses.replace(data, **splits, notes=(*data.notes, NEAR_COPIES), cameras_known=False)


def queries(records: Sequence[Record], *, with_cameras: bool) -> list[Record]:
    """The queries among the photographs of one person, as `arrange` says.

    A camera with two or more photographs keeps some in the gallery. If fewer than two cameras do, the first camera with
    the most photographs keeps all, so that the queries of the others have a match.
    """
    if not with_cameras:
        return list(records[:1]) if len(records) > 1 else []
    by_camera: dict[int, list[Record]] = collections.defaultdict(list)
    for record in records:
        by_camera[record.camera].append(record)
    chosen = {camera: group[0] for camera, group in by_camera.items()}
    if sum(len(group) > 1 for group in by_camera.values()) < 2 and by_camera:
        del chosen[max(by_camera, key=lambda camera: len(by_camera[camera]))]
    return list(chosen.values())


def _numbers(photographs: Sequence[Photograph], known: bool) -> dict[str, int]:
    if not known:
        return {photograph.path: number for number, photograph in enumerate(photographs, start=1)}
    number = cameras.numbered([photograph.camera or "" for photograph in photographs])
    return {photograph.path: number[photograph.camera or ""] for photograph in photographs}


def _drawn(people: Mapping[str, Sequence[Photograph]], searched: Sequence[str], splitting: Splitting) -> set[str]:
    """Who is judged: two or more, with two or more left to train on; nobody if there are too few."""
    others = sum(len(each) > 1 for each in people.values()) - len(searched)
    count = min(int(splitting.judged_share * len(searched)), len(searched) - max(0, 2 - others))
    return set(sorted(searched, key=splitting.place)[:count]) if count > 1 else set()


def _split(splitting: Splitting, *, people: int, searched: int, judged: int, left: Sequence[str]) -> str:
    if judged:
        return (
            f"Split: of {people} people, {searched} can be searched for; {judged} of them, drawn by "
            f"{splitting.options}.seed = {splitting.seed}, are judged and never trained on. {len(left)} others are "
            f"trained on. {splitting.options}.judged_share = {splitting.judged_share} changes it."
        )
    why = "judged_share is too small for two people" if searched > 3 else f"only {searched} can be searched for"
    return f"Split: all {len(left)} people with two or more photographs are trained on, none is judged: {why}."


def _without_cameras(people: Mapping[str, Sequence[Photograph]], options: str) -> str:
    names = {
        person: [os.path.basename(photograph.path) for photograph in photographs]
        for person, photographs in people.items()
    }
    found = cameras.guess(names)
    if found is None:
        return NEAR_COPIES
    advice = f"--gin_param=\"{cameras.OPTION}='{found.pattern}'\"" if cameras.OPTION.startswith(options) else "them"
    return (
        f"{NEAR_COPIES} The names seem to tell {found.cameras} cameras ({found.names:,} of "
        f"{sum(map(len, names.values())):,} names): if they do, give {advice}."
    )
