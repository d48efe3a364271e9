"""Combinations of settings in which every two values meet, without all combinations."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any


def all_pairs(*axes: Sequence[Any], allowed: Callable[..., bool] = lambda *row: True) -> list[tuple[Any, ...]]:
    """Returns rows of one value from each axis: every two values of different axes are together in some row.

    Args:
        axes: the values of each axis; at least two axes.
        allowed: whether a row may be used; pairs that are in no allowed row are left out.
    """
    rows = [row for row in itertools.product(*map(range, map(len, axes))) if allowed(*_values(axes, row))]
    missing = set().union(*map(_pairs, rows))
    chosen = []
    while missing:
        best = max(rows, key=lambda row: len(_pairs(row) & missing))
        missing -= _pairs(best)
        chosen.append(_values(axes, best))
    return chosen


def _values(axes: Sequence[Sequence[Any]], row: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(axis[number] for axis, number in zip(axes, row, strict=True))


def _pairs(row: tuple[int, ...]) -> set[tuple[Any, Any]]:
    """Pairs of (axis, number of its value)."""
    return set(itertools.combinations(enumerate(row), 2))
