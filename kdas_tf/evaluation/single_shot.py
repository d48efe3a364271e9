"""CMC with a single gallery shot: one image of each identity, drawn at random, as for CUHK03's first protocol."""

import numpy as np
import numpy.typing as npt

from kdas_tf.evaluation.distances import Distances
from kdas_tf.evaluation.matching import Matching
from kdas_tf.evaluation.ordering import ranks


class SingleShot:
    """Ranks a query's match in galleries of one image for each identity (torchreid, metrics/rank.py: eval_cuhk03).

    For each query and repeat a gallery is drawn anew from the images that are kept for it; distractors count as one
    identity. What is drawn depends on the seed and the query's position alone.

    Args:
        matching: of queries and gallery.
        repeats: galleries for each query.
        seed: of the draws.
    """

    def __init__(self, matching: Matching, repeats: int, seed: int):
        self._matching, self._repeats, self._seed = matching, repeats, seed
        self._images, self._starts = matching.groups()
        self._sizes = np.diff(self._starts, append=len(self._images))

    def ranks(self, distances: Distances, row: int, values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        """Ranks `[repeats]` of a query's match.

        Args:
            distances: what `values` are a row of.
            row: the query, which has a match.
            values: `[gallery]`, infinite for images that are left out.
        """
        random = np.random.default_rng([self._seed, row])
        drawn = self._starts + random.integers(0, self._sizes, size=(self._repeats, len(self._sizes)))
        wanted = self._matching[row].wanted
        own = np.searchsorted(self._starts, np.flatnonzero(self._images == wanted[0])[0], "right") - 1
        result = np.empty(self._repeats, np.int64)
        for repeat, match in enumerate(wanted[random.integers(0, len(wanted), self._repeats)]):
            images = self._images[drawn[repeat]]
            images[own] = match
            images.sort()
            result[repeat] = ranks(distances, row, values[images], np.searchsorted(images, [match]), images)[0]
        return result
