"""Several runs of several networks as tables: mean and spread over seeds, and differences of runs with one seed."""

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
        seeds: the seed of each run, by which rows are compared in pairs of runs.
    """

    name: str
    title: str
    runs: Sequence[Numbers] = ()
    published: Sequence[Numbers] = ()
    seeds: Sequence[int | None] = ()


class Table(NamedTuple):
    """Rows below one title, and notes on them.

    Attributes:
        title: of the table.
        lines: its rows.
        notes: sentences below it.
        compared: name of the row that each other row is compared with, in pairs of runs with one seed.
    """

    title: str
    lines: Sequence[Line]
    notes: Sequence[str] = ()
    compared: str | None = None


class Difference(NamedTuple):
    """How far two rows are apart, from pairs of runs with one seed.

    Attributes:
        row: name of the row that is compared.
        other: name of the row that it is compared with.
        number: which of `NUMBERS`, in percent.
        pairs: number of seeds that both rows have.
        mean: of row - other.
        low: lower end of the 95 % confidence interval of the mean (Student's t); None of a single pair.
        high: its upper end.
    """

    row: str
    other: str
    number: str
    pairs: int
    mean: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """Says "higher" or "lower" only where the interval leaves out zero."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "not told apart"
        return "higher" if self.low > 0 else "lower"


def mean_and_spread(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation (n - 1); None where the values are too few."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def differences(table: Table) -> list[Difference]:
    """Compares the row `table.compared` with each other row that shares a seed with it: mAP and rank-1."""
    first = next((line for line in table.lines if line.name == table.compared), None)
    if first is None:
        return []
    found = (_difference(first, line, name) for line in table.lines if line is not first for name in ("mAP", "rank1"))
    return [difference for difference in found if difference is not None]


def _difference(line: Line, other: Line, number: str) -> Difference | None:
    from scipy import stats  # takes a second to import

    ours, theirs = (
        {seed: run[number] for seed, run in zip(each.seeds, each.runs, strict=True) if known([run], number)}
        for each in (line, other)
    )
    values = [ours[seed] - theirs[seed] for seed in ours if seed is not None and seed in theirs]
    mean, spread = mean_and_spread(values)
    if mean is None:
        return None
    if spread is None:
        return Difference(line.name, other.name, number, 1, mean, None, None)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * spread / math.sqrt(len(values))
    return Difference(line.name, other.name, number, len(values), mean, mean - half, mean + half)


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
    return "\n".join([*lines, *(line for note in [*table.notes, *_said(table)] for line in ("", printable(note)))])


def _said(table: Table) -> Iterator[str]:
    """What the comparison of the rows says, a sentence for each."""
    titles = {line.name: line.title for line in table.lines}
    for each in differences(table):
        number, many = HEADER[NUMBERS.index(each.number)], f"{each.pairs} seed{'s' if each.pairs > 1 else ''}"
        between = "" if each.low is None else f", 95 % interval {each.low:+.1f} to {each.high:+.1f}"
        yield (
            f"{number}, {titles[each.row]} less {titles[each.other]}, in pairs of {many}: {each.mean:+.1f}{between}: "
            f"{each.verdict}."
        )


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
