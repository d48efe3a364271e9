"""Results as a printed table in the columns of the paper's Table 1, and as one line of CSV for each query."""

import csv
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

from kdas_tf import files
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.ranking import RankingResult

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


class Score(NamedTuple):
    """What a network or file of embeddings reached, as a line of results.

    Attributes:
        name: what was judged, and how.
        mAP: fraction from 0 to 1, as are all but the parameters.
        rank1: share of queries with a match at the first place.
        rank5: among the first five.
        rank10: among the first ten.
        parameters: trainable ones of the network, None if they are not known.
        mINP: fraction; not among the paper's columns, for the page.
    """

    name: str
    mAP: float
    rank1: float
    rank5: float
    rank10: float
    parameters: int | None
    mINP: float


def percent(fraction: float | None) -> str:
    """0.7654 is 76.5; what is not known is a dash."""
    return NOTHING if fraction is None or not math.isfinite(fraction) else f"{100 * fraction:.1f}"


def millions(parameters: float | None, spread: float | None = None) -> str:
    """11,557,632 is 11.6, as in the paper; below a million three digits after the point are kept.

    Args:
        parameters: their number; None gives a dash.
        spread: of several numbers of parameters, shown if there is any.
    """
    if parameters is None:
        return NOTHING
    digits = 1 if parameters >= 1e6 else 3
    return f"{parameters / 1e6:.{digits}f}" + (f" ± {spread / 1e6:.{digits}f}" if spread else "")


def cells(score: Score) -> tuple[str, ...]:
    """The texts of a score, under the name and `HEADER`."""
    measured = (percent(value) for value in (score.mAP, score.rank1, score.rank5, score.rank10))
    return (printable(score.name), *measured, millions(score.parameters))


def printable(text: str) -> str:
    """Replaces what would break a line or a terminal: names of data sets and files may hold anything."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def format_table(scores: Sequence[Score], conventions: Sequence[str] = ()) -> str:
    """Makes the table that is printed.

    Args:
        scores: of what was judged.
        conventions: how it was measured, such as "AP: step"; one line each below the table.

    Returns:
        Lines without a final line break; percentages, and parameters in millions.
    """
    lines = [("", *HEADER), *(cells(score) for score in scores)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER) + 1)]
    table = [
        line[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    ]
    return "\n".join([*table, *(printable(convention) for convention in conventions)])


def write_per_query_csv(
    path: str | os.PathLike, queries: Sequence[str] | Sequence[int], query: Embeddings, result: RankingResult
) -> None:
    """Writes `PER_QUERY_COLUMNS` for every query, atomically, in the order of the queries.

    A number that a query without a match does not have is left empty.

    Args:
        path: of the file; UTF-8, and names that are not UTF-8 byte by byte as they are.
        queries: names of the photographs, or their positions.
        query: their identities and cameras.
        result: of the ranking of these queries.
    """
    columns = (
        *(query.identities, query.cameras, result.average_precisions, result.first_ranks),
        *(result.inverse_negative_penalties, result.matches),
    )
    lines = zip(queries, *(column.tolist() for column in columns), strict=True)
    with (
        files.replacing(path) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(PER_QUERY_COLUMNS)
        for name, identity, camera, precision, first, penalty, count in lines:
            writer.writerow((name, identity, camera, _number(precision), first or "", _number(penalty), count))


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else ""
