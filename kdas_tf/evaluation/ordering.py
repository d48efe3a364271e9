"""The places of gallery images in one query's order.

The order of a gallery is that of `Distances.exact`, and images at exactly the same distance keep the gallery's order.
It is the order of the float32 `rows` except where these are too close to tell; only there `exact` is asked. Places are
counted, not sorted: a query has few matches, and comparing the row with each of them costs less than sorting the row.
"""

import numpy as np
import numpy.typing as npt

from kdas_tf.evaluation.distances import Distances


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
    # Windows of values whose order float32 leaves open, one around each wanted image; those that overlap are one.
    tie_low, tie_high = distances.window(row, np.sort(values[wanted]))
    apart = tie_low[1:] > tie_high[:-1]
    tie_low, tie_high = tie_low[np.append(True, apart)], tie_high[np.append(apart, True)]

    closer_count = np.array([np.count_nonzero(values < low) for low in tie_low])
    inside = [np.flatnonzero((values >= low) & (values <= high)) for low, high in zip(tie_low, tie_high, strict=True)]
    candidates, sizes = np.concatenate(inside), np.array([len(images) for images in inside])
    if len(candidates) == len(wanted):
        exact = values[candidates]  # wanted images alone: which of them is which does not matter
    else:
        exact = distances.exact(row, candidates if columns is None else columns[candidates])
    # A rank is the number of images closer than the window, plus the place in the window.
    window = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((candidates, exact, window))
    places = np.arange(1, len(order) + 1) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return (closer_count[window] + places)[np.isin(candidates[order], wanted)]
