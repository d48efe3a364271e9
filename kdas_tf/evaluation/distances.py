"""Distances of queries to a gallery, made a few rows at a time so that memory stays bounded."""

from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError

Metric = Literal["cosine", "euclidean"]

_BLOCK = 4096  # photographs that are converted at a time
UNIT = 2.0**-24  # unit roundoff u of float32
_NOISE = 1e-12  # 1 - cosine in float64 of features that differ by their lengths only
_SMALLEST, _LARGEST = 1e-15, 1e15  # lengths whose squares are safe in float32


class Distances(Protocol):
    """What ranks a gallery: plain distances of features, or re-ranked ones."""

    @property
    def shape(self) -> tuple[int, int]:
        """(queries, gallery images)."""

    def rows(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Distances of the queries `first` .. `last` - 1 to the whole gallery, as an array that is the caller's own."""

    def exact(self, row: int, columns: npt.NDArray[np.intp]) -> npt.NDArray[np.floating]:
        """Distances of one query to some gallery images, the same whichever rows and columns are asked for together.

        Rows of float32 products depend on their last digits on how the product is cut; this settles their order.
        """

    def window(
        self, row: int, values: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Between which values of `rows` the order of one query's distances must be settled by `exact`.

        Returns:
            For each of `values` the lower and the upper end: what lies below is nearer than any image at that value
            also by `exact`, what lies above is farther. Where `rows` never depends on how it is cut and rounds
            `exact`, both ends are `values` themselves.
        """


class FeatureDistances:
    """Distances of features: 1 - cosine (0 to 2), or Euclidean.

    `rows` are float32 matrix products; only the block of queries that is asked for is copied, never the gallery if it
    is float32. `exact` are float64 sums over one pair at a time, rounded to float32: equal features are at equal
    distances, and distances that differ by less than float32 can tell are equal.

    Args:
        query: `[queries, D]`, finite floating-point numbers; may be memory-mapped.
        gallery: `[gallery, D]`.
        metric: "cosine", which ignores lengths (a feature of zeros is at distance 1 from all), or "euclidean".

    Raises:
        UserError: the metric is unknown, the widths differ, or a feature is too long for float32.
    """

    def __init__(self, query: npt.NDArray, gallery: npt.NDArray, metric: Metric = "cosine"):
        check_metric(metric)
        if query.shape[1] != gallery.shape[1]:
            raise UserError(
                f"Expected query and gallery features of the same width, got {query.shape[1]} and {gallery.shape[1]}. "
                "Extract both with the same network."
            )
        self.query, self.gallery, self.metric = np.asarray(query), np.asarray(gallery), metric
        self._query_lengths, self._gallery_lengths = _lengths(self.query, "query"), _lengths(self.gallery, "gallery")
        self._longest = float(self._gallery_lengths.max(initial=0))
        if metric == "cosine":
            for lengths in (self._query_lengths, self._gallery_lengths):
                lengths[lengths == 0] = 1  # the products are 0, so the distance is 1
        terms = 1 / self._gallery_lengths if metric == "cosine" else self._gallery_lengths**2
        self._gallery_terms = terms.astype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """(queries, gallery images)."""
        return len(self.query), len(self.gallery)

    def rows(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Distances `[last - first, gallery]` of some queries to the whole gallery."""
        lengths = self._query_lengths[first:last, None]
        scale = -1 / lengths if self.metric == "cosine" else -2.0
        query = (self.query[first:last].astype(np.float64) * scale).astype(np.float32)  # float16 holds no 2 * 40,000
        distances = np.empty((len(query), len(self.gallery)), np.float32)
        if self.gallery.dtype == np.float32:
            np.matmul(query, self.gallery.T, out=distances)
        else:
            for start in range(0, len(self.gallery), _BLOCK):
                block = self.gallery[start : start + _BLOCK].astype(np.float32)
                distances[:, start : start + _BLOCK] = query @ block.T
        # Row by row, so that a row is fetched into the cache once for all of it.
        for row, length in zip(distances, lengths[:, 0], strict=True):
            if self.metric == "cosine":
                row *= self._gallery_terms
                row += 1
                np.maximum(row, 0, out=row)
            else:
                row += self._gallery_terms
                row += np.float32(length**2)
                np.maximum(row, 0, out=row)
                np.sqrt(row, out=row)
        return distances

    def exact(self, row: int, columns: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Distances `[columns]` of one query to some gallery images: float64 sums over one pair, rounded to float32."""
        query = self.query[row].astype(np.float64)
        distances = np.empty(len(columns), np.float32)
        for start in range(0, len(columns), _BLOCK):
            part = columns[start : start + _BLOCK]
            features = self.gallery.take(part, axis=0).astype(np.float64)
            if self.metric == "cosine":
                lengths = self._query_lengths[row] * self._gallery_lengths[part]
                some = 1 - np.vecdot(features, query) / lengths
                some[some < _NOISE] = 0
            else:
                features -= query
                some = np.sqrt(np.vecdot(features, features))
            distances[start : start + _BLOCK] = some
        return distances

    def window(
        self, row: int, values: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Twice the rounding error of `rows` to both sides of `values`."""
        product, others = product_error(self.query.shape[1]), 16 * UNIT
        if self.metric == "cosine":
            return values - np.float32(2 * (product + others)), values + np.float32(2 * (product + others))
        length = self._query_lengths[row]
        error = 2 * length * self._longest * product + (length + self._longest) ** 2 * others
        squares = values.astype(np.float64) ** 2
        tie_low = np.sqrt(np.maximum(squares - 2 * error, 0)).astype(np.float32)
        tie_high = np.sqrt(squares + 2 * error).astype(np.float32)
        return np.nextafter(tie_low, np.float32(0)), np.nextafter(tie_high, np.float32(np.inf))


def check_metric(metric: str) -> None:
    """Raises a `UserError` if there is no such metric."""
    if metric not in get_args(Metric):
        raise UserError(f"Expected metric to be one of {', '.join(get_args(Metric))}, got {metric!r}.", code="choice")


def product_error(width: int) -> float:
    """How wrong a float32 product of vectors of so many numbers may be, as a share of the product of their lengths.

    At most D u in any order of summation (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1),
    and less than 8 sqrt(D) u with a probability beyond 1 - 1e-10 (Higham and Mary 2019, "A new approach to
    probabilistic rounding error analysis").
    """
    return min(width, 8 * width**0.5) * UNIT


def _lengths(features: npt.NDArray, name: str) -> npt.NDArray[np.float64]:
    """Euclidean lengths `[images]`."""
    lengths = np.empty(len(features), np.float64)
    for first in range(0, len(features), _BLOCK):
        block = features[first : first + _BLOCK].astype(np.float64)
        lengths[first : first + _BLOCK] = np.sqrt(np.vecdot(block, block))
    bad = np.flatnonzero((lengths != 0) & ~((lengths >= _SMALLEST) & (lengths <= _LARGEST)))
    if len(bad):
        raise UserError(
            f"Expected {name} features of a length between {_SMALLEST:g} and {_LARGEST:g}, or of zeros, got length "
            f"{lengths[bad[0]]:g} in row {bad[0]} of {len(features)}. The network has diverged, or the file is damaged."
        )
    return lengths
