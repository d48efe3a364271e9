"""The nearest and the farthest of many points, by squared Euclidean distance.

All points are compared with all, in blocks, by products in float32; what comes out is judged again in float64. So the
neighbours do not depend on the library that finds them, nor on how it cuts the products.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Progress = Callable[[int, int], None]
"""Called with the points done and all points."""

_Search = Callable[[int, int], tuple[npt.NDArray, npt.NDArray]]
"""Gives the points `first` .. `last` - 1 their candidates: squared distances up to rounding, ascending, and indices."""

_SPARE = 6  # candidates beyond the neighbours asked for: room for what float32 puts in the wrong order
_BLOCK = 1024
_FAISS_BLOCK = 4096  # faiss cuts its queries here
_PAIRS = 1024  # pairs at a time: their coordinates stay in the processor's cache
_PRODUCTS = 1 << 24  # products held at a time


def nearest(
    points: npt.NDArray[np.float32], count: int, *, progress: Progress | None = None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Finds the nearest points of every point, itself included, with faiss or, without it, with `keras.ops`.

    The order is by distance, then by index. So a point is the first of its own neighbours unless an equal one has a
    lower index, and equal points have equal neighbours; of more than `count` equal points, the first `count` are taken.

    Args:
        points: `[points, D]`, finite. Centre them: the search is exact for any, but slow where distances are far
            smaller than the points are long.
        count: neighbours of each point, at most the number of points.
        progress: called after every block.

    Returns:
        Indices and squared distances, each `[points, count]`.
    """
    firsts, group, sizes = _equal_points(points)
    if len(firsts) == len(points):
        return _nearest_of_distinct(points, count, progress)
    found, distances = _nearest_of_distinct(points[firsts], min(count, len(firsts)), progress)
    members = np.argsort(group, kind="stable")
    starts = np.cumsum(sizes) - sizes
    taken = np.minimum(sizes, count)[found.ravel()]
    places = np.arange(taken.sum()) - np.repeat(np.cumsum(taken) - taken, taken)
    columns = members[np.repeat(starts[found.ravel()], taken) + places]
    rows = np.repeat(np.repeat(np.arange(len(firsts)), found.shape[1]), taken)
    found, distances = _first_of_each(rows, columns, np.repeat(distances.ravel(), taken), count)
    return found[group], distances[group]


def farthest(points: npt.NDArray[np.float32], *, progress: Progress | None = None) -> npt.NDArray[np.float64]:
    """Squared distance of every point to the one farthest from it, `[points]`.

    Distances are symmetric, so half of all products will do: twice as fast as a search for one neighbour of -x.
    """
    halves = (_squared_lengths(points) / 2).astype(np.float32)[:, None]
    # (x, 1, -|x|^2/2) . (y, -|y|^2/2, 1) is minus half the squared distance.
    right = np.concatenate([points, np.ones_like(halves), -halves], 1)
    swapped = np.r_[: points.shape[1], points.shape[1] + 1, points.shape[1]]
    lowest = np.zeros(len(points), np.float32)
    for first in range(0, len(points), _BLOCK):
        left, rows = right[first : first + _BLOCK, swapped], lowest[first : first + _BLOCK]
        for other in range(first, len(points), _BLOCK):
            products = left @ right[other : other + _BLOCK].T
            columns = lowest[other : other + _BLOCK]
            np.minimum(rows, products.min(1), out=rows)
            np.minimum(columns, products.min(0), out=columns)
        if progress is not None:
            progress(min(first + _BLOCK, len(points)), len(points))
    return -2 * lowest.astype(np.float64)


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


def _equal_points(points: npt.NDArray[np.float32]) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """First index of each group of equal points, ascending; group of every point; sizes of the groups."""
    group_of: dict[bytes, int] = {}
    group = np.empty(len(points), np.intp)
    for index, point in enumerate(points):
        group[index] = group_of.setdefault(point.tobytes(), len(group_of))
    _, firsts, sizes = np.unique(group, return_index=True, return_counts=True)
    return firsts, group, sizes


def _nearest_of_distinct(
    points: npt.NDArray[np.float32], count: int, progress: Progress | None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    squares = _squared_lengths(points)
    width = min(count + _SPARE, len(points))
    found, distances = np.empty((len(points), count), np.int32), np.empty((len(points), count))
    search, block = _search(points, width)
    for first in range(0, len(points), block):
        last = min(first + block, len(points))
        approximate, candidates = search(first, last)
        exact = squared_distances(points, np.repeat(np.arange(first, last), width), candidates.ravel())
        exact = exact.reshape(-1, width)
        order = np.lexsort((candidates, exact))[:, :count]
        found[first:last] = np.take_along_axis(candidates, order, 1)
        distances[first:last] = np.take_along_axis(exact, order, 1)
        if width < len(points):
            limit = distances[first:last, -1]
            rounding = _rounding(squares[first:last], limit, squares.max(), points.shape[1], 2.0**-24)
            missed = approximate[:, -1] <= limit + rounding
            _search_in_float64(points, squares, first + np.flatnonzero(missed), found, distances)
        if progress is not None:
            progress(last, len(points))
    return found, distances


def _rounding(
    squares: npt.NDArray[np.float64], limit: npt.NDArray[np.float64], longest: float, width: int, unit: float
) -> npt.NDArray[np.float64]:
    """Bounds the error of |a|^2 + |b|^2 - 2ab for all b with |a - b|^2 <= limit, from the squared lengths of the a.

    A sum of D products is wrong by at most D * unit * |a| |b|, `unit` the unit roundoff (Higham 2002, Accuracy and
    Stability of Numerical Algorithms, section 3.1); the 16 is for the sums around it.
    """
    others = np.minimum((np.sqrt(squares) + np.sqrt(limit)) ** 2, longest)
    return 2 * (width + 16) * unit * (squares + others)


def _search(points: npt.NDArray[np.float32], width: int) -> tuple[_Search, int]:
    """The search for candidates, by the library that there is, and the size of its blocks."""
    try:
        import faiss
    except ImportError:
        return _search_with_keras(points, width), max(min(_BLOCK, _PRODUCTS // len(points)), 1)
    return lambda first, last: faiss.knn(points[first:last], points, width), _FAISS_BLOCK


def _search_with_keras(points: npt.NDArray[np.float32], width: int) -> _Search:
    import keras

    halves = (_squared_lengths(points) / 2).astype(np.float32)[:, None]
    # On a GPU products may be rounded to TensorFloat-32, too coarse for `_rounding`.
    with keras.device("cpu:0"):
        right = keras.ops.convert_to_tensor(np.concatenate([points, -halves], 1).T)

    def search(first: int, last: int) -> tuple[npt.NDArray, npt.NDArray]:
        ones = np.ones_like(halves[first:last])
        with keras.device("cpu:0"):
            products = keras.ops.matmul(np.concatenate([points[first:last], ones], 1), right)
            values, indices = keras.ops.top_k(products, width)
        return 2 * (halves[first:last] - np.asarray(values)), np.asarray(indices)

    return search


def _search_in_float64(
    points: npt.NDArray[np.float32],
    squares: npt.NDArray[np.float64],
    rows: npt.NDArray[np.intp],
    found: npt.NDArray[np.int32],
    distances: npt.NDArray[np.float64],
) -> None:
    """Searches again for the neighbours of `rows`, where float32 leaves open which points beyond the spare are nearer.

    Writes them into `found` and `distances`.
    """
    count = found.shape[1]
    block = max(_PRODUCTS // len(points) // 2, 1)
    for some in (rows[i : i + block] for i in range(0, len(rows), block)):
        left = points[some].astype(np.float64)
        rough = np.empty((len(some), len(points)))
        for first in range(0, len(points), _BLOCK):
            rough[:, first : first + _BLOCK] = left @ points[first : first + _BLOCK].astype(np.float64).T
        rough *= -2
        rough += squares
        rough += squares[some, None]
        limit = np.partition(rough, count - 1)[:, count - 1]
        limit += 2 * _rounding(squares[some], np.maximum(limit, 0), squares.max(), points.shape[1], 2.0**-53)
        row, column = np.nonzero(rough <= limit[:, None])
        exact = squared_distances(points, some[row], column)
        found[some], distances[some] = _first_of_each(row, column, exact, count)


def _first_of_each(
    rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], distances: npt.NDArray[np.float64], count: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """The `count` nearest of each row's pairs, by distance, then by index; every row has that many."""
    order = np.lexsort((columns, distances, rows))
    starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
    chosen = order[starts[:, None] + np.arange(count)]
    return columns[chosen].astype(np.int32), distances[chosen]


def _squared_lengths(points: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.einsum("ij,ij->i", points, points, dtype=np.float64)
