"""Ranking a gallery for every query: CMC, mAP and mINP by the rules of Market-1501 as torchreid applies them."""

import dataclasses
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError

Metric = Literal["cosine", "euclidean"]

DISTRACTOR, JUNK = 0, -1
"""Identities of gallery images that match nobody, and of those that are left out (Market-1501)."""

MAX_RANK = 50
"""Length of the CMC curve."""

_GALLERY_BLOCK = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class RankingResult:
    """How well a gallery was ranked, as fractions from 0 to 1.

    Attributes:
        mAP: mean over queries of the average precision: of (i / rank of the i-th match), without interpolation.
        mINP: mean over queries of (number of matches / rank of the last match) (Ye et al., 2021).
        cmc: `[50]`, item k - 1 is the share of queries with a match among the first k.
        invalid_queries: queries without any match in the gallery; they are left out of the means.
    """

    mAP: float
    mINP: float
    cmc: npt.NDArray[np.float64]
    invalid_queries: int

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


def evaluate_ranking(
    query_features: npt.ArrayLike,
    query_identities: npt.ArrayLike,
    query_cameras: npt.ArrayLike,
    gallery_features: npt.ArrayLike,
    gallery_identities: npt.ArrayLike,
    gallery_cameras: npt.ArrayLike,
    *,
    metric: Metric = "cosine",
    chunk: int = 1 << 24,
) -> RankingResult:
    """Ranks the gallery by its distance to every query and judges the ranks of the matches.

    For each query, junk and the images of its identity from its own camera are removed from the gallery. Images at the
    same distance keep the gallery's order.

    Args:
        query_features: `[queries, D]`.
        query_identities: `[queries]`, integers from 1 on.
        query_cameras: `[queries]`, integers.
        gallery_features: `[gallery, D]`.
        gallery_identities: `[gallery]`, integers; 0 is a distractor and -1 junk.
        gallery_cameras: `[gallery]`, integers.
        metric: "cosine" or "euclidean".
        chunk: distances held at a time, which bounds the memory; the result does not depend on it.

    Raises:
        UserError: features that are not finite or differ in width, lengths that differ, or no query with a match.
    """
    if metric not in get_args(Metric) or chunk < 1:
        raise UserError(
            f"Expected metric to be one of {', '.join(get_args(Metric))} and chunk >= 1, got {metric!r} and {chunk}."
        )
    query, identities, cameras = _checked("query", query_features, query_identities, query_cameras)
    gallery, others, other_cameras = _checked("gallery", gallery_features, gallery_identities, gallery_cameras)
    if query.shape[1] != gallery.shape[1]:
        raise UserError(
            f"Expected query and gallery features of the same width, got {query.shape[1]} and {gallery.shape[1]}. "
            "Extract both with the same network."
        )
    if (identities <= DISTRACTOR).any():
        raise UserError(
            f"Expected query identities from 1 on, since 0 is a distractor and -1 junk, got {identities.min()}. "
            "Renumber the identities, or leave such queries out."
        )
    ranks = []
    rows = max(chunk // max(len(gallery), 1), 1)
    for first in range(0, len(query), rows):
        distances = _distances(query[first : first + rows], gallery, metric)
        for i, row in enumerate(distances, first):
            same = others == identities[i]
            row[(same & (other_cameras == cameras[i])) | (others == JUNK)] = np.inf
            ranks.append(_match_ranks(row, np.flatnonzero(same & (row < np.inf))))
    return _judge(ranks)


def _checked(name: str, features, identities, cameras) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    features, identities, cameras = np.asarray(features), np.asarray(identities), np.asarray(cameras)
    if features.ndim != 2 or not features.shape[1]:
        raise UserError(f"Expected {name} features [images, D], got an array of shape {features.shape}.")
    if identities.shape != (len(features),) or cameras.shape != (len(features),):
        raise UserError(
            f"Expected one identity and one camera for each of {len(features)} {name} features, "
            f"got {identities.shape} identities and {cameras.shape} cameras."
        )
    bad = np.flatnonzero(~np.isfinite(features).all(1))
    if len(bad):
        raise UserError(
            f"Expected finite {name} features, got NaN or infinity in {len(bad)} of {len(features)}, the first at "
            f"{bad[0]}. The network has diverged, or its file is damaged."
        )
    return features, identities, cameras


def _distances(query: npt.NDArray, gallery: npt.NDArray, metric: Metric) -> npt.NDArray[np.float32]:
    """Distances `[query, gallery]` up to a monotone function: 1 - cosine, or squared Euclidean.

    They are computed in float64 and rounded to float32, so that images with equal features tie however the matrix
    product is cut; the gallery comes in blocks, so that no float64 copy of it is made.
    """
    query = query.astype(np.float64)
    query_norms = (query**2).sum(1)[:, None]
    distances = np.empty((len(query), len(gallery)), np.float32)
    for first in range(0, len(gallery), _GALLERY_BLOCK):
        block = gallery[first : first + _GALLERY_BLOCK].astype(np.float64)
        block_norms, products = (block**2).sum(1), query @ block.T
        if metric == "cosine":
            found = 1 - products / np.maximum(np.sqrt(query_norms * block_norms), 1e-30)
            noise = 1e-12
        else:
            found = query_norms + block_norms - 2 * products
            noise = 1e-12 * (query_norms + block_norms)
        distances[:, first : first + _GALLERY_BLOCK] = np.where(found < noise, 0.0, found)
    return distances


def _match_ranks(row: npt.NDArray[np.float32], matches: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Ranks from 1 on, ascending, of the matches in one query's distances; what was removed is at infinity."""
    nearer = [np.count_nonzero(row < row[m]) + np.count_nonzero(row[:m] == row[m]) for m in matches]
    return np.sort(np.asarray(nearer, np.intp)) + 1


def _judge(ranks: list[npt.NDArray[np.intp]]) -> RankingResult:
    valid = [r for r in ranks if len(r)]
    if not valid:
        raise UserError(
            f"Expected queries with a match in the gallery from another camera, but none of {len(ranks)} has one. "
            "Check that query and gallery come from the same data set."
        )
    return RankingResult(
        mAP=float(np.mean([np.mean(np.arange(1, len(r) + 1) / r) for r in valid])),
        mINP=float(np.mean([len(r) / r[-1] for r in valid])),
        cmc=np.mean([r[0] <= np.arange(1, MAX_RANK + 1) for r in valid], axis=0),
        invalid_queries=len(ranks) - len(valid),
    )
