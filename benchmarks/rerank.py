"""Times re-ranking with k-reciprocal encodings, and a plain numpy version of the same rules beside it.

    python benchmarks/rerank.py [--sizes 3368x19732 ...] [--plain 1000x4000] [--rounds 1] [--no_faiss] [--quick]
        [--plot FILE.png]

Prints a table, and the same as JSON on the last line. Sizes are QUERIESxGALLERY.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import processes
from processes import peak_memory

SIZES = ("3368x19732", "11659x82161")  # Market-1501, MSMT17
PLAIN = "1000x4000"
QUICK = ("100x500", "150x1000")
GROWTH = ("6000x40000",)  # beside the sizes above, for the plot
PLAIN_GROWTH = ("500x2000", "2000x8000")
WIDTH = 512  # numbers in a feature
PEOPLE = 20  # photographs of a person, on average; most have 12 to 30
SPREAD = 2.0  # of a person's photographs, over that of people: cosine 0.2 within a person, 0 between
ROWS = 256  # queries whose distances are made at a time
COLUMNS = ("wall", "cpu", "build", "rows", "peak", "beyond")


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


def measure(kind: str, size: str, no_faiss: bool, output: Path | None) -> dict[str, float]:
    """Re-ranks features in this process: seconds, and peak memory in bytes, in all and beyond numpy and the features.

    What importing the package and its libraries takes is counted, in time and in memory.
    """
    queries, gallery = map(int, size.split("x"))
    features = make_features(queries + gallery)
    before = peak_memory()
    began, began_cpu = time.perf_counter(), time.process_time()
    if kind == "plain":
        blocks = iter([plain(features[:queries], features[queries:])])
    else:
        if no_faiss:
            sys.modules["faiss"] = None  # type: ignore[assignment]  # importing it fails, as where it is not installed
        from kdas_tf.evaluation.rerank import RerankedDistances

        distances = RerankedDistances(features[:queries], features[queries:])
        blocks = (distances.rows(first, min(first + ROWS, queries)) for first in range(0, queries, ROWS))
    built = time.perf_counter()
    total = 0.0
    with open(output or os.devnull, "wb") as file:
        for block in blocks:
            total += float(block.sum())
            if output:
                block.tofile(file)
    ended = time.perf_counter()
    return {
        "wall": ended - began,
        "cpu": time.process_time() - began_cpu,
        "build": built - began,
        "rows": ended - built,
        "peak": peak_memory(),
        "beyond": peak_memory() - before,
        "mean_distance": total / queries / gallery,
    }


def run(kind: str, size: str, arguments: argparse.Namespace, output: Path | None = None) -> dict[str, float]:
    """Measures in processes of their own, so that the peak memory is theirs; medians over the rounds.

    Raises:
        SystemExit: a process failed; its last lines are shown.
    """
    command = ["--worker", kind, "--sizes", size]
    command += ["--no_faiss"] * arguments.no_faiss + (["--output", str(output)] if output else [])
    rounds = []
    for number in range(arguments.rounds):
        processes.progress(f"measuring {kind} {size}, round {number + 1} of {arguments.rounds} ...")
        rounds.append(processes.measure(command, f"{kind} at size {size}"))
    return processes.medians(rounds)


def compare(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures ours and the plain version at one size, and the largest difference of their distances."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder, "ours"), Path(folder, "plain")
        result = {"size": size, "ours": run("ours", size, arguments, files[0])}
        result["plain"] = run("plain", size, arguments, files[1])
        import numpy as np

        ours, others = (np.fromfile(file, np.float32) for file in files)
        return result | {"largest_difference": float(abs(ours - others).max())}


def print_table(results: list[dict[str, Any]], name: str) -> None:
    """Prints what was measured, for people; memory in units of 10^9 bytes."""
    row = "{:<13} {:<6}" + " {:>9}" * len(COLUMNS)
    print(row.format("size", "", *(f"{c} {'GB' if c in ('peak', 'beyond') else 's'}" for c in COLUMNS)))
    for result in results:
        for kind in ("ours", "plain"):
            if kind in result:
                numbers = [result[kind][c] / (1e9 if c in ("peak", "beyond") else 1) for c in COLUMNS]
                label = name if kind == "ours" else kind
                print(row.format(result["size"], label, *(f"{number:.2f}" for number in numbers)))
        if "largest_difference" in result:
            print(f"{'':<20} largest difference of distances: {result['largest_difference']:.1e}")


def draw(results: list[dict[str, Any]], name: str, path: Path) -> None:
    """Draws time and memory against the number of photographs, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=150, layout="constrained")
    for axes, column, unit, label in zip(
        figure.subplots(1, 2), ("wall", "beyond"), (1, 1e9), ("seconds", "GB beyond the features"), strict=True
    ):
        for kind, title, style in (("ours", f"sparse ({name})", "o-"), ("plain", "plain numpy", "s--")):
            measured = [(points(result), result[kind][column] / unit) for result in results if kind in result]
            axes.plot(*zip(*measured, strict=True), style, label=title)
        axes.set(xscale="log", yscale="log", xlabel="photographs, queries and gallery", ylabel=label)
        axes.grid(True, which="major", alpha=0.3)
        axes.legend()
    figure.savefig(path)


def points(result: dict[str, Any]) -> int:
    """Queries and gallery images together."""
    return sum(map(int, result["size"].split("x")))


def parse_size(text: str) -> str:
    """Checks a size as it is on the command line."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text):
        raise argparse.ArgumentTypeError(f'expected QUERIESxGALLERY, such as 3368x19732, got "{text}"')
    return text


def main() -> None:
    """Measures every size and prints the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES, metavar="QUERIESxGALLERY")
    parser.add_argument("--plain", type=parse_size, default=PLAIN, help="size at which the plain version runs too")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each kind at each size; medians are shown")
    parser.add_argument("--no_faiss", action="store_true", help="search with keras.ops, as where faiss is missing")
    parser.add_argument("--quick", action="store_true", help=f"only {' and '.join(QUICK)}: a few seconds")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also measure growth, and draw it")
    parser.add_argument("--worker", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("expected --rounds of at least 1")
    if arguments.worker:
        print(json.dumps(measure(arguments.worker, arguments.sizes[0], arguments.no_faiss, arguments.output)))
        return
    sizes, plain_sizes = (list(arguments.sizes), [arguments.plain])
    if arguments.plot:
        sizes, plain_sizes = [*sizes, *GROWTH], [*plain_sizes, *PLAIN_GROWTH]
    if arguments.quick:
        sizes, plain_sizes = [], list(QUICK)
    results = [{"size": size, "ours": run("ours", size, arguments)} for size in sizes if size not in plain_sizes]
    results = sorted(results + [compare(size, arguments) for size in plain_sizes], key=points)
    name = "keras" if arguments.no_faiss else "faiss"
    print_table(results, name)
    if arguments.plot:
        draw(results, name, arguments.plot)
    processes.print_json("rerank", results, search=name)


if __name__ == "__main__":
    main()
