"""Places of the nodes, arrows and labels in a cell's picture, so that none covers another."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RADIUS = 0.27  # of a node, in the units of the drawing (0.66 inches at the size that `draw_genotype` has)
COLUMNS = (0.0, 0.0, 2.05, 3.9, 5.75, 7.6, 9.3)  # of two inputs, four intermediate nodes and the output
LIMIT = 1.9  # half the height of a cell
_LABEL = np.array([0.82, 0.26])  # width and height of an arrow's label
_ZIGZAGS = (
    (0.55, -0.55, 0.55, -0.55),
    (-0.55, 0.55, -0.55, 0.55),
    (1.0, -1.0, 0.6, -0.3),
    (-1.0, 1.0, -0.6, 0.3),
    (0.0, 0.9, -0.9, 0.4),
    (0.0, -0.9, 0.9, -0.4),
)  # heights of nodes 2 to 5


class _Choices(NamedTuple):
    """The ways to draw one arrow: B bends, each with L places for the label (NaN for an arrow without one)."""

    bends: np.ndarray  # [B]
    points: np.ndarray  # [B, points, 2], without the ends, where arrows meet anyway
    labels: np.ndarray  # [B, L, 2]
    costs: np.ndarray  # [B, L]


def lay_out(edges: Sequence[tuple[int, int]], labelled: int) -> tuple[np.ndarray, list[tuple[float, np.ndarray]]]:
    """Places the nodes and bends the arrows so that arrows and labels do not cover each other.

    Tries a few zigzags. In each, the arrows take turns: an arrow chooses the bend and the place of its label that
    collide least with the other arrows. Edges are (source, target) of each arrow, with nodes numbered as in `COLUMNS`;
    the first `labelled` arrows have a label. Returns the nodes' places `[7, 2]`, and each arrow's bend and label place.
    """
    best: tuple[float, np.ndarray, list[tuple[float, np.ndarray]]] = (np.inf, np.empty(0), [])
    for heights in _ZIGZAGS:
        places = np.column_stack([COLUMNS, [1.0, -1.0, *heights, 0.0]])
        choices = [_choices(places, *edge, index < labelled) for index, edge in enumerate(edges)]
        lines = np.array([choice.points[0] for choice in choices])
        labels = np.array([choice.labels[0, 0] for choice in choices])
        bends, total, last = [0.0] * len(edges), np.inf, np.inf
        for _ in range(5):
            last, total = total, 0.0
            for index, choice in enumerate(choices):
                others = np.arange(len(edges)) != index
                costs = choice.costs + _collisions(choice, lines[others], labels[others])
                bend, label = np.unravel_index(np.argmin(costs), costs.shape)
                total += costs[bend, label]
                bends[index], lines[index] = float(choice.bends[bend]), choice.points[bend]
                labels[index] = choice.labels[bend, label]
            if total >= last:
                break
        if total < best[0]:
            best = (total, places, list(zip(bends, labels, strict=True)))
    return best[1:]


def _choices(places: np.ndarray, source: int, target: int, labelled: bool) -> _Choices:
    start, end = places[source], places[target]
    bends = np.array([0.0, 0.12, -0.12, 0.25, -0.25, 0.4, -0.4, 0.55, -0.55])
    sideways = np.array([end[1] - start[1], start[0] - end[0]])
    middle = ((start + end) / 2 + bends[:, None] * sideways)[:, None]  # the control point of matplotlib's arc3
    t = np.linspace(0, 1, 25)[:, None]
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    gaps = np.linalg.norm(points[:, :, None] - np.delete(places, [source, target], axis=0), axis=-1) - RADIUS
    costs = 4 * np.abs(bends) + 30 * np.clip(0.22 - gaps, 0, 0.3).sum((1, 2))
    costs += 10 * np.clip(np.abs(points[..., 1]) - LIMIT, 0, None).sum(1)
    steps = np.array([12, 9, 15, 7, 17] if labelled else [12])
    labels = points[:, steps] if labelled else np.full((len(bends), 1, 2), np.nan)
    on_nodes = _close(labels[:, :, None], places, _LABEL / 2 + RADIUS).sum(-1)
    return _Choices(bends, points[:, 3:-3], labels, costs[:, None] + 0.1 * np.abs(steps - 12) + 20 * on_nodes)


def _collisions(choice: _Choices, lines: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Costs `[B, L]` of the ways to draw an arrow, by their collisions with the other arrows.

    A label on a label costs most, a label on a line less, a line near a line little.
    """
    points = lines.reshape(-1, 2)
    label_on_label = _close(choice.labels[:, :, None], labels, _LABEL + 0.05).sum(-1)
    label_on_line = _close(choice.labels[:, :, None], points, _LABEL / 2 + 0.04).sum(-1)
    line_on_label = _close(choice.points[:, :, None], labels, _LABEL / 2 + 0.04).sum((1, 2))
    line_on_line = (np.linalg.norm(choice.points[:, :, None] - points, axis=-1) < 0.13).sum((1, 2))
    return 20 * label_on_label + 2 * label_on_line + (2 * line_on_label + 0.15 * line_on_line)[:, None]


def _close(first: np.ndarray, second: np.ndarray, reach: np.ndarray) -> np.ndarray:
    return np.all(np.abs(first - second) < reach, axis=-1)  # False for NaN, an arrow without a label
