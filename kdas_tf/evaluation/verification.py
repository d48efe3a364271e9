"""Verification: at which distance are two photographs taken to show the same person?

A pair is accepted if its distance is at most the threshold, so pairs at one distance are accepted or refused together.
The false-positive rate (FPR) is the share of pairs of different people that are accepted, the true-positive rate (TPR)
that of pairs of one person. For an FPR the threshold is the largest float32 number with which no larger share of the
pairs of different people is accepted: just below the first of them that must be refused.
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kdas_tf import files
from kdas_tf.errors import UserError

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


@dataclasses.dataclass(frozen=True)
class VerificationSettings:
    """What is measured of the pairs.

    Args:
        max_fpr: largest false-positive rate whose threshold is exact, above 0 and at most 1.
    """

    max_fpr: float = 1e-2

    def __post_init__(self):
        if not 0 < self.max_fpr <= 1:
            name = "verification.VerificationSettings.max_fpr"
            raise UserError(
                f"Expected {name} to be above 0 and at most 1, got {self.max_fpr}. Correct it.", code="range"
            )


@dataclasses.dataclass(frozen=True)
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

    def save(self, path: str | os.PathLike, *, conditions: Mapping[str, Any] | None = None) -> None:
        """Writes the result as JSON, atomically; `conditions` say how photographs were embedded, where it is known."""
        content = {
            "format": _FORMAT,
            "distance": self.distance,
            "accept": "distance <= threshold",
            "conditions": conditions,
            "pairs_of_one_person": self.same,
            "pairs_of_different_people": self.different,
            "max_fpr": self.max_fpr,
            "points": [point._asdict() for point in self.points],
            "curve": {name: [getattr(point, name) for point in self.curve] for name in Point._fields},
        }
        files.write_json(path, content)


class Verification:
    """Collects the distances of pairs, a query at a time.

    It keeps all pairs of one person, which are few, the nearest `max_fpr` of the pairs of different people, and an even
    sample of these: for 3,368 queries and 519,732 images 17 million numbers at the end, twice as many on the way.

    Args:
        settings: what is measured.
        distance: of the pairs, for the file.
    """

    def __init__(self, settings: VerificationSettings = VerificationSettings(), distance: str = "cosine"):
        self._max_fpr, self._distance = settings.max_fpr, distance
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
                f"{self._different}. Evaluate with a gallery of several people, or set "
                "evaluate.Judgement.verification=None."
            )
        self._shrink()
        (negatives,) = self._nearest
        negatives.sort()

        def at(asked: float) -> Point:
            """The largest threshold with which no more than the allowed negatives are accepted."""
            allowed = _allowed(asked, self._different)
            threshold = _ALL if allowed >= self._different else _below(negatives[allowed])
            return _point(asked, threshold, _accepted(negatives, threshold) / self._different, same)

        sample = np.sort(np.concatenate(self._sample))

        def estimated(asked: float) -> Point:
            place = math.floor(asked * len(sample))
            threshold = _ALL if place >= len(sample) else _below(sample[place])
            return _point(asked, threshold, _accepted(sample, threshold) / len(sample), same)

        decades = math.log10(self._different)
        rates = [0.0, *np.logspace(-decades, 0, math.ceil(decades * _POINTS_PER_DECADE) + 1).tolist()]
        curve = [at(rate) for rate in rates if rate <= self._max_fpr]
        # Where both meet, the estimate may be lower than what is exact.
        above = [estimated(rate) for rate in rates if rate > self._max_fpr]
        curve += [
            point for point in above if min(point.threshold - curve[-1].threshold, point.fpr - curve[-1].fpr) >= 0
        ]
        return VerificationResult(
            distance=self._distance,
            same=len(same),
            different=self._different,
            max_fpr=self._max_fpr,
            points=tuple(at(rate) for rate in FPRS if rate <= self._max_fpr),
            curve=tuple(curve),
        )


def _allowed(fpr: float, different: int) -> int:
    """How many pairs of different people may be accepted; the factor makes up for 0.29 * 100 = 28.999999999999996."""
    return math.floor(fpr * different * (1 + 1e-12))


def _below(distance: np.float32) -> float:
    """The next smaller float32 number: the largest threshold that refuses this distance."""
    return float(np.nextafter(distance, np.float32(-np.inf)))


def _accepted(distances: npt.NDArray[np.float32], threshold: float) -> int:
    """How many of ascending distances are at most the threshold."""
    return int(np.searchsorted(distances, np.float32(threshold), "right"))


def _point(asked: float, threshold: float, fpr: float, same: npt.NDArray[np.float32]) -> Point:
    return Point(asked, threshold, fpr, _accepted(same, threshold) / len(same))
