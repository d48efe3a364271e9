"""Ranked lists of photographs: a query and what was found for it, nearest first, as a picture."""

import logging
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from kdas_tf.drawing.pictures import DOTS_PER_INCH

Photograph = str | os.PathLike[str] | npt.NDArray
"""A file, or an array `[height, width, 3]` in 0..255."""

THUMBNAIL = (72, 144)
"""Largest width and height of a photograph in a ranked list, in pixels."""

RIGHT, WRONG = "#007a5a", "#c8380a"
RIGHT_MARK, WRONG_MARK = "\N{CHECK MARK}", "\N{BALLOT X}"

_GAP, _BORDER, _HEAD, _ABOVE, _BELOW = 14, 6, 40, 22, 56
_NO_PICTURE = (205, 205, 205)


class Shown(NamedTuple):
    """A photograph in a ranked list.

    Attributes:
        photograph: what to show.
        identity: of the person; 0 is a distractor.
        camera: its number.
        distance: to the query.
        correct: whether it shows the query's person.
    """

    photograph: Photograph
    identity: int
    camera: int
    distance: float = math.nan
    correct: bool = False


class RankedRow(NamedTuple):
    """A query and what was found for it, nearest first.

    Attributes:
        query: what was searched for.
        found: the nearest ones.
        average_precision: of the query, 0 to 1.
        first_match_rank: rank of the first match, from 1 on; None if there is none.
    """

    query: Shown
    found: Sequence[Shown]
    average_precision: float
    first_match_rank: int | None = None


def worst_and_best(
    average_precisions: npt.ArrayLike, count: int = 6, *, identities: npt.ArrayLike | None = None
) -> tuple[list[int], list[int]]:
    """Chooses queries to show: those of the lowest average precision, and those of the highest.

    Queries at the same average precision keep their order, queries without a match (NaN) are left out, and no query
    is in both lists.

    Args:
        average_precisions: `[queries]`.
        count: largest number in each list.
        identities: `[queries]`; with them each list has at most one query of a person, so that it shows several.

    Returns:
        Positions of the queries, the very worst first and the very best first.
    """
    values = np.asarray(average_precisions, np.float64)
    people = np.arange(len(values)) if identities is None else np.asarray(identities)

    def pick(keys: npt.NDArray, taken: Sequence[int]) -> list[int]:
        order = [int(i) for i in np.argsort(keys, kind="stable") if np.isfinite(values[i]) and i not in taken]
        _, first = np.unique(people[order], return_index=True)
        return [order[i] for i in np.sort(first)][:count]

    valid = int(np.isfinite(values).sum())
    worst = pick(values, ())[: max((valid + 1) // 2, 0)]
    return worst, pick(-values, worst)


def ranked_list(rows: Sequence[RankedRow], title: str) -> Figure:
    """Shows queries at the left and what was found at the right, nearest first.

    Right ones have a solid green frame and a check mark, wrong ones a dashed red frame and a cross.

    Args:
        rows: one for each query.
        title: what stands above.

    Returns:
        The figure, in which a thumbnail's pixel is one pixel.

    Raises:
        ValueError: there is no row.
    """
    if not rows:
        raise ValueError("Expected at least one query to show, got none.")
    width, height = THUMBNAIL
    column, line = width + _GAP, height + _ABOVE + _BELOW
    columns = 1 + max(len(row.found) for row in rows)
    size = (columns * column + 3 * _GAP, len(rows) * line + _HEAD)
    figure = Figure(figsize=(size[0] / DOTS_PER_INCH, size[1] / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    sheet = np.full((size[1], size[0], 3), 255, np.uint8)
    axes.text(_GAP, _HEAD / 2, title, va="center", fontsize=7, parse_math=False)
    for index, row in enumerate(rows):
        top = _HEAD + index * line + _ABOVE
        first = "none" if row.first_match_rank is None else str(row.first_match_rank)
        words = f"AP {100 * row.average_precision:.1f} %\nfirst: {first}\n{_who(row.query)}"
        _draw_photograph(axes, sheet, row.query.photograph, (_GAP, top), "query", words, "0.2", "-")
        for rank, shown in enumerate(row.found, start=1):
            color, mark, dashes = (RIGHT, RIGHT_MARK, "-") if shown.correct else (WRONG, WRONG_MARK, (0, (4, 2)))
            place = (3 * _GAP + rank * column, top)
            words = f"{shown.distance:.3f}\n{_who(shown)}"
            _draw_photograph(axes, sheet, shown.photograph, place, f"{rank} {mark}", words, color, dashes)
    axes.imshow(sheet, aspect="auto", interpolation="nearest")
    return figure


def thumbnail(photograph: Photograph, size: tuple[int, int] = THUMBNAIL, *, enlarge: float = 2.0) -> Image.Image:
    """Reads a photograph and makes it fit into (width, height) pixels, enlarged at most `enlarge` times.

    A photograph that cannot be read is shown as grey, with a logged warning: pictures come last in an evaluation, and
    must not end it.
    """
    try:
        if isinstance(photograph, np.ndarray):
            image = Image.fromarray(np.clip(np.round(photograph), 0, 255).astype(np.uint8)).convert("RGB")
        else:
            with Image.open(photograph) as opened:
                image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        logging.warning("A photograph cannot be shown: %s", error)
        image = Image.new("RGB", size, _NO_PICTURE)
    scale = min(size[0] / image.width, size[1] / image.height, enlarge)
    fitted = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image.resize(fitted, Image.Resampling.LANCZOS)


def _who(shown: Shown) -> str:
    return f"{'distractor' if shown.identity == 0 else f'id {shown.identity}'}\ncam {shown.camera}"


def _draw_photograph(axes: Axes, sheet: npt.NDArray, photograph, place, above, below, color, dashes) -> None:
    left, top = place
    width, height = THUMBNAIL
    image = np.asarray(thumbnail(photograph))
    x, y = left + (width - image.shape[1]) // 2, top + (height - image.shape[0]) // 2
    sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    frame = (left - (_BORDER + 1) / 2, top - (_BORDER + 1) / 2)  # a pixel begins half a pixel before its number
    axes.add_patch(
        Rectangle(
            frame, width + _BORDER, height + _BORDER, fill=False, edgecolor=color, linewidth=1.5, linestyle=dashes
        )
    )
    axes.text(left + width / 2, top - 5, above, ha="center", va="bottom", fontsize=6.5, color=color, weight="bold")
    axes.text(left + width / 2, top + height + 6, below, ha="center", va="top", fontsize=5, linespacing=1.1)
