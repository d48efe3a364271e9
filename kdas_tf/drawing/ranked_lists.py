"""Ranked lists of photographs: a query and the gallery images nearest to it, as a picture."""

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from kdas_tf.data import decoding
from kdas_tf.drawing.pictures import DOTS_PER_INCH
from kdas_tf.formats import Unreadable

THUMBNAIL = (72, 144)
"""Largest width and height of a photograph in a ranked list, in pixels."""

RIGHT, WRONG = "#007a5a", "#c8380a"
RIGHT_MARK, WRONG_MARK = "\N{CHECK MARK}", "\N{BALLOT X}"

_GAP, _BORDER, _HEAD, _ABOVE, _BELOW = 14, 6, 40, 22, 56
_NO_PICTURE = (205, 205, 205)


class Shown(NamedTuple):
    """A photograph in a ranked list.

    Attributes:
        photograph: its file.
        identity: of the person; 0 is a distractor.
        camera: its number; None where nobody knows it.
        distance: to the query.
        correct: whether it shows the query's person.
    """

    photograph: str | os.PathLike[str]
    identity: int
    camera: int | None
    distance: float = math.nan
    correct: bool = False

    @property
    def who(self) -> str:
        """The person, for people."""
        return "distractor" if self.identity == 0 else f"id {self.identity}"

    @property
    def where(self) -> str:
        """The camera, for people."""
        return "cam ?" if self.camera is None else f"cam {self.camera}"


class RankedQuery(NamedTuple):
    """A query and the beginning of its gallery's order.

    Attributes:
        query: its photograph.
        nearest: gallery images, nearest first.
        average_precision: of the query, 0 to 1.
        first_match_rank: rank of the first match, from 1 on; None if there is none.
    """

    query: Shown
    nearest: Sequence[Shown]
    average_precision: float
    first_match_rank: int | None = None


def worst_and_best(
    average_precisions: npt.ArrayLike, identities: npt.ArrayLike, count: int
) -> tuple[list[int], list[int]]:
    """Chooses queries to show: those of the lowest average precision, and those of the highest.

    Queries at the same average precision keep their order, queries without a match (NaN) are left out, and no query
    is in both lists.

    Args:
        average_precisions: `[queries]`.
        identities: `[queries]`; each list has at most one query of a person, so that it shows several.
        count: largest number in each list.

    Returns:
        Positions of the queries, the very worst first and the very best first.
    """
    values, people = np.asarray(average_precisions, np.float64), np.asarray(identities)

    def pick(keys: npt.NDArray, taken: Sequence[int]) -> list[int]:
        order = [int(i) for i in np.argsort(keys, kind="stable") if np.isfinite(values[i]) and i not in taken]
        _, first = np.unique(people[order], return_index=True)
        return [order[i] for i in np.sort(first)][:count]

    valid = int(np.isfinite(values).sum())
    worst = pick(values, ())[: max((valid + 1) // 2, 0)]
    return worst, pick(-values, worst)


def ranked_list(queries: Sequence[RankedQuery], title: str) -> Figure:
    """Shows queries at the left and the images nearest to them at the right, nearest first.

    Matches have a solid green frame and a check mark, others a dashed red frame and a cross.

    Args:
        queries: a row each.
        title: text above.

    Returns:
        The figure, in which a thumbnail's pixel is one pixel.

    Raises:
        ValueError: there is no query.
    """
    if not queries:
        raise ValueError("Expected at least one query to show, got none.")
    width, height = THUMBNAIL
    column, line = width + _GAP, height + _ABOVE + _BELOW
    columns = 1 + max(len(ranked.nearest) for ranked in queries)
    size = (columns * column + 3 * _GAP, len(queries) * line + _HEAD)
    figure = Figure(figsize=(size[0] / DOTS_PER_INCH, size[1] / DOTS_PER_INCH), dpi=DOTS_PER_INCH)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    sheet = np.full((size[1], size[0], 3), 255, np.uint8)
    axes.text(_GAP, _HEAD / 2, title, va="center", fontsize=7, parse_math=False)
    for index, ranked in enumerate(queries):
        top = _HEAD + index * line + _ABOVE
        first = "none" if ranked.first_match_rank is None else str(ranked.first_match_rank)
        words = f"AP {100 * ranked.average_precision:.1f} %\nfirst: {first}\n"
        _draw(axes, sheet, ranked.query, (_GAP, top), "query", words, "0.2", "-")
        for rank, shown in enumerate(ranked.nearest, start=1):
            color, mark, dashes = (RIGHT, RIGHT_MARK, "-") if shown.correct else (WRONG, WRONG_MARK, (0, (4, 2)))
            place = (3 * _GAP + rank * column, top)
            _draw(axes, sheet, shown, place, f"{rank} {mark}", f"{shown.distance:.3f}\n", color, dashes)
    axes.imshow(sheet, aspect="auto", interpolation="nearest")
    return figure


def thumbnail(
    photograph: str | os.PathLike[str], size: tuple[int, int] = THUMBNAIL, *, enlarge: float = 2.0
) -> Image.Image:
    """Reads a photograph as networks do and makes it fit into (width, height) pixels, at most `enlarge` times larger.

    A photograph that cannot be read is shown as grey, with a logged warning: pictures come last in an evaluation, and
    must not end it.
    """
    try:
        image = Image.fromarray(decoding.pixels(Path(photograph).read_bytes()))
    except (OSError, ValueError, Unreadable) as error:
        logging.warning("The photograph %s cannot be shown: %s", photograph, error)
        image = Image.new("RGB", size, _NO_PICTURE)
    scale = min(size[0] / image.width, size[1] / image.height, enlarge)
    fitted = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image.resize(fitted, Image.Resampling.LANCZOS)


def _draw(axes: Axes, sheet: npt.NDArray, shown: Shown, place: tuple[int, int], above, below, color, dashes) -> None:
    """Draws a photograph with its frame, a text above, and a text below that ends with the person and the camera."""
    left, top = place
    width, height = THUMBNAIL
    image = np.asarray(thumbnail(shown.photograph))
    x, y = left + (width - image.shape[1]) // 2, top + (height - image.shape[0]) // 2
    sheet[y : y + image.shape[0], x : x + image.shape[1]] = image
    frame = (left - (_BORDER + 1) / 2, top - (_BORDER + 1) / 2)  # a pixel begins half a pixel before its number
    look = {"edgecolor": color, "linestyle": dashes, "linewidth": 1.5}
    axes.add_patch(Rectangle(frame, width + _BORDER, height + _BORDER, fill=False, **look))
    below += f"{shown.who}\n{shown.where}"
    axes.text(left + width / 2, top - 5, above, ha="center", va="bottom", fontsize=6.5, color=color, weight="bold")
    axes.text(left + width / 2, top + height + 6, below, ha="center", va="top", fontsize=5, linespacing=1.1)
