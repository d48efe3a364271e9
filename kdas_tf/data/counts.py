"""Counts what a data set holds: the table that people see, and what differs from the published data set."""

import collections
import logging
from collections.abc import Iterable, Mapping

from kdas_tf.data.records import Record, ReIDData

SPLITS = ("train", "query", "gallery")

Published = Mapping[str, tuple[int, int]]
"""{split: (images, identities)}; distractors count as images, not as identities."""


def describe(data: ReIDData) -> str:
    """A table of images, identities (without distractors) and cameras per split; what was left out; notes."""
    width = max(12, len(data.name) + 1)
    lines = [f"{data.name:<{width}}{'images':>10}{'identities':>12}{'cameras':>9}"]
    for split in SPLITS:
        records = getattr(data, split)
        cameras = f"{len({record.camera for record in records}):,}" if data.cameras_known else "unknown"
        lines.append(f"{split:<{width}}{len(records):>10,}{len(_identities(records)):>12,}{cameras:>9}")
    distractors = sum(record.identity == 0 for record in data.gallery)
    if distractors:
        lines.append(f"The gallery holds {distractors:,} distractors.")
    if data.skipped:
        lines.append(f"Left out: {len(data.skipped):,} files ({count_reasons(data.skipped)}).")
    lines += data.notes
    return "\n".join(lines)


def verdict(data: ReIDData) -> str:
    """Says whether networks can be judged on the data set; without a match they are only trained."""
    matched = data.matched_queries()
    if not matched:
        return f"CAN BE TRAINED ON, NOT JUDGED ON: {why_unjudged(data)}"
    left = f" {len(data.query) - matched:,} have none and are left out." if matched < len(data.query) else ""
    return f"Can be trained on and judged on: {matched:,} queries have a match in the gallery.{left}"


def why_unjudged(data: ReIDData) -> str:
    """Why no query has a match, and what to do about it."""
    if not data.query or not data.gallery:
        return f"there are {len(data.query)} queries and {len(data.gallery)} gallery images."
    gallery = _identities(data.gallery)
    if not any(record.identity in gallery for record in data.query):
        return (
            f"no person of the {len(data.query):,} queries is in the gallery. Check that both are of the same data set."
        )
    return (
        f"all matches of the {len(data.query):,} queries are in the query's own camera, where they do not count. Add "
        "photographs of these people from another camera; or, where the cameras are not really known, count every "
        "match: market1501.read.cameras_known=False, or no camera_pattern, or no column camera."
    )


def count_reasons(skipped: Iterable[tuple[str, str]]) -> str:
    """Counts reasons by kind, the text before the colon: '3,819 junk, 2 wrong name'."""
    counts = collections.Counter(reason.partition(":")[0] for _, reason in skipped)
    return ", ".join(
        f"{count:,} {kind}" for kind, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def warn_unless_published(data: ReIDData, published: Published) -> None:
    """Logs the splits whose numbers differ from the published numbers, in one line."""
    differences = []
    for split, (images, identities) in published.items():
        records = getattr(data, split)
        people = len(_identities(records))
        if (len(records), people) != (images, identities):
            differences.append(
                f"{split} has {len(records):,} images of {people:,} people, expected {images:,} of {identities:,}"
            )
    if differences:
        logging.warning(
            "%s is not as published: %s. Scores cannot be compared with published ones.",
            data.name,
            "; ".join(differences),
        )


def warn_about_evaluation(data: ReIDData, folder: object) -> None:
    """Logs what makes scores impossible or wrong: an empty split, or people who are also trained on."""
    empty = [split for split in ("query", "gallery") if not getattr(data, split)]
    if empty:
        logging.warning(
            "No usable image for %s in %s: this data set can be trained on, not evaluated on.",
            " and ".join(empty),
            folder,
        )
    shared = _identities(data.train) & _identities((*data.query, *data.gallery))
    if shared:
        logging.warning(
            "%d identities of %s are in both training and test images: its scores will be too high.",
            len(shared),
            folder,
        )


def _identities(records: Iterable[Record]) -> set[int]:
    return {record.identity for record in records} - {0}
