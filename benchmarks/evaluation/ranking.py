"""Times CMC, mAP, mINP and verification, and a plain numpy version with a full sort beside them.

Judges random unit features of 512 numbers, with as many people, cameras, junk images and distractors as the data sets
have, from features to results. Random features are the hardest to count: the gallery is densest where the matches are.
Beside it run the matrix product alone and, up to Market-1501's size, a plain version of the same rules with all
distances and all of them sorted; "difference" is the largest of its mAP, mINP and CMC to ours. "beyond MB" is the
largest resident memory beyond Python, numpy and the features. CPU seconds hold those in which a thread of the product
waits for work.
"""

import argparse
import time
from typing import Any, NamedTuple

from benchmarks import harness

COLUMNS = {
    "queries x gallery": "",
    "": "",
    "CPU s": ".2f",
    "s": ".2f",
    "beyond MB": ".0f",
    "mAP %": ".2f",
    "difference": ".0e",
}
WIDTH = 512  # numbers in a feature
BLOCK = 4096  # features made at a time
PRODUCT = 1 << 28  # bytes that the product alone makes at a time, as many as the evaluation
KINDS = {
    "product": "matrix product alone",
    "ranking": "distances, CMC, mAP, mINP",
    "all": "and verification",
    "plain": "plain numpy with a full sort",
}
SHARED = ("mAP", "mINP", "rank1", "rank10")


class Sizes(NamedTuple):
    """Sizes of a data set; what of the gallery is neither junk nor shows a known person is distractors."""

    queries: int
    gallery: int
    people_images: int
    junk: int
    identities: int
    cameras: int


DATA_SETS = {
    "Market-1501": Sizes(3_368, 19_732, 13_115, 3_819, 750, 6),
    "MSMT17": Sizes(11_659, 82_161, 82_161, 0, 3_060, 15),
    "Market-1501 and 500,000 distractors": Sizes(3_368, 519_732, 13_115, 3_819, 750, 6),
}
QUICK = {"Market-1501 / 64": Sizes(53, 308, 205, 60, 12, 6), "MSMT17 / 64": Sizes(182, 1_284, 1_284, 0, 48, 15)}
SORTED = 70_000_000  # distances that the plain version may hold: Market-1501's


def make_split(count: int, identities: Any, cameras: int, seed: int) -> tuple[Any, Any, Any]:
    """Random unit features `[count, 512]`, made without large copies, with the identities and random cameras."""
    import numpy as np

    generator = np.random.default_rng(seed)
    features = np.empty((count, WIDTH), np.float32)
    for first in range(0, count, BLOCK):
        block = features[first : first + BLOCK]
        generator.standard_normal(dtype=np.float32, out=block)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return features, generator.permutation(identities), generator.integers(1, cameras + 1, count)


def make_data(sizes: Sizes) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """Queries and gallery, each (features, identities, cameras)."""
    import numpy as np

    people = np.arange(sizes.people_images) % sizes.identities + 1
    others = np.zeros(sizes.gallery - sizes.people_images - sizes.junk, np.int64)
    gallery = np.concatenate([people, others, np.full(sizes.junk, -1)])
    query = np.arange(sizes.queries) % sizes.identities + 1
    queries = make_split(sizes.queries, query, sizes.cameras, 0)
    return queries, make_split(sizes.gallery, gallery, sizes.cameras, 1)


def product(query: Any, gallery: Any) -> dict[str, float]:
    """The matrix product of all features, into one array again and again."""
    import numpy as np

    height = min(PRODUCT // (4 * len(gallery[0])), len(query[0]))
    block = np.empty((height, len(gallery[0])), np.float32)
    for first in range(0, len(query[0]), height):
        rows = query[0][first : first + height]
        np.matmul(rows, gallery[0].T, out=block[: len(rows)])
    return {}


def ours(query: Any, gallery: Any, with_verification: bool) -> dict[str, float]:
    """Everything from features to results by this project."""
    from kdas_tf.evaluation.distances import FeatureDistances
    from kdas_tf.evaluation.embeddings import Embeddings
    from kdas_tf.evaluation.ranking import evaluate
    from kdas_tf.evaluation.verification import Verification

    query, gallery = Embeddings(*query, "query"), Embeddings(*gallery, "gallery")
    verification = Verification() if with_verification else None
    distances = FeatureDistances(query.features, gallery.features)
    result = evaluate(distances, query, gallery, verification=verification)
    if verification:
        verification.result()
    return {name: getattr(result, name) for name in SHARED}


def plain(query: Any, gallery: Any) -> dict[str, float]:
    """The same rules in numpy as most people write them: all distances, all of them sorted, a loop over queries."""
    import numpy as np

    (features, identities, cameras), (others, other_identities, other_cameras) = query, gallery
    order = np.argsort(1 - features @ others.T, axis=1, kind="stable")
    precisions, penalties, curves = [], [], []
    for row, images in enumerate(order):
        same = other_identities[images] == identities[row]
        own = same & (other_cameras[images] == cameras[row])
        matches = same[~own & (other_identities[images] != -1)]
        if matches.any():
            ranks = np.flatnonzero(matches) + 1
            precisions.append((np.arange(1, len(ranks) + 1) / ranks).mean())
            penalties.append(len(ranks) / ranks[-1])
            curves.append(np.cumsum(matches[:50]) > 0)
    curve = np.mean(curves, axis=0)
    return {"mAP": np.mean(precisions), "mINP": np.mean(penalties), "rank1": curve[0], "rank10": curve[9]}


def measure(kind: str, sizes: list[int], **_: Any) -> dict[str, float]:
    """One kind, without its imports and without the making of features."""
    import kdas_tf.evaluation.ranking  # noqa: F401 - so that it is loaded before the clock starts

    query, gallery = make_data(Sizes(*sizes))
    before = harness.peak_gb()
    began, began_cpu = time.perf_counter(), harness.cpu_seconds()
    if kind == "product":
        numbers = product(query, gallery)
    else:
        numbers = plain(query, gallery) if kind == "plain" else ours(query, gallery, kind == "all")
    row = {"CPU s": harness.cpu_seconds() - began_cpu, "s": time.perf_counter() - began}
    row["beyond MB"] = 1e3 * (harness.peak_gb() - before)
    return row | {name: float(value) for name, value in numbers.items()}


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All kinds for every data set."""
    return [
        {
            "queries x gallery": f"{sizes.queries:,} x {sizes.gallery:,} ({name})",
            "": label,
            "kind": kind,
            "sizes": sizes,
        }
        for name, sizes in (QUICK if arguments.quick else DATA_SETS).items()
        for kind, label in KINDS.items()
        if kind != "plain" or sizes.queries * sizes.gallery < SORTED
    ]


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds mAP in percent, and how far the plain version's numbers are from ours."""
    found = {(row["sizes"], row["kind"]): row for row in rows if "mAP" in row}
    for (sizes, kind), row in found.items():
        row["mAP %"] = 100 * row["mAP"]
        mine = found.get((sizes, "all"))
        if kind == "plain" and mine:
            row["difference"] = max(abs(row[name] - mine[name]) for name in SHARED)
    return rows


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, derive=compared)
