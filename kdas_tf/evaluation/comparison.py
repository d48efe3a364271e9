"""Several runs of several networks as tables: mean and spread over seeds beside published numbers."""

import csv
import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from kdas_tf import files
from kdas_tf.evaluation.printing import HEADER, NOTHING, millions, printable

NUMBERS = ("mAP", "rank1", "rank5", "rank10", "parameters")
"""The numbers of a run that a table shows, in the order of `kdas_tf.evaluation.printing.HEADER`."""

Numbers = Mapping[str, float]
"""Values of some or all of `NUMBERS`: four percentages, and the number of trainable parameters."""


class Line(NamedTuple):
    """A row of a table.

    Attributes:
        name: short name, for programs.
        title: name for people.
        runs: numbers of each run; none if there was no run yet.
        published: numbers of each published run.
    """

    name: str
    title: str
    runs: Sequence[Numbers] = ()
    published: Sequence[Numbers] = ()


class Table(NamedTuple):
    """Rows below one title, and notes on them."""

    title: str
    lines: Sequence[Line]
    notes: Sequence[str] = ()


def mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (n - 1); None where the values are too few."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def markdown(tables: Sequence[Table]) -> str:
    """Writes tables as Markdown, padded so that it reads well as plain text too.

    "71.9 ± 0.4" is a mean and its spread. A dash stands for an unknown number, such as the spread of a single run.
    """
    return "\n\n".join(_markdown_table(table) for table in tables) + "\n"


def _markdown_table(table: Table) -> str:
    published = any(line.published for line in table.lines)
    header = ["", "runs", *HEADER] + (["paper: runs", *HEADER] if published else [])
    rows = []
    for line in table.lines:
        row = [printable(line.title).replace("|", "\\|"), str(len(line.runs)), *_cells(line.runs)]
        if published:
            row += [str(len(line.published)) if line.published else NOTHING, *_cells(line.published)]
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [f"## {table.title}", "", _join(header, widths)]
    lines.append("|".join(["", "-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:]), ""]))
    lines += [_join(row, widths) for row in rows]
    return "\n".join(lines + [line for note in table.notes for line in ("", printable(note))])


def _join(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]
    return f"| {' | '.join(padded)} |"


def _cells(runs: Sequence[Numbers]) -> Iterator[str]:
    for name in NUMBERS:
        mean, spread = mean_and_spread(known(runs, name))
        if mean is None:
            yield NOTHING
        elif name == "parameters":
            yield millions(mean, spread)
        else:
            yield f"{mean:.1f} ± " + (NOTHING if spread is None else f"{spread:.1f}")


def known(runs: Sequence[Numbers], name: str) -> list[float]:
    """The finite values of a number in the runs that have it."""
    return [run[name] for run in runs if name in run and math.isfinite(run[name])]


def write_csv(path: str | os.PathLike, tables: Sequence[Table]) -> None:
    """Writes one line for each row, atomically; an unknown number is an empty field.

    Percentages have two digits after the point; parameters are their number.
    """
    columns = [f"{name}_{part}" for name in NUMBERS for part in ("mean", "sd")]
    header = ["table", "row", "runs", *columns, "paper_runs", *(f"paper_{column}" for column in columns)]
    with files.replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for table in tables:
            for line in table.lines:
                ours, theirs = list(_fields(line.runs)), list(_fields(line.published))
                writer.writerow([table.title, line.name, len(line.runs), *ours, len(line.published), *theirs])


def _fields(runs: Sequence[Numbers]) -> Iterator[str]:
    for name in NUMBERS:
        for value in mean_and_spread(known(runs, name)):
            yield "" if value is None else f"{value:.0f}" if name == "parameters" else f"{value:.2f}"
