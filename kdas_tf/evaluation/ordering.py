"""The places of gallery images in one query's order, counted without sorting the gallery.

The order of a gallery is that of `Distances.exact`, and images at exactly the same distance keep the gallery's order.
It is the order of the float32 `rows` except where these are too close to tell; only there `exact` is asked.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kdas_tf.evaluation.distances import Distances

_FEWEST_BUCKETS, _MOST_BUCKETS = 64, 1 << 16
_IMAGES_PER_BUCKET = 4  # on average; fewer make the table of buckets larger than the row


def ranks(
    distances: Distances,
    row: int,
    values: npt.NDArray[np.float32],
    wanted: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp] | None = None,
) -> npt.NDArray[np.int64]:
    """Ranks of some images among all.

    Args:
        distances: what `values` are rows of.
        row: the query.
        values: `[images]`, infinite for images that are left out.
        wanted: positions in `values` of the images whose ranks are asked for, at least one; none is left out.
        columns: `[images]`, the gallery positions of `values`, ascending; None: the whole gallery.

    Returns:
        `[wanted]`, ranks from 1 on, ascending.
    """
    wanted_values = values[wanted]
    wanted_values.sort()
    low, high = distances.window(row, wanted_values)
    begins = np.flatnonzero(low[1:] > high[:-1]) + 1  # windows that overlap are one
    begins, ends = np.concatenate(([0], begins)), np.concatenate((begins, [len(wanted)]))
    held = ends - begins  # wanted images in each window
    low, high = low[begins], high[ends - 1]
    near, window, nearer = _near(values, low, high)

    inside = (window >= 0) & (values[near] <= high[window])
    sizes = np.bincount(window[inside], minlength=len(low))
    # A rank is the number of images nearer than the window, plus the place in it.
    found = np.repeat(nearer - begins + 1, held) + np.arange(len(wanted))
    unsettled = sizes > held
    if unsettled.any():
        doubtful = near[inside & unsettled[window]]
        exact = distances.exact(row, doubtful if columns is None else columns[doubtful])
        is_wanted = np.zeros(len(values), bool)
        is_wanted[wanted] = True
        places = np.flatnonzero(is_wanted[doubtful[np.argsort(exact, kind="stable")]])
        before = np.cumsum(sizes[unsettled]) - sizes[unsettled]
        found[np.repeat(unsettled, held)] = places + np.repeat(nearer[unsettled] - before + 1, held[unsettled])
    return found


class _Near(NamedTuple):
    """Images in or next to the windows.

    Attributes:
        images: `[near]`, positions, ascending.
        window: `[near]`, the last window that begins at or below the image's value; -1 if there is none.
        nearer: `[windows]`, number of images below the window.
    """

    images: npt.NDArray[np.intp]
    window: npt.NDArray[np.intp]
    nearer: npt.NDArray[np.intp]


def _near(values: npt.NDArray[np.float32], low: npt.NDArray[np.float32], high: npt.NDArray[np.float32]) -> _Near:
    """Finds the images in ascending windows `low` .. `high` and counts those below each.

    The values are counted once into buckets of equal width, for all windows together; only the buckets that windows
    touch are looked into.
    """
    buckets = min(max(len(values) // _IMAGES_PER_BUCKET, _FEWEST_BUCKETS), _MOST_BUCKETS)
    step = max(float(high[-1] - low[0]) / buckets, float(abs(high[-1])) * 2.0**-22, 1e-20)
    # Two buckets below the first window and one above the last hold what is farther away.
    origin, scale = np.float32(low[0] - 2 * step), np.float32(1 / step)

    def bucket(distances: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        scaled = distances - origin
        scaled *= scale
        np.clip(scaled, 0, buckets + 3, out=scaled)
        # By way of int32: float32 to int64 is no single instruction on many processors.
        return scaled.astype(np.int32).astype(np.intp)

    held = bucket(values)
    counts = np.bincount(held, minlength=buckets + 4)
    touched = np.zeros(len(counts), bool)
    ends = bucket(np.concatenate((low, high)))
    firsts, lasts = ends[: len(low)], ends[len(low) :]
    for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
        touched[first : last + 1] = True
    images = touched[held].nonzero()[0]
    window = low.searchsorted(values[images], "right") - 1
    counts[touched] = 0
    below_touched = np.bincount(window + 1, minlength=len(low) + 1).cumsum()[:-1]
    return _Near(images, window, counts.cumsum()[firsts] + below_touched)


def first(distances: Distances, row: int, values: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.intp]:
    """Positions in the gallery of the `count` nearest images, nearest first; fewer if more are left out.

    Args:
        distances: what `values` are a row of.
        row: the query.
        values: `[gallery]`, infinite for images that are left out.
        count: at least 1.
    """
    count = min(count, int(np.count_nonzero(values < np.inf)))
    if not count:
        return np.zeros(0, np.intp)
    last = np.partition(values, count - 1)[count - 1 : count]
    near = np.flatnonzero(values <= distances.window(row, last)[1][0])
    return near[np.argsort(distances.exact(row, near), kind="stable")][:count]
