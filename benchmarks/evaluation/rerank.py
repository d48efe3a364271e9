"""Times re-ranking with k-reciprocal encodings, and a plain numpy version of the same rules beside it.

Re-ranks unit features of 512 numbers, clustered as those of people are (20 photographs of a person on average, cosine
0.2 within a person and 0 between), with k1 20, k2 6 and lambda 0.3, and makes all distances of the queries, 256 rows at
a time. Sizes are QUERIESxGALLERY. At --plain the plain version runs too, with full matrices and loops; "difference" is
the largest of its distances to ours. "build s" is for neighbours, farthest distances and encodings. Importing the
libraries is counted, in time and in memory; "beyond GB" is without Python, numpy and the features.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks import harness

SIZES = ("3368x19732", "11659x82161")  # Market-1501, MSMT17
PLAIN = "1000x4000"
QUICK = "100x500"
COLUMNS = {
    "size": "",
    "": "",
    "s": ".2f",
    "CPU s": ".2f",
    "build s": ".2f",
    "peak GB": ".2f",
    "beyond GB": ".2f",
    "difference": ".1e",
}
WIDTH = 512  # numbers in a feature
PEOPLE = 20  # photographs of a person, on average; most have 12 to 30
SPREAD = 2.0  # of a person's photographs, over that of people: cosine 0.2 within a person, 0 between
ROWS = 256  # queries whose distances are made at a time


def make_features(count: int) -> Any:
    """Unit features `[count, 512]` around one random centre per person, in random order; made without large copies."""
    import numpy as np

    generator = np.random.default_rng(0)
    centres = generator.standard_normal((max(count // PEOPLE, 1), WIDTH), np.float32)
    features = np.empty((count, WIDTH), np.float32)
    for first in range(0, count, 1024):
        block = features[first : first + 1024]
        generator.standard_normal(dtype=np.float32, out=block)
        block *= SPREAD
        block += centres[generator.integers(0, len(centres), len(block))]
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return features


def plain(query: Any, gallery: Any, k1: int = 20, k2: int = 6, lambda_: float = 0.3) -> Any:
    """Re-ranked distances by the rules of Zhong et al. (2017), written plainly: full matrices and loops."""
    import numpy as np

    points = np.concatenate([query, gallery])
    squares = (points**2).sum(1)
    original = squares[:, None] + squares - 2 * points @ points.T
    original /= original.max(1, keepdims=True)
    order = np.argsort(original, axis=1)
    half = round(k1 / 2)

    def reciprocal(point: int, k: int) -> Any:
        near = order[point, : k + 1]
        return near[(order[near, : k + 1] == point).any(1)]

    weights = np.zeros_like(original)
    for point in range(len(points)):
        core = reciprocal(point, k1)
        members = set(core.tolist())
        for candidate in core:
            others = reciprocal(candidate, half)
            if np.isin(others, core).sum() > 2 / 3 * len(others):
                members.update(others.tolist())
        chosen = sorted(members)
        weights[point, chosen] = np.exp(-original[point, chosen])
        weights[point] /= weights[point].sum()
    weights = np.stack([weights[order[point, :k2]].mean(0) for point in range(len(points))])
    queries = len(query)
    distances = np.empty((queries, len(gallery)), np.float32)
    for row in range(queries):
        used = np.flatnonzero(weights[row])
        shared = np.minimum(weights[row, used], weights[queries:, used]).sum(1)
        distances[row] = (1 - lambda_) * (1 - shared / (2 - shared)) + lambda_ * original[row, queries:]
    return distances


def measure(size: str, kind: str, output: str | None, **_: Any) -> dict[str, float]:
    """One version at one size; it writes its distances to `output`, or compares them with those that are there."""
    import numpy as np

    queries, gallery = map(int, size.split("x"))
    features = make_features(queries + gallery)
    before = harness.peak_gb()
    began, began_cpu = time.perf_counter(), harness.cpu_seconds()
    if kind == "plain":
        blocks = iter([plain(features[:queries], features[queries:])])
    else:
        from kdas_tf.evaluation.rerank import RerankedDistances

        distances = RerankedDistances(features[:queries], features[queries:])
        blocks = (distances.rows(first, min(first + ROWS, queries)) for first in range(0, queries, ROWS))
    built = time.perf_counter()
    kept = [block if output else None for block in blocks]
    row = {"s": time.perf_counter() - began, "CPU s": harness.cpu_seconds() - began_cpu, "build s": built - began}
    row |= {"peak GB": harness.peak_gb(), "beyond GB": harness.peak_gb() - before}
    if output and kind == "plain":
        row["difference"] = float(abs(np.load(output) - np.concatenate(kept)).max())
    elif output:
        np.save(output, np.concatenate(kept))
    return row


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Ours at all sizes, the plain version at one."""
    plain_size = QUICK if arguments.quick else arguments.plain
    ours = {"": "ours", "kind": "ours"}
    compared = {"size": plain_size, "output": str(Path(arguments.folder, "distances.npy"))}
    rows: list[dict[str, Any]] = [{**compared, **ours}, {**compared, "": "plain numpy", "kind": "plain"}]
    sizes = () if arguments.quick else arguments.sizes
    return rows + [{"size": size, "output": None, **ours} for size in sizes if size != plain_size]


def options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's own arguments."""
    parser.add_argument("--plain", default=PLAIN, metavar="SIZE", help=f"of the plain version (default: {PLAIN})")


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options, sizes=SIZES)
