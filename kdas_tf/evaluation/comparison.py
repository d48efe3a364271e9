"""Several runs of several networks as tables: mean and spread over seeds beside published numbers; as text and plot."""

import csv
import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdas_tf import files
from kdas_tf.evaluation.tables import HEADER, NOTHING, printable
from kdas_tf.training.pictures import DOTS_PER_INCH

NUMBERS = ("mAP", "rank1", "rank5", "rank10", "parameters")
"""What a run is compared by, in the order of `kdas_tf.evaluation.tables.HEADER`."""

Numbers = Mapping[str, float]
"""Some or all of `NUMBERS`: the first four in percent, then the number of trainable parameters."""

_PLOTTED = ("mAP", "rank1")
_COLOR, _PALE = "#0072b2", "#56b4e9"  # of Okabe and Ito's palette for colour-blind readers


class Line(NamedTuple):
    """A row of a table.

    Attributes:
        name: a short one, for programs.
        title: for people.
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
    """Mean and sample standard deviation (n - 1); None where there are too few values for it."""
    mean = statistics.fmean(values) if values else None
    return mean, statistics.stdev(values) if len(values) > 1 else None


def markdown(tables: Sequence[Table]) -> str:
    """Writes tables as Markdown, padded so that it reads well as plain text too.

    "71.9 ± 0.4" is a mean and its spread; a dash stands for what is not known, such as the spread of a single run.
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
        mean, spread = mean_and_spread(_known(runs, name))
        if mean is None:
            yield NOTHING
        elif name == "parameters":
            # Below a million three digits: a tenth of a million is a lot there.
            digits = 1 if mean >= 1e6 else 3
            yield f"{mean / 1e6:.{digits}f}" + (f" ± {spread / 1e6:.{digits}f}" if spread else "")
        else:
            yield f"{mean:.1f} ± " + (NOTHING if spread is None else f"{spread:.1f}")


def _known(runs: Sequence[Numbers], name: str) -> list[float]:
    return [run[name] for run in runs if name in run and math.isfinite(run[name])]


def write_csv(path: str | os.PathLike, tables: Sequence[Table]) -> None:
    """Writes one line for each row, atomically; what is not known is left empty.

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
        for value in mean_and_spread(_known(runs, name)):
            yield "" if value is None else f"{value:.0f}" if name == "parameters" else f"{value:.2f}"


def plot(tables: Sequence[Table]) -> Figure:
    """Draws mAP and Rank-1 of every row: a pale dot for each run, the mean, and a line of one spread to each side."""
    count = sum(len(table.lines) + 1 for table in tables)
    figure = Figure(figsize=(7.2, 0.8 + 0.28 * count), dpi=DOTS_PER_INCH, layout="constrained")
    panels = figure.subplots(1, len(_PLOTTED), sharey=True)
    for axes, name in zip(panels, _PLOTTED, strict=True):
        _draw(axes, tables, name)
        axes.set_xlabel(f"{HEADER[NUMBERS.index(name)]} in percent")
    return figure


def _draw(axes: Axes, tables: Sequence[Table], name: str) -> None:
    labels: list[tuple[float, str]] = []
    y = 0.0
    for table in tables:
        axes.annotate(table.title, (0.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color="0.4")
        for line in table.lines:
            y += 1
            labels.append((y, line.title))
            values = _known(line.runs, name)
            mean, spread = mean_and_spread(values)
            axes.plot(values, [y] * len(values), "o", color=_PALE, markersize=5, markeredgewidth=0)
            if mean is not None:
                axes.errorbar(
                    mean, y, xerr=spread or 0.0, fmt="|", color=_COLOR, markersize=11, capsize=2, linewidth=1.3
                )
        y += 1
    axes.set_ylim(y - 0.4, -0.6)
    axes.set_yticks([place for place, _ in labels], [title for _, title in labels], fontsize=8)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
