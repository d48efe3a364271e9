"""Curves of an evaluation: CMC, and ROC of "same person or not".

Every function returns a figure of its own and touches no global state of matplotlib.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from kdas_tf.drawing.pictures import DOTS_PER_INCH

# Small enough to be read on a phone, where the picture is about as wide as it says here.
_SIZE = (4.8, 3.4)
# Okabe and Ito's palette for colour-blind readers, without its yellow; the line style says the same.
_COLORS = ("#0072b2", "#d55e00", "#008a65", "#c2357f", "#56b4e9", "#c47f00", "#6b6b6b")
_STYLES = ("-", "--", "-.", ":")
_MARKED_RANKS = (1, 5, 10)
_CURVE = "curve"


def cmc_curve(curves: Mapping[str, npt.ArrayLike]) -> Figure:
    """Draws the share of queries with a match among the first k, for every k.

    Args:
        curves: {name: `[ranks]`, item k - 1 belongs to rank k, 0 to 1}.

    Returns:
        The figure; ranks 1, 5 and 10 are marked.
    """
    figure, axes = _axes("Cumulative matching characteristic", "rank k", "queries with a match among the first k")
    lowest, highest = 1.0, 0.0
    for (name, cmc), (color, style) in zip(curves.items(), itertools.cycle(zip(_COLORS, _STYLES, strict=False))):
        values = np.asarray(cmc, np.float64)
        lowest, highest = min(lowest, values[0]), max(highest, values[-1])
        marked = [rank - 1 for rank in _MARKED_RANKS if rank <= len(values)]
        ranks = np.arange(1, len(values) + 1)
        axes.plot(ranks, values, style, color=color, label=name, gid=_CURVE, marker="o", markevery=marked, markersize=4)
    # From one multiple of ten percent to another: good networks differ in the last few percent.
    axes.set_ylim(max(0.0, math.floor(10 * lowest - 0.2) / 10), min(1.005, math.ceil(10 * highest + 0.2) / 10))
    axes.set_xlim(left=0)
    axes.set_xticks([1, *range(5, int(axes.get_xlim()[1]) + 1, 5)])
    _legend(figure, axes)
    return figure


def roc_curve(
    name: str,
    fpr: npt.ArrayLike,
    tpr: npt.ArrayLike,
    operating_points: Sequence[tuple[float, float]] = (),
) -> Figure:
    """Draws the true positive rate over the false positive rate, whose axis is logarithmic.

    Args:
        name: of what was judged.
        fpr: false positive rates, ascending, 0 to 1.
        tpr: true positive rates, ascending.
        operating_points: (false positive rate, true positive rate) of each point to mark.

    Returns:
        The figure; the dotted line is guessing.
    """
    figure, axes = _axes("Same person or not", "false positive rate", "true positive rate")
    rates = np.concatenate([np.ravel(fpr), [x for x, _ in operating_points]])
    # Not further left than what has been measured; the lowest rate that people ask for is 1e-4.
    left = 10.0 ** np.clip(np.floor(np.log10(rates[rates > 0].min(initial=1e-3))), -6, -3)
    grid = np.geomspace(left, 1, 1001)
    # A rate that is reached: the highest at no more false positives than the grid's.
    reached = np.searchsorted(np.asarray(fpr), grid, side="right") - 1
    values = np.where(reached >= 0, np.asarray(tpr, np.float64)[np.maximum(reached, 0)], 0.0)
    axes.plot(grid, values, color=_COLORS[0], label=name, gid=_CURVE, drawstyle="steps-post")
    for x, y in operating_points:
        x = max(x, left)  # a rate of 0 has no place on a logarithmic axis
        axes.plot(x, y, "o", color=_COLORS[0], markersize=5, clip_on=False)
        look: dict[str, Any] = {"ha": "right", "fontsize": 8, "color": _COLORS[0]}
        axes.annotate(f"{100 * y:.1f} %", (x, y), (-5, 4), textcoords="offset points", **look)
    axes.plot(grid, grid, ":", color="0.6", linewidth=1)
    axes.set(xscale="log", xlim=(left, 1), ylim=(0, 1.02))
    _legend(figure, axes)
    return figure


def _axes(title: str, x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE, dpi=2 * DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(title, fontsize=10)
    axes.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(figure: Figure, axes: Axes) -> None:
    """Shows the names of all lines below the axes, as they are: they may hold a dollar sign or an underscore."""
    lines = [line for line in axes.lines if line.get_gid() == _CURVE]
    names = [str(line.get_label()) for line in lines]
    legend = figure.legend(lines, names, loc="outside lower center", fontsize=8, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)
