"""Leaves out what cannot be trained on: images that are not read, and people of whom there is only one image."""

import collections
import concurrent.futures
import dataclasses
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdas_tf.data import decoding
from kdas_tf.data.records import Progress, Record, ReIDData
from kdas_tf.errors import UserError
from kdas_tf.formats import MAX_BYTES, Unreadable

SINGLE_IMAGE = "single image: its identity has no other one to form a pair with"

# A pool keeps an object for each path that waits; ImageNet has more than a million.
_WAITING = 4096


def damages_of(paths: Sequence[str], progress: Progress | None = None) -> dict[str, str]:
    """Opens and decodes every image; returns {path: what is wrong with it} of the damaged ones."""
    damages: dict[str, str] = {}
    pool = concurrent.futures.ThreadPoolExecutor(2 * (os.cpu_count() or 1))
    try:
        for first in range(0, len(paths), _WAITING):
            part = paths[first : first + _WAITING]
            for done, (path, damage) in enumerate(zip(part, pool.map(_damage, part), strict=True), start=first + 1):
                if damage:
                    damages[path] = damage
                if progress:
                    progress(done, len(paths))
    finally:  # a signal to stop waits for the images at hand, not for all that are in the queue
        pool.shutdown(cancel_futures=True)
    return damages


def drop_damaged(data: ReIDData, *, progress: Progress | None = None) -> ReIDData:
    """Opens and decodes every image; a damaged image moves to `skipped` with a reason that begins with 'damaged: '.

    Raises:
        UserError: every image of a split is damaged.
    """
    splits: dict[str, Any] = {"train": data.train, "query": data.query, "gallery": data.gallery}
    damages = damages_of([record.path for records in splits.values() for record in records], progress)
    for split, records in splits.items():
        splits[split] = tuple(record for record in records if record.path not in damages)
        if records and not splits[split]:
            raise UserError(
                f"Expected images in the {split} split of {data.name}, but every one of its {len(records)} is damaged; "
                f"the first, {records[0].path}: {damages[records[0].path]}. Get the data set again.",
                code="damaged",
            )
    return dataclasses.replace(data, **splits, skipped=data.skipped + skipped(damages))


def skipped(damages: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Damages as the (path, reason) of files that are left out."""
    return tuple((path, f"damaged: {damage}") for path, damage in damages.items())


def keep_trainable(records: Sequence[Record]) -> tuple[tuple[Record, ...], tuple[tuple[str, str], ...]]:
    """Leaves out identities with a single image: they form no positive pair and cannot be split in half.

    Returns:
        (records, skipped): the records that stay, in the same order, and (path, reason) of the others.

    Raises:
        UserError: fewer than two identities remain.
    """
    images = collections.Counter(record.identity for record in records)
    kept = tuple(record for record in records if images[record.identity] > 1)
    singles = tuple((record.path, SINGLE_IMAGE) for record in records if images[record.identity] == 1)
    identities = len(images) - len(singles)
    if identities < 2:
        raise UserError(
            f"Expected two or more people with two or more training images each, but there are {identities} (and "
            f"{len(singles)} with one image): the network learns to tell people apart. Add images.",
            code="fit",
        )
    return kept, singles


def _damage(path: str) -> str | None:
    try:
        state = os.stat(path)
        if not stat.S_ISREG(state.st_mode):  # a pipe would be waited for
            return "not a file"
        if state.st_size > MAX_BYTES:
            return f"{state.st_size:,} bytes are more than {MAX_BYTES:,}"
        decoding.pixels(Path(path).read_bytes())
    except OSError as error:
        return error.strerror or str(error)
    except Unreadable as error:
        return str(error)
    return None
