"""Times CMC, mAP, mINP and verification, and a plain numpy version with a full sort beside them.

    python benchmarks/evaluation.py [--cases Market-1501 ...] [--rounds 1] [--quick] [--plot FILE.png]

Prints a table, and the same as JSON on the last line.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import processes
from processes import cpu_seconds, peak_memory

WIDTH = 512  # numbers in a feature
BLOCK = 4096  # features made at a time
PRODUCT = 1 << 28  # bytes that the product alone makes at a time, as many as the evaluation
KINDS = {
    "product": "matrix product alone",
    "ranking": "CMC, mAP, mINP",
    "all": "all, with verification",
    "plain": "plain full sort",
}


class Case(NamedTuple):
    """Sizes of a data set; what of the gallery is neither junk nor shows a known person is distractors."""

    queries: int
    gallery: int
    people_images: int
    junk: int
    identities: int
    cameras: int


CASES = {
    "Market-1501": Case(3_368, 19_732, 13_115, 3_819, 750, 6),
    "MSMT17": Case(11_659, 82_161, 82_161, 0, 3_060, 15),
    "Market-1501+500k": Case(3_368, 519_732, 13_115, 3_819, 750, 6),
}
GROWTH = {
    "Market-1501/4": Case(3_368, 4_933, 3_279, 955, 188, 6),
    "Market-1501/2": Case(3_368, 9_866, 6_558, 1_910, 375, 6),
    "Market-1501+50k": Case(3_368, 69_732, 13_115, 3_819, 750, 6),
    "Market-1501+150k": Case(3_368, 169_732, 13_115, 3_819, 750, 6),
}
QUICK = {
    "Market-1501/64": Case(53, 308, 205, 60, 12, 6),
    "Market-1501/32": Case(53, 617, 410, 119, 23, 6),
    "MSMT17/64": Case(182, 1_284, 1_284, 0, 48, 15),
}
SORTED = ("Market-1501", "Market-1501/2", "Market-1501/4", *QUICK)  # where the plain version runs too
LIMITS = {"Market-1501": (2.5, 500), "MSMT17": (None, 1000), "Market-1501+500k": (None, 1000)}  # CPU seconds, MB


def make_split(count: int, identities: Any, case: Case, seed: int) -> tuple[Any, Any, Any]:
    """Random unit features `[count, 512]`, made without large copies, with the identities and random cameras."""
    import numpy as np

    generator = np.random.default_rng(seed)
    features = np.empty((count, WIDTH), np.float32)
    for first in range(0, count, BLOCK):
        block = features[first : first + BLOCK]
        generator.standard_normal(dtype=np.float32, out=block)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return features, generator.permutation(identities), generator.integers(1, case.cameras + 1, count)


def make_data(case: Case) -> tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]]:
    """Queries and gallery, each (features, identities, cameras)."""
    import numpy as np

    people = np.arange(case.people_images) % case.identities + 1
    others = np.zeros(case.gallery - case.people_images - case.junk, np.int64)
    gallery = np.concatenate([people, others, np.full(case.junk, -1)])
    query = np.arange(case.queries) % case.identities + 1
    return make_split(case.queries, query, case, 0), make_split(case.gallery, gallery, case, 1)


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
    numbers = {"mAP": result.mAP, "mINP": result.mINP, "rank1": result.rank1, "rank10": result.rank10}
    if verification:
        numbers |= {f"tpr_at_fpr_{point.asked:g}": point.tpr for point in verification.result().points}
    return numbers


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


def measure(kind: str, case: Case) -> dict[str, float]:
    """Runs one kind in this process: CPU seconds of all threads, seconds on the clock, and bytes beyond the features.

    Imports are not counted, in time or in memory.
    """
    import kdas_tf.evaluation.ranking  # noqa: F401 - so that it is loaded before the clock starts

    query, gallery = make_data(case)
    before = peak_memory()
    began, began_cpu = time.perf_counter(), cpu_seconds()
    if kind == "product":
        numbers = product(query, gallery)
    else:
        numbers = plain(query, gallery) if kind == "plain" else ours(query, gallery, kind == "all")
    return {
        "cpu": cpu_seconds() - began_cpu,
        "wall": time.perf_counter() - began,
        "beyond": peak_memory() - before,
        "features": query[0].nbytes + gallery[0].nbytes,
        **{name: float(value) for name, value in numbers.items()},
    }


def run(kind: str, name: str, rounds: int) -> dict[str, float]:
    """Measures in processes of their own, so that the peak memory is theirs; medians over the rounds.

    Raises:
        SystemExit: a process failed; its last lines are shown.
    """
    results = []
    for number in range(rounds):
        processes.progress(f"measuring {name}, {KINDS[kind]}, round {number + 1} of {rounds} ...")
        results.append(processes.measure(["--worker", kind, "--cases", name], f"{KINDS[kind]}, {name},"))
    return processes.medians(results)


def compare(name: str, case: Case, rounds: int) -> dict[str, Any]:
    """Measures all kinds for one case, and how far the plain version's numbers are from ours."""
    result: dict[str, Any] = {"case": name, **case._asdict()}
    for kind in KINDS:
        if kind != "plain" or name in SORTED:
            result[kind] = run(kind, name, rounds)
    if "plain" in result:
        shared = ("mAP", "mINP", "rank1", "rank10")
        result["largest_difference"] = max(abs(result["plain"][key] - result["all"][key]) for key in shared)
    else:
        # float32 distances and int64 places in the order.
        result["plain_not_measured"] = f"a full sort holds {12 * case.queries * case.gallery / 1e9:.1f} GB"
    return result


def print_table(results: list[dict[str, Any]]) -> None:
    """Prints what was measured, for people; memory in units of 10^6 bytes."""
    row = "{:<18} {:>6} {:>8}  {:<24} {:>8} {:>8} {:>11}"
    print(row.format("", "queries", "gallery", "", "CPU s", "wall s", "beyond MB").rstrip())
    for result in results:
        first = (result["case"], result["queries"], result["gallery"])
        for kind, label in KINDS.items():
            if kind in result:
                numbers = [f"{result[kind]['cpu']:.2f}", f"{result[kind]['wall']:.2f}"]
                print(row.format(*first, label, *numbers, f"{result[kind]['beyond'] / 1e6:.0f}"))
                first = ("", "", "")
        if "plain_not_measured" in result:
            print(
                row.format(*first, "plain full sort", "", "", "").rstrip()
                + f"  not measured: {result['plain_not_measured']}"
            )
        else:
            print(f"{'':<35} largest difference of their mAP, mINP and CMC: {result['largest_difference']:.0e}")


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draws time and memory against the gallery's size, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), dpi=150, layout="constrained")
    market = [result for result in results if not result["case"].startswith("MSMT17")]
    for axes, column, unit, label in zip(
        figure.subplots(1, 2),
        ("cpu", "beyond"),
        (1, 1e6),
        ("CPU seconds", "peak memory beyond the features, MB"),
        strict=True,
    ):
        for kind, style in (("plain", "s--"), ("all", "o-"), ("product", "^:")):
            points = [(each["gallery"], each[kind][column] / unit) for each in market if kind in each]
            if points and (kind != "product" or column == "cpu"):
                axes.plot(*zip(*points, strict=True), style, label=f"{KINDS[kind]}, {market[0]['queries']:,} queries")
        for each in results:
            if each not in market:
                title = f"{KINDS['all']}, {each['case']}, {each['queries']:,} queries"
                axes.plot(each["gallery"], each["all"][column] / unit, "*", color="C1", markersize=12, label=title)
        limits = [(each["gallery"], LIMITS.get(each["case"], (None, None))[column == "beyond"]) for each in results]
        limits = [(place, limit) for place, limit in limits if limit]
        if limits:
            axes.plot(*zip(*limits, strict=True), "_", color="black", markersize=18, label="must not be exceeded")
        axes.set(xscale="log", yscale="log", xlabel="gallery images", ylabel=label)
        axes.grid(True, which="major", alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Measures every case and prints the table and the JSON line."""
    every = CASES | GROWTH | QUICK
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=every, metavar="CASE", help=f"some of {', '.join(every)}")
    parser.add_argument("--rounds", type=int, default=1, help="processes for each number; medians are shown")
    parser.add_argument("--quick", action="store_true", help="only small cases: a few seconds")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also measure growth, and draw it")
    parser.add_argument("--worker", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("expected --rounds of at least 1")
    if arguments.worker:
        print(json.dumps(measure(arguments.worker, every[arguments.cases[0]])))
        return
    chosen = arguments.cases or (QUICK if arguments.quick else CASES | (GROWTH if arguments.plot else {}))
    names = sorted(chosen, key=lambda name: every[name].gallery)
    results = [compare(name, every[name], arguments.rounds) for name in names]
    print_table(results)
    if arguments.plot:
        draw(results, arguments.plot)
    processes.print_json("evaluation", results)


if __name__ == "__main__":
    main()
