"""Ranking a gallery for every query: CMC, mAP and mINP."""

import dataclasses
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError
from kdas_tf.evaluation import ordering
from kdas_tf.evaluation.distances import Distances
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.matching import JUNK, Matching
from kdas_tf.evaluation.single_shot import SingleShot
from kdas_tf.evaluation.verification import Verification

MAX_RANK = 50
"""Length of the CMC curve."""

MEMORY = 1 << 28
"""Bytes of distances held at a time."""

AveragePrecision = Literal["step", "trapezoid"]
Unmatched = Literal["skip", "zero"]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What is counted how; the defaults are torchreid's and FastReID's.

    For each query, junk and the images of its identity from its own camera are left out of the gallery. Images at the
    same distance keep the gallery's order.

    Args:
        average_precision: "step": the mean of (i / rank of the i-th match). "trapezoid": the area below the lines
            between the points of precision and recall, as the MATLAB code of Market-1501 (compute_AP.m) has it; lower.
        unmatched: "skip" leaves out queries without a match and counts them; "zero" keeps them with AP, INP and CMC 0,
            as that code does.
        single_gallery_shot: CMC in galleries with one random image of each identity; mAP and mINP use all images.
        repeats: such galleries for each query.
        seed: of their draws.
    """

    average_precision: AveragePrecision = "step"
    unmatched: Unmatched = "skip"
    single_gallery_shot: bool = False
    repeats: int = 10
    seed: int = 0

    def __post_init__(self):
        for name, choices in (("average_precision", get_args(AveragePrecision)), ("unmatched", get_args(Unmatched))):
            if getattr(self, name) not in choices:
                raise UserError(
                    f"Expected {name} to be one of {', '.join(choices)}, got {getattr(self, name)!r}.", code="choice"
                )
        if self.repeats < 1 or self.seed < 0:
            raise UserError(f"Expected repeats >= 1 and seed >= 0, got {self.repeats} and {self.seed}.", code="range")

    def conventions(self) -> dict[str, str]:
        """How the numbers were made, in short texts, for tables and files of results."""
        shots = f"one random image of each identity, mean of {self.repeats} draws, seed {self.seed}"
        return {
            "left_out": "junk, and images of the query's person from its own camera",
            "average_precision": {"step": "step", "trapezoid": "trapezoid, as the MATLAB code of Market-1501"}[
                self.average_precision
            ],
            "unmatched_queries": {"skip": "left out and counted", "zero": "kept with 0"}[self.unmatched],
            "cmc": f"single gallery shot: {shots}" if self.single_gallery_shot else "all images of the gallery",
            "ties": "in the gallery's order",
        }


@dataclasses.dataclass(frozen=True, eq=False)
class RankingResult:
    """How well a gallery was ranked, as fractions from 0 to 1.

    Attributes:
        mAP: mean of the average precisions.
        mINP: mean of the inverse negative penalties.
        cmc: `[50]`, item k - 1 is the share of queries with a match among the first k.
        invalid_queries: queries without any match in the gallery.
        average_precisions: `[queries]`, NaN for a query without a match.
        inverse_negative_penalties: `[queries]`, number of matches / rank of the last match (Ye et al. 2021, "Deep
            Learning for Person Re-identification: A Survey and Outlook"); NaN for a query without a match.
        first_ranks: `[queries]`, rank of the first match among all images, from 1 on; 0 for a query without one.
        matches: `[queries]`, number of images that match.
    """

    mAP: float
    mINP: float
    cmc: npt.NDArray[np.float64]
    invalid_queries: int
    average_precisions: npt.NDArray[np.float64]
    inverse_negative_penalties: npt.NDArray[np.float64]
    first_ranks: npt.NDArray[np.int64]
    matches: npt.NDArray[np.int64]

    @property
    def rank1(self) -> float:
        """Share of queries whose nearest gallery image is a match."""
        return float(self.cmc[0])

    @property
    def rank5(self) -> float:
        """Share of queries with a match among the five nearest."""
        return float(self.cmc[4])

    @property
    def rank10(self) -> float:
        """Share of queries with a match among the ten nearest."""
        return float(self.cmc[9])


def evaluate(
    distances: Distances,
    query: Embeddings,
    gallery: Embeddings,
    *,
    rules: Rules = Rules(),
    verification: Verification | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    memory: int = MEMORY,
) -> RankingResult:
    """Judges the ranks of every query's matches, in one pass over blocks of rows of the distances.

    Args:
        distances: of `query` to `gallery`.
        query: identities from 0 on.
        gallery: identities from 0 on, or -1 for junk.
        rules: what is counted how.
        verification: is given the same pairs, if there is one.
        progress: called after every block with the queries done and all.
        memory: bytes of distances held at a time; the ranks do not depend on it.

    Raises:
        UserError: identities out of range, or no query has a match.
        ValueError: the distances are not those of `query` and `gallery`.
    """
    if distances.shape != (len(query), len(gallery)):
        raise ValueError(f"distances of shape {distances.shape} for {len(query)} queries, {len(gallery)} images")
    matching = Matching(query, gallery)
    shots = SingleShot(matching, rules.repeats, rules.seed) if rules.single_gallery_shot else None
    if verification is not None:
        verification.begin(matching.negatives)
    precisions, penalties = np.full((2, len(query)), np.nan)
    first_ranks = np.zeros(len(query), np.int64)
    hits = np.zeros(MAX_RANK)
    rows = max(memory // (4 * len(gallery)), 1)
    for start in range(0, len(query), rows):
        block = distances.rows(start, min(start + rows, len(query)))
        for row, values in enumerate(block, start):
            wanted, removed = matching[row]
            values[matching.junk] = values[removed] = np.inf
            if len(wanted):
                ranks = ordering.ranks(distances, row, values, wanted)
                precisions[row] = _average_precision(ranks, rules.average_precision)
                penalties[row] = len(ranks) / ranks[-1]
                first_ranks[row] = ranks[0]
                draws = ranks[:1] if shots is None else shots.ranks(distances, row, values)
                hits += (draws[:, None] <= np.arange(1, MAX_RANK + 1)).mean(axis=0)
            if verification is not None:
                verification.add(row, values, wanted)
        if progress is not None:
            progress(start + len(block), len(query))
        del block, values  # before the next block is made, so that only one is held
    valid = matching.counts > 0
    judged = int(valid.sum()) if rules.unmatched == "skip" else len(valid)
    return RankingResult(
        mAP=float(precisions[valid].sum() / judged),
        mINP=float(penalties[valid].sum() / judged),
        cmc=hits / judged,
        invalid_queries=int((~valid).sum()),
        average_precisions=precisions,
        inverse_negative_penalties=penalties,
        first_ranks=first_ranks,
        matches=matching.counts,
    )


def nearest(
    distances: Distances, row: int, query: Embeddings, gallery: Embeddings, count: int = 10
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """The first images of one query's gallery, for people to look at.

    Returns:
        Positions in the gallery, nearest first, without junk and without the query's person from its own camera; and
        which of them match. Fewer than `count` if the gallery has no more.
    """
    same = gallery.identities == query.identities[row]
    own = same & (gallery.cameras == query.cameras[row])
    kept = np.flatnonzero(~own & (gallery.identities != JUNK))
    first = kept[np.argsort(distances.exact(row, kept), kind="stable")[:count]]
    return first, same[first]


def _average_precision(ranks: npt.NDArray[np.int64], kind: AveragePrecision) -> float:
    """Average precision of matches at these ranks, ascending from 1 on."""
    hits = np.arange(1, len(ranks) + 1)
    precisions = hits / ranks
    if kind == "step":
        return float(precisions.mean())
    # The precision one rank earlier; 1 before the first rank.
    before = np.where(ranks > 1, (hits - 1) / np.maximum(ranks - 1, 1), 1.0)
    return float(((before + precisions) / 2).mean())
