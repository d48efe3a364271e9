"""A plot of several runs of several networks: every run, the mean and its spread."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdas_tf.drawing.pictures import DOTS_PER_INCH
from kdas_tf.evaluation.comparison import NUMBERS, Table, known, mean_and_spread
from kdas_tf.evaluation.printing import HEADER

_PLOTTED = ("mAP", "rank1")
_COLOR, _PALE = "#0072b2", "#56b4e9"  # of Okabe and Ito's palette for colour-blind readers


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
            values = known(line.runs, name)
            mean, spread = mean_and_spread(values)
            axes.plot(values, [y] * len(values), "o", color=_PALE, markersize=5, markeredgewidth=0)
            if mean is not None:
                look: dict[str, Any] = {"fmt": "|", "color": _COLOR, "markersize": 11, "capsize": 2, "linewidth": 1.3}
                axes.errorbar(mean, y, xerr=spread or 0.0, **look)
        y += 1
    axes.set_ylim(y - 0.4, -0.6)
    axes.set_yticks([place for place, _ in labels], [title for _, title in labels], fontsize=8)
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
