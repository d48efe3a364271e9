"""Verification: at which distance are two photographs taken to show the same person?

A pair is accepted if its distance is at most the threshold, so pairs at one distance are accepted or refused together.
The false-positive rate (FPR) is the share of pairs of different people that are accepted, the true-positive rate (TPR)
that of pairs of one person. For an FPR the threshold is the largest float32 number with which no larger share of the
pairs of different people is accepted: just below the first of them that must be refused.
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kdas_tf import files
from kdas_tf.errors import UserError
from kdas_tf.files import write_json

FPRS = (1e-2, 1e-3, 1e-4)
"""False-positive rates at which people compare the true-positive rate."""

_FORMAT = 1
_SAMPLE = 1 << 18  # pairs of different people that the curve above max_fpr is drawn from
_POINTS_PER_DECADE = 20
_ALL = float(np.finfo(np.float32).max)  # a threshold that accepts every pair


class Point(NamedTuple):
    """One threshold, and what it does.

    Attributes:
        asked: the false-positive rate that must not be exceeded.
        threshold: accept a pair if its distance is at most this.
        fpr: share of the pairs of different people that are accepted.
        tpr: share of the pairs of one person that are accepted.
    """

    asked: float
    threshold: float
    fpr: float
    tpr: float


@dataclasses.dataclass(frozen=True, eq=False)
class VerificationResult:
    """Thresholds and the ROC curve.

    Attributes:
        distance: what is compared with the threshold, such as "cosine".
        same: number of pairs of one person.
        different: number of pairs of different people.
        max_fpr: up to here the curve is exact; above it is estimated from an even sample of the pairs.
        points: at `FPRS`, as far as they are at most `max_fpr`.
        curve: for plots, ascending; rates asked for are evenly spaced by their logarithm.
    """

    distance: str
    same: int
    different: int
    max_fpr: float
    points: tuple[Point, ...]
    curve: tuple[Point, ...]
    _negatives: npt.NDArray[np.float32] | None = None

    def threshold_at(self, fpr: float) -> float:
        """The threshold for a false-positive rate from 0 to `max_fpr`.

        Exact as long as the result was not read from a file. A file holds `points` and `curve` alone; with them it is
        the largest threshold among these that does not exceed the rate.

        Raises:
            UserError: the rate is out of range.
        """
        if not 0 <= fpr <= self.max_fpr:
            raise UserError(
                f"Expected a false-positive rate from 0 to {self.max_fpr:g}, which is as far as distances were kept, "
                f"got {fpr:g}. Ask for a smaller one, or evaluate again with a larger max_fpr."
            )
        if self._negatives is not None:
            return _threshold(self._negatives, fpr, self.different)
        return max(point.threshold for point in (*self.points, *self.curve) if point.fpr <= fpr)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the result as JSON, atomically."""
        content = {
            "format": _FORMAT,
            "distance": self.distance,
            "accept": "distance <= threshold",
            "pairs_of_one_person": self.same,
            "pairs_of_different_people": self.different,
            "max_fpr": self.max_fpr,
            "points": [point._asdict() for point in self.points],
            "curve": {name: [getattr(point, name) for point in self.curve] for name in Point._fields},
        }
        write_json(path, content)


def load(path: str | os.PathLike) -> VerificationResult:
    """Reads what `VerificationResult.save` wrote.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        content = files.read_json(Path(path))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}, expected {_FORMAT}")
        numbers = [[float(value) for value in content["curve"][name]] for name in Point._fields]
        if not numbers[0]:
            raise ValueError("the curve is empty")
        return VerificationResult(
            distance=str(content["distance"]),
            same=int(content["pairs_of_one_person"]),
            different=int(content["pairs_of_different_people"]),
            max_fpr=float(content["max_fpr"]),
            points=tuple(Point(*(float(point[name]) for name in Point._fields)) for point in content["points"]),
            curve=tuple(Point(*values) for values in zip(*numbers, strict=True)),
        )
    except files.DAMAGE as error:
        raise UserError(
            f"Expected thresholds in {path}, written by an evaluation with verification, but they cannot be read "
            f"({type(error).__name__}: {' '.join(str(error).split())}). Evaluate again."
        ) from error


class Verification:
    """Collects the distances of pairs, a query at a time.

    Kept are all pairs of one person, which are few, the nearest `max_fpr` of the pairs of different people, and an even
    sample of these: for 3,368 queries and 519,732 images 17 million numbers at the end, twice as many on the way.

    Args:
        max_fpr: largest false-positive rate whose threshold is exact, above 0 and at most 1.
        distance: what is measured, for the file.

    Raises:
        UserError: `max_fpr` is out of range.
    """

    def __init__(self, max_fpr: float = 1e-2, *, distance: str = "cosine"):
        if not 0 < max_fpr <= 1:
            raise UserError(f"Expected max_fpr above 0 and at most 1, got {max_fpr}.")
        self._max_fpr, self._distance = max_fpr, distance
        self.begin(0)

    def begin(self, different: int) -> None:
        """Forgets all pairs; `different` pairs of different people will come."""
        self._different = different
        self._keep = min(_allowed(self._max_fpr, different) + 1, different)
        self._stride = max(different // _SAMPLE, 1)
        self._nearest, self._count, self._cutoff = list[npt.NDArray[np.float32]](), 0, np.float32(np.inf)
        self._same, self._sample = list[npt.NDArray[np.float32]](), list[npt.NDArray[np.float32]]()

    def add(self, row: int, values: npt.NDArray[np.float32], wanted: npt.NDArray[np.intp]) -> None:
        """Takes one query's distances.

        Args:
            row: of the query.
            values: `[gallery]`, infinite for images that are left out; infinity is written where `wanted` is.
            wanted: the images of the query's person.
        """
        self._same.append(values[wanted])
        values[wanted] = np.inf
        sample = values[row % self._stride :: self._stride]
        self._sample.append(sample[sample < np.inf])
        nearest = values[values < self._cutoff]
        self._nearest.append(nearest)
        self._count += len(nearest)
        if self._count > 2 * self._keep:
            self._shrink()

    def _shrink(self) -> None:
        """Keeps the nearest pairs of different people; what is farther than these need not be looked at again."""
        nearest = np.concatenate(self._nearest)
        if len(nearest) > self._keep:
            nearest.partition(self._keep - 1)
            nearest = nearest[: self._keep].copy()
            self._cutoff = nearest[-1]
        self._nearest, self._count = [nearest], len(nearest)

    def result(self) -> VerificationResult:
        """Thresholds and the curve of all pairs so far.

        Raises:
            UserError: there are no pairs of one person, or none of different people.
        """
        same = np.sort(np.concatenate([*self._same, np.zeros(0, np.float32)]))
        if not len(same) or not self._different:
            raise UserError(
                f"Expected pairs of one person and pairs of different people for a threshold, got {len(same)} and "
                f"{self._different}. Evaluate with a gallery of several people, or set verification=None."
            )
        self._shrink()
        (negatives,) = self._nearest
        negatives.sort()

        def at(asked: float) -> Point:
            threshold = _threshold(negatives, asked, self._different)
            accepted = np.searchsorted(negatives, np.float32(threshold), "right")
            return _point(asked, threshold, accepted / self._different, same)

        decades = math.log10(self._different)
        rates = [0.0, *np.logspace(-decades, 0, math.ceil(decades * _POINTS_PER_DECADE) + 1).tolist()]
        curve = [at(rate) for rate in rates if rate <= self._max_fpr]
        curve += self._estimated([rate for rate in rates if rate > self._max_fpr], same)
        return VerificationResult(
            distance=self._distance,
            same=len(same),
            different=self._different,
            max_fpr=self._max_fpr,
            points=tuple(at(rate) for rate in FPRS if rate <= self._max_fpr),
            curve=tuple(curve),
            _negatives=negatives,
        )

    def _estimated(self, rates: Sequence[float], same: npt.NDArray[np.float32]) -> list[Point]:
        """Points of the curve above `max_fpr`, from what is farther in the sample than all pairs that are kept."""
        (negatives,) = self._nearest
        farther = np.sort(np.concatenate(self._sample))
        farther = farther[np.searchsorted(farther, negatives[-1], "right") :]
        share = len(negatives) / self._different
        points = []
        for asked in rates:
            place = max(int((asked - share) / max(1 - share, 1e-12) * len(farther) + 1e-9), 0)
            threshold, accepted = _ALL, 1.0
            if place < len(farther):
                threshold = float(np.nextafter(farther[place], np.float32(-np.inf)))
                accepted = np.searchsorted(farther, np.float32(threshold), "right") / len(farther)
            points.append(_point(asked, threshold, share + (1 - share) * accepted, same))
        return points


def _allowed(fpr: float, different: int) -> int:
    """How many pairs of different people may be accepted; the factor makes up for 0.29 * 100 = 28.999999999999996."""
    return math.floor(fpr * different * (1 + 1e-12))


def _threshold(negatives: npt.NDArray[np.float32], fpr: float, different: int) -> float:
    """The largest float32 number with which no more than the allowed ones of sorted `negatives` are accepted."""
    allowed = _allowed(fpr, different)
    return float(_ALL if allowed >= different else np.nextafter(negatives[allowed], np.float32(-np.inf)))


def _point(asked: float, threshold: float, fpr: float, same: npt.NDArray[np.float32]) -> Point:
    accepted = np.searchsorted(same, np.float32(threshold), "right")
    return Point(asked, float(threshold), float(fpr), float(accepted / len(same)))
