"""Results as a printed table in the columns of the paper's Table 1, and as one line of CSV for each query."""

import csv
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kdas_tf import files

HEADER = ("mAP", "Rank-1", "Rank-5", "Rank-10", "Params (M)")
NOTHING = "-"

PER_QUERY_COLUMNS = (
    "query",
    "identity",
    "camera",
    "average_precision",
    "first_match_rank",
    "inverse_negative_penalty",
    "matches",
)


class Row(NamedTuple):
    """One line of results.

    Attributes:
        name: what was judged, and how.
        mAP: fraction from 0 to 1, as are all but the last.
        rank1: share of queries with a match at the first place.
        rank5: among the first five.
        rank10: among the first ten.
        parameters: trainable ones of the network, None if they are not known.
        mINP: not among the paper's columns; for the page.
    """

    name: str
    mAP: float
    rank1: float
    rank5: float
    rank10: float
    parameters: int | None = None
    mINP: float | None = None


def percent(fraction: float | None) -> str:
    """0.7654 is 76.5; what is not known is a dash."""
    return NOTHING if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f}"


def millions(parameters: int | None) -> str:
    """11,557,632 is 11.6, as in the paper; below a tenth of a million three digits after the point are kept."""
    if parameters is None:
        return NOTHING
    return f"{parameters / 1e6:.1f}" if parameters >= 100_000 else f"{parameters / 1e6:.3f}"


def cells(row: Row) -> tuple[str, ...]:
    """The texts of a row, under the name and `HEADER`."""
    measured = (percent(value) for value in (row.mAP, row.rank1, row.rank5, row.rank10))
    return (printable(row.name), *measured, millions(row.parameters))


def printable(text: str) -> str:
    """Replaces what would break a line or a terminal: names of data sets and files may hold anything."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def format_table(rows: Sequence[Row], conventions: Sequence[str] = ()) -> str:
    """Makes the table that is printed.

    Args:
        rows: what was judged.
        conventions: how it was measured, such as "AP: step"; one line each below the table.

    Returns:
        Lines without a final line break; percentages, and parameters in millions.
    """
    lines = [("", *HEADER), *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER) + 1)]
    table = [
        line[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    ]
    return "\n".join([*table, *(printable(convention) for convention in conventions)])


def write_per_query_csv(
    path: str | os.PathLike,
    *,
    queries: Sequence[str] | Sequence[int],
    identities: npt.ArrayLike,
    cameras: npt.ArrayLike,
    average_precisions: npt.ArrayLike,
    first_match_ranks: npt.ArrayLike,
    inverse_negative_penalties: npt.ArrayLike,
    matches: npt.ArrayLike,
) -> None:
    """Writes `PER_QUERY_COLUMNS` for every query, atomically, in the order of the queries.

    A number that a query without a match does not have (not finite, or a rank below 1) is left empty.

    Args:
        path: of the file; UTF-8, and names that are not UTF-8 byte by byte as they are.
        queries: names of the photographs, or their positions.
        identities: `[queries]`, integers.
        cameras: `[queries]`, integers.
        average_precisions: `[queries]`, 0 to 1.
        first_match_ranks: `[queries]`, from 1 on.
        inverse_negative_penalties: `[queries]`, 0 to 1: matches / rank of the last match.
        matches: `[queries]`, gallery images that are matches.

    Raises:
        ValueError: the arrays are not of the same length.
    """
    columns = (identities, cameras, average_precisions, first_match_ranks, inverse_negative_penalties, matches)
    lists = [np.asarray(column).tolist() for column in columns]
    if {len(values) for values in lists} != {len(queries)}:
        raise ValueError(f"Expected {len(queries)} values in each column, got {[len(values) for values in lists]}.")
    with (
        files.replacing(path) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PER_QUERY_COLUMNS)
        for query, identity, camera, precision, first, penalty, count in zip(queries, *lists, strict=True):
            rank = int(first) if math.isfinite(first) and first >= 1 else ""
            writer.writerow((query, identity, camera, _number(precision), rank, _number(penalty), count))


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else ""
