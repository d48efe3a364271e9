"""Re-ranking with k-reciprocal encodings, sparse from end to end.

Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017, by the rules of the authors'
numpy code (zhunzhong07/person-re-ranking, python-version/re_ranking_ranklist.py). FastReID's variant is a different
algorithm.
"""

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy import sparse

from kdas_tf.errors import UserError
from kdas_tf.evaluation.distances import UNIT, product_error
from kdas_tf.evaluation.neighbours import Progress, nearest_and_farthest, squared_distances
from kdas_tf.settings import check_range

_PAIRS = 1 << 22  # non-zero entries of encodings compared at a time
_SMALLEST, _LARGEST = 1e-30, 1e30  # squared lengths whose products are safe in float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reranking:
    """Numbers of the re-ranking; the defaults are the paper's (section 4.1) and its code's.

    Args:
        k1: neighbours of a photograph, itself not counted.
        k2: neighbours, itself counted, over which encodings are averaged; 1 leaves them as they are.
        weight: lambda, the weight of the original distance, 0 to 1.
    """

    k1: int = 20
    k2: int = 6
    weight: float = 0.3

    def __post_init__(self):
        check_range(self, "k1 k2", least=1)
        if not 0 <= self.weight <= 1:
            raise UserError(
                f"Expected rerank.Reranking.weight to be between 0 and 1, got {self.weight}. The paper has 0.3.",
                code="range",
            )

    @property
    def least_photographs(self) -> int:
        """Photographs that queries and gallery must have together: k1 neighbours of each, and k2 with itself."""
        return max(self.k1 + 1, self.k2)


class RerankedDistances:
    """Re-ranked distances of queries to a gallery (a `Distances`), made a few rows at a time.

    With d the squared Euclidean distance divided by the query's largest to any photograph, and V the encodings:

        distance(q, g) = (1 - lambda) * (1 - m / (2 - m)) + lambda * d(q, g),    m = sum_k min(V[q, k], V[g, k])

    The first part is the Jaccard distance (section 3.3; rows of V sum to 1), the sum is the final one (section 3.5).
    Neighbours are looked for among queries and gallery together. At equal distance the lower index is nearer, queries
    first. Gallery images with equal features get equal distances, unless k2 is 1.

    Args:
        query_features: `[queries, D]`, finite; computed with in float32.
        gallery_features: `[gallery, D]`.
        settings: k1, k2 and lambda.
        progress: called during the search for neighbours with photographs done and all.

    Raises:
        UserError: the widths differ, features are not finite, or there are fewer than k1 + 1 or k2 photographs.
    """

    def __init__(
        self,
        query_features: npt.NDArray[np.floating],
        gallery_features: npt.NDArray[np.floating],
        settings: Reranking = Reranking(),
        *,
        progress: Progress | None = None,
    ):
        points = _centred(query_features, gallery_features)
        k1, k2 = settings.k1, settings.k2
        if len(points) < settings.least_photographs:
            raise UserError(
                f"Expected at least {settings.least_photographs} photographs in queries and gallery together, for "
                f"k1 {k1} and k2 {k2}, got {len(points)}. Lower k1 to at most {len(points) - 1} and k2 to at most "
                f"{len(points)}."
            )
        neighbours, largest = nearest_and_farthest(points, settings.least_photographs, progress=progress)
        largest[largest == 0] = 1  # all points are equal, and all distances 0
        encodings = _encodings(points, neighbours, largest, k1, k2)
        self.shape = len(query_features), len(gallery_features)
        self._lambda, self._points, self._largest = settings.weight, points, largest[: self.shape[0]]
        self._squares = np.vecdot(points, points)
        self._longest = float(self._squares[self.shape[0] :].max(initial=0))
        self._encodings = encodings[: self.shape[0]]
        self._inverted = encodings[self.shape[0] :].T.tocsr()  # entry -> the gallery's photographs that have it

    def rows(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Distances `[last - first, gallery]` of some queries to the whole gallery, an array of the caller's own."""
        gallery, squares = self._points[self.shape[0] :], self._squares[self.shape[0] :]
        weights = (self._lambda / self._largest[first:last]).astype(np.float32)
        distances = np.empty((len(weights), self.shape[1]), np.float32)
        # (1 - lambda) + weight * (|q|^2 + |g|^2 - 2 q g), row by row, so that a row is fetched into the cache once.
        np.matmul(self._points[first:last] * (-2 * weights[:, None]), gallery.T, out=distances)
        for row, weight, square in zip(distances, weights, self._squares[first:last], strict=True):
            row += weight * squares + (weight * square + np.float32(1 - self._lambda))
        self._subtract_overlaps(distances, first)
        return distances

    def exact(self, row: int, columns: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Distances of one query to some gallery images in float64, the same whichever columns are asked for."""
        overlaps = np.zeros((1, self.shape[1]))
        self._subtract_overlaps(overlaps, row)
        columns = np.asarray(columns)
        original = squared_distances(self._points, np.full(len(columns), row), self.shape[0] + columns)
        return (1 - self._lambda) + overlaps[0, columns] + self._lambda * original / self._largest[row]

    def window(
        self, row: int, values: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Twice the rounding error of `rows` to both sides of `values`; the Jaccard part of `rows` is rounded once."""
        lengths = np.sqrt(self._squares[row], dtype=np.float64), np.sqrt(self._longest)
        products = 2 * product_error(self._points.shape[1]) * lengths[0] * lengths[1]
        error = self._lambda / self._largest[row] * (products + 16 * UNIT * sum(lengths) ** 2) + 8 * UNIT
        return values - np.float32(2 * error), values + np.float32(2 * error)

    def _subtract_overlaps(self, distances: npt.NDArray[np.floating], first: int) -> None:
        """Subtracts (1 - lambda) * m / (2 - m), in place; only where encodings share an entry, m is not 0."""
        encodings = self._encodings[first : first + len(distances)]
        lengths = np.diff(self._inverted.indptr)[encodings.indices]
        if len(distances) > 1 and lengths.sum() > _PAIRS:
            half = len(distances) // 2
            self._subtract_overlaps(distances[:half], first)
            self._subtract_overlaps(distances[half:], first + half)
            return
        sharing = self._inverted[encodings.indices]  # a row for each entry of each query
        rows = np.repeat(np.repeat(np.arange(len(distances)), np.diff(encodings.indptr)), lengths)
        places = rows * distances.shape[1] + sharing.indices
        # Entries are added in the order of the query's, so that a sum does not depend on the other rows.
        sums = np.bincount(places, np.minimum(sharing.data, np.repeat(encodings.data, lengths)))[places]
        flat = distances.reshape(-1)
        flat[places] = flat[places] - (1 - self._lambda) * sums / (2 - sums)  # a place may come several times


def _centred(query: npt.NDArray[np.floating], gallery: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """Queries and gallery as one array, less their mean: distances stay, and float32 products lose fewer digits."""
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise UserError(
            f"Expected query and gallery features [images, D] of the same width, got arrays of shape {query.shape} and "
            f"{gallery.shape}. Extract both with the same network."
        )
    with np.errstate(over="ignore", invalid="ignore"):  # told below
        points = np.concatenate([query, gallery], dtype=np.float32, casting="same_kind")
        points -= points.mean(0, dtype=np.float64).astype(np.float32) if len(points) else 0
        longest = float(np.vecdot(points, points).max(initial=0))
    if not (longest == 0 or _SMALLEST <= longest <= _LARGEST):
        raise UserError(
            f"Expected finite features, the largest distance from their mean {_SMALLEST**0.5:g} to {_LARGEST**0.5:g}, "
            f"got {longest**0.5:g}. The network has diverged, or the file is damaged."
        )
    return points


def _encodings(
    points: npt.NDArray[np.float32], neighbours: npt.NDArray[np.int32], largest: npt.NDArray, k1: int, k2: int
) -> sparse.csr_array:
    """Encodings V `[points, points]`, rows that sum to 1.

    Gaussian weights exp(-d) of the expanded sets (section 3.3), averaged over k2 neighbours (section 3.4).
    """
    sets = _expanded_sets(neighbours, k1)
    rows = np.repeat(np.arange(len(points)), np.diff(sets.indptr))
    weights = np.exp(-squared_distances(points, rows, sets.indices) / largest[rows])
    weights /= np.bincount(rows, weights, minlength=len(points))[rows]
    encodings = sparse.csr_array((weights, sets.indices, sets.indptr), sets.shape)
    return _lists(neighbours[:, :k2], np.float64) @ encodings / k2


def _expanded_sets(neighbours: npt.NDArray[np.int32], k1: int) -> sparse.csr_array:
    """The expanded k-reciprocal sets R*(p, k1) of section 3.2, as the places of the entries.

    To R(p, k1) are added the half sets of those of its members whose half sets have more than 2/3 of their members in
    R(p, k1), as it was before anything is added (the paper says at least 2/3, its code more than 2/3).
    """
    reciprocal = _reciprocal(neighbours[:, : k1 + 1])
    half = _reciprocal(neighbours[:, : int(np.around(k1 / 2)) + 1])
    # Both are symmetric: the entry (p, c) of their product counts what R(p, k1) and the half set of c share.
    shared = (reciprocal @ half).multiply(reciprocal).tocsr()
    shared.data = (shared.data > 2 / 3 * np.diff(half.indptr)[shared.indices]).astype(np.int32)
    shared.eliminate_zeros()
    return (reciprocal + shared @ half).tocsr()


def _reciprocal(neighbours: npt.NDArray[np.int32]) -> sparse.csr_array:
    """R(p, k) of section 3.2, as rows of ones: those of p's neighbours that have p among theirs."""
    lists = _lists(neighbours, np.int32)
    return lists.multiply(lists.T.tocsr()).tocsr()


def _lists(neighbours: npt.NDArray[np.int32], dtype: npt.DTypeLike) -> sparse.csr_array:
    count, width = neighbours.shape
    ends = np.arange(0, count * width + 1, width)
    lists = sparse.csr_array((np.ones(count * width, dtype), neighbours.ravel(), ends), (count, count))
    lists.sort_indices()
    return lists
