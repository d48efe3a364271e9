"""Times inference of students in every runtime, and ResNet-50 and OSNet x1.0 through ONNX Runtime beside them.

Students of C = 64 with eight cells have Auto-ReID's genotype and a searched one: searched_genotype.json is what
gin/search.gin found with seed 0. The baselines are ONNX graphs as an export from PyTorch gives them (onnx_peers.py).
Weights are random, statistics of normalisations are those of the images. Photographs are rendered people, or the first
of --photographs. They are decoded and have the network's size, HEIGHTxWIDTH, before the clock starts; the students
centre them, the others get them centred.

"images/s" is that of the median time of a batch; CPU ms are those of both cores for an image. Keras predict is
predict_on_batch, which also computes the logits; LiteRT takes one image at a time, whatever the batch. "difference" is
the largest to the Keras network's embeddings, all of length 1; for int8 it says little, since the weights are random.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.inference.networks import PEERS, STUDENTS, folder_of, prepare
from benchmarks.inference.runtimes import EXPECTED, IMAGES, PEER, RUNTIMES, as_pixels, runtime_of

SIZES = ("384x128", "256x128")
QUICK = ("64x32",)
BATCHES = (1, 16)
SEARCHED = Path(__file__).with_name("searched_genotype.json")
NUMBERS = {"images/s": ".1f", "CPU ms": ".1f", "p50 ms": ".1f", "p95 ms": ".1f"}
COLUMNS = {
    "size": "",
    "": "",
    **{f"batch {batch}: {name}": form for batch in BATCHES for name, form in NUMBERS.items()},
    "difference": ".1e",
}


def measure(**case: Any) -> dict[str, float]:
    """One network in one runtime at one size; or the files of the network."""
    import numpy as np

    from kdas_tf.errors import UserError

    folder = folder_of(case)
    if case["runtime"] == "prepare":
        prepare(case, folder)
        return {}
    if not folder.exists():
        harness.worker(**{**case, "runtime": "prepare"})
    runtime = runtime_of(case["runtime"])
    missing = folder / f"{case['runtime']}.missing"
    if missing.exists():
        raise harness.NotMeasured(missing.read_text())
    images = np.load(folder / IMAGES)
    try:
        embed = runtime.open(folder)
    except (ImportError, UserError) as error:
        raise harness.NotMeasured(str(error)) from error
    row = _difference(embed(as_pixels(images, runtime.pixels)), folder)
    for batch in BATCHES:
        pixels = as_pixels(np.resize(images, (batch, *images.shape[1:])), runtime.pixels)
        times, cpu = _times(lambda pixels=pixels: embed(pixels), case["seconds"])
        p50, p95 = statistics.median(times), float(np.quantile(times, 0.95))
        numbers = batch / p50, 1e3 * cpu / len(times) / batch, 1e3 * p50, 1e3 * p95
        row |= {f"batch {batch}: {name}": number for name, number in zip(NUMBERS, numbers, strict=True)}
    return row


def _times(work: Any, seconds: float) -> tuple[list[float], float]:
    """Seconds of each run, five at least, and the CPU seconds of all; two runs before are not counted."""
    for _ in range(2):
        work()
    times: list[float] = []
    began, began_cpu = time.perf_counter(), harness.cpu_seconds()
    while len(times) < 5 or time.perf_counter() - began < seconds:
        times.append(harness.timed(work)[0])
    return times, harness.cpu_seconds() - began_cpu


def _difference(embeddings: Any, folder: Path) -> dict[str, float]:
    """Largest difference to the Keras network's embeddings, all of length 1; nothing where there is no such network."""
    import numpy as np

    if not np.isfinite(embeddings).all():
        raise SystemExit("the embeddings are not finite")
    if not (folder / EXPECTED).exists():
        return {}
    expected, found = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (np.load(folder / EXPECTED).astype(np.float64), np.asarray(embeddings, np.float64))
    )
    return {"difference": float(abs(expected - found).max())}


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All networks in all their runtimes at every size."""
    students, peers = (STUDENTS[:1], PEERS[1:]) if arguments.quick else (STUDENTS, PEERS)
    rows = [(network, runtime) for network in students for runtime in RUNTIMES]
    rows += [(network, runtime) for network in peers for runtime in PEER]
    common = {"genotype": str(arguments.genotype), "quick": arguments.quick, "folder": arguments.folder}
    common |= {"photographs": arguments.photographs, "seconds": 0.2 if arguments.quick else 2.0}
    return [
        {"size": size, "": f"{network}: {runtime_of(runtime).label}", "network": network, "runtime": runtime, **common}
        for size in (QUICK if arguments.quick else arguments.sizes)
        for network, runtime in rows
    ]


def beside_others(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds rows that say how many times as fast as Keras predict and ResNet-50 each student's best runtime is."""
    speeds = [f"batch {batch}: images/s" for batch in BATCHES]
    measured = [row for row in rows if speeds[0] in row]
    ratios = []
    for size in dict.fromkeys(row["size"] for row in measured):
        own = [row for row in measured if row["size"] == size]
        resnet = [row for row in own if row["network"] == PEERS[0]]
        for student in STUDENTS:
            mine = [row for row in own if row["network"] == student]
            for others in ([row for row in mine if row["runtime"] == "keras"], resnet):
                if mine and others:
                    best = max(mine, key=lambda row: row[speeds[0]])
                    ratio = {speed: best[speed] / others[0][speed] for speed in speeds}
                    ratios.append({"size": size, "": f"{best['']} / {others[0]['']}", **ratio})
    return rows + ratios


def options(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say of what networks are made."""
    parser.add_argument("--genotype", type=Path, default=SEARCHED, metavar="FILE", help="that of the searched one")
    parser.add_argument("--photographs", metavar="FOLDER", help="images (default: rendered people)")


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options, sizes=SIZES, derive=beside_others, rounds=3)
