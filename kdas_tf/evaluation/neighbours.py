"""The nearest and the farthest of many points, by squared Euclidean distance.

All points are compared with all, in blocks, by products in float32. Which points are nearest is then settled in
float64, pair by pair, among all that may be by the rounding of float32. So the neighbours do not depend on how the
products are cut.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kdas_tf.evaluation.distances import UNIT, product_error

Progress = Callable[[int, int], None]
"""Called with the points done and all points."""

_BLOCK = 128  # points that are compared with all at a time
_PAIRS = 1024  # pairs at a time: their coordinates stay in the processor's cache


def nearest_and_farthest(
    points: npt.NDArray[np.float32], count: int, *, progress: Progress | None = None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Finds the nearest points of every point, itself included, and the distance of the farthest.

    The order is by distance, then by index. So a point is the first of its own neighbours unless an equal point has a
    lower index, and equal points have equal neighbours.

    Args:
        points: `[points, D]`, finite. Centre them: the search is exact for any, but slow where distances are far
            smaller than the points are long.
        count: neighbours of each point, at most the number of points.
        progress: called after every block.

    Returns:
        Indices of the nearest `[points, count]`; squared distances of the farthest `[points]`.
    """
    squares = np.einsum("ij,ij->i", points, points, dtype=np.float64)
    halves = (squares / 2).astype(np.float32)[:, None]
    left, right = np.concatenate([points, np.ones_like(halves)], 1), np.concatenate([-points, halves], 1)
    nearest, farthest = np.empty((len(points), count), np.int32), np.empty(len(points))
    for first in range(0, len(points), _BLOCK):
        some = slice(first, min(first + _BLOCK, len(points)))
        # (x, 1) . (-y, |y|^2/2) is half the squared distance, less |x|^2/2, which is the same for all y.
        products = left[some] @ right.T
        farthest[some] = squares[some] + 2 * products.max(1)
        # Whatever is nearer than the count-th in float64 is below this limit in float32.
        limit = np.partition(products, count - 1, axis=1)[:, count - 1].astype(np.float64)
        limit += _rounding(squares[some], squares[some] + 2 * limit, squares.max(), points.shape[1])
        rows, columns = np.nonzero(products <= limit[:, None])
        distances = squared_distances(points, first + rows, columns)
        order = np.lexsort((columns, distances, rows))
        starts = np.flatnonzero(np.diff(rows, prepend=-1))  # of each row's pairs, which are together
        nearest[some] = columns[order[starts[:, None] + np.arange(count)]]
        if progress is not None:
            progress(some.stop, len(points))
    return nearest, np.maximum(farthest, 0)


def squared_distances(
    points: npt.NDArray[np.float32], rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Squared distances of pairs of points, in float64: `[pairs]`, each the same whichever others are asked for."""
    distances = np.empty(len(rows))
    for first in range(0, len(rows), _PAIRS):
        some = slice(first, first + _PAIRS)
        differences = np.subtract(points[columns[some]], points[rows[some]], dtype=np.float64)
        distances[some] = np.einsum("ij,ij->i", differences, differences)
    return distances


def _rounding(
    squares: npt.NDArray[np.float64], distances: npt.NDArray[np.float64], longest: float, width: int
) -> npt.NDArray[np.float64]:
    """Bounds the error of |a|^2 + |b|^2 - 2ab in float32 for all b with |a - b|^2 <= distances.

    Args:
        squares: |a|^2.
        distances: of each a.
        longest: largest |b|^2.
        width: of the points; the 16 is for the sums around their product.
    """
    others = np.minimum((np.sqrt(squares) + np.sqrt(np.maximum(distances, 0))) ** 2, longest)
    return 2 * (product_error(width) + 16 * UNIT) * (squares + others)
