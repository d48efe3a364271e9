"""Times decoding and augmentation of JPEG files, beside a PyTorch DataLoader, and what steps lose to them.

    python benchmarks/input_pipeline.py [--sizes 384x128 64x32] [--batches 60] [--rounds 5]
        [--peer_python PYTHON] [--no_steps] [--quick]

Prints two tables, then the same as JSON on the last line. Sizes are HEIGHTxWIDTH in pixels, of what a network sees.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import input_steps
import processes
from inference import parse_size

SIZES = ("384x128", "64x32")
QUICK = ("32x16",)
IDENTITIES, IMAGES = 8, 4  # P x K
PHOTOGRAPH = (128, 64)  # Market-1501's
QUALITY = 95
ROWS = {
    "decode_tensorflow": "decode alone, tf.io.decode_jpeg",
    "decode_pillow": "decode alone, Pillow, two threads",
    "peer": "DataLoader, two workers",
    "files": "ours, from files",
    "kept": "ours, images kept in memory",
}


def padding_of(size: tuple[int, int]) -> int:
    """Pixels of padding before the crop, as gin/scale has them: 10 at 384x128, 2 at 64x32."""
    return max(1, round(size[0] / 38))


def render(folder: Path, identities: int) -> None:
    """Writes rendered people as JPEG files of the size of Market-1501's."""
    from kdas_tf.data.embedded import synthetic

    synthetic.write_dataset(
        folder, train_identities=identities, test_identities=2, image_size=PHOTOGRAPH, quality=QUALITY
    )


def work(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own does: renders, or measures a row or a step."""
    if arguments.worker == "render":
        render(arguments.folder, arguments.identities)
        return {}
    if arguments.worker in ROWS:
        height, width = map(int, arguments.sizes[0].split("x"))
        return measure(arguments.worker, arguments.folder, (height, width), arguments.batches)
    return input_steps.measure(arguments.worker, arguments.folder, arguments.rounds)


def measure(row: str, folder: Path, size: tuple[int, int], batches: int) -> dict[str, float]:
    """Times one row in this process: seconds and CPU seconds of a number of batches."""
    if row == "decode_pillow":
        return input_steps.timed(_pillow(folder, batches), batches)
    import tensorflow as tf

    from kdas_tf.data import market1501
    from kdas_tf.models.stem import normalize

    records = market1501.read(folder).train
    if row == "decode_tensorflow":
        paths = tf.constant([record.path for record in records])
        dataset = tf.data.Dataset.range(len(records)).repeat()
        dataset = dataset.map(lambda i: tf.size(tf.io.decode_jpeg(tf.io.read_file(paths[i]), 3)), tf.data.AUTOTUNE)
        return input_steps.timed(dataset.batch(IDENTITIES * IMAGES), batches)
    dataset = input_steps.real_batches(
        records, size, padding_of(size), (IDENTITIES, IMAGES), kept=row == "kept", epochs=10_000
    )
    # The networks normalise what they are given; the DataLoader's transforms do it, so it is counted here, too.
    dataset = dataset.map(lambda batch: normalize(batch["image"])).prefetch(1)
    warm = len(records) // (IDENTITIES * IMAGES) + 1 if row == "kept" else 3
    return input_steps.timed(dataset, batches, warm)


def _pillow(folder: Path, batches: int) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from PIL import Image

    def decode(path: Path) -> int:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB")).size

    files = sorted((folder / "bounding_box_train").glob("*.jpg"))
    images = IDENTITIES * IMAGES
    with ThreadPoolExecutor(processes.THREADS) as pool:
        for batch in range(batches + 3):
            yield list(pool.map(decode, (files[(batch * images + i) % len(files)] for i in range(images))))


def compare(size: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures all rows at one size, turn by turn; a string says why one could not be measured."""
    height, width = parse_size(size) if not arguments.quick else map(int, size.split("x"))
    rounds: dict[str, list[dict[str, float]]] = {row: [] for row in ROWS}
    missing: str | None = None
    for number in range(arguments.rounds):
        processes.progress(f"measuring input at {size}, round {number + 1} of {arguments.rounds} ...")
        for row in ROWS:
            if row != "peer":
                worker = ["--worker", row, "--folder", folder, "--sizes", size, "--batches", arguments.batches]
                worker += ["--quick"] * arguments.quick
                rounds[row].append(processes.measure(worker, f"{ROWS[row]} at {size}"))
            elif missing is None:
                peer_arguments = [folder / "bounding_box_train", height, width, padding_of((height, width))]
                peer_arguments += [IDENTITIES, IMAGES, arguments.batches]
                found = processes.peer(arguments.peer_python, "torch_loader.py", peer_arguments)
                if isinstance(found, str):
                    missing = found
                else:
                    rounds[row].append(found)
    images = IDENTITIES * IMAGES * arguments.batches
    results: dict[str, Any] = {"size": size, "peer_not_measured": missing}
    for row, found_rounds in rounds.items():
        if found_rounds and not (row == "peer" and missing):
            found = processes.medians(found_rounds)
            results[row] = {"images_per_second": images / found["seconds"], "cpu_ms": 1e3 * found["cpu"] / images}
    return results


def print_table(results: list[dict[str, Any]]) -> None:
    """Prints images a second and CPU milliseconds of an image, for people."""
    print(f"{'':<42} {'images/s':>9} {'CPU ms':>8} {'x DataLoader':>13} {'in CPU time':>12}")
    for result in results:
        print(result["size"])
        for row, label in ROWS.items():
            if row not in result:
                print(f"  {label:<40} not measured: {result['peer_not_measured']}")
                continue
            found, peer = result[row], result.get("peer")
            ratios = ""
            if peer and row in ("files", "kept"):
                speed, cpu = (found[n] / peer[n] for n in ("images_per_second", "cpu_ms"))
                ratios = f" {speed:>13.2f} {1 / cpu:>12.2f}"
            print(f"  {label:<40} {found['images_per_second']:>9.0f} {found['cpu_ms']:>8.3f}{ratios}")


def print_steps(results: list[dict[str, Any]]) -> None:
    """Prints what a step takes with each kind of input, for people."""
    print(f"\n{'':<42} {'step ms':>9} {'CPU ms':>8} {'longer by':>10}")
    for result in results:
        print(result["step"])
        for kind, label in input_steps.INPUTS.items():
            found = result[kind]
            longer = "" if kind == "memory" else f" {100 * found['longer']:>9.1f}%"
            print(f"  {label:<40} {1e3 * found['seconds']:>9.1f} {1e3 * found['cpu']:>8.1f}{longer}")


def steps(folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures every kind of step in a process of its own."""
    results = []
    for name in arguments.steps or (input_steps.QUICK if arguments.quick else input_steps.STEPS):
        processes.progress(f"measuring {name} ...")
        worker = ["--worker", name, "--folder", folder, "--rounds", arguments.rounds, *["--quick"] * arguments.quick]
        results.append({"step": name, **processes.measure(worker, name)})
    return results


def main() -> None:
    """Measures all rows and steps and prints the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", metavar="HEIGHTxWIDTH", help="pixels of the images in a batch")
    parser.add_argument("--batches", type=int, default=60, help="timed batches of 8 x 4 images (default: 60)")
    parser.add_argument("--rounds", type=int, default=5, help="of every row and step, in turn; medians are shown")
    parser.add_argument("--identities", type=int, default=100, help="people that are rendered (default: 100)")
    parser.add_argument("--peer_python", default=sys.executable, help="a Python that has PyTorch (default: this one)")
    parser.add_argument("--no_steps", action="store_true", help="time the input alone")
    parser.add_argument("--steps", nargs="+", choices=input_steps.STEPS, help="time these steps alone, not the input")
    parser.add_argument("--quick", action="store_true", help="few and small images and networks")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.batches, arguments.rounds) < 1 or arguments.identities < IDENTITIES:
        parser.error(f"expected --batches and --rounds of at least 1 and --identities of at least {IDENTITIES}")
    sizes = arguments.sizes or (QUICK if arguments.quick else SIZES)
    try:
        for size in arguments.sizes or ():
            if not arguments.quick:
                parse_size(size)
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --sizes: {error}")
    if arguments.worker:
        print(json.dumps(work(arguments)))
        return
    if arguments.quick:
        arguments.identities, arguments.rounds, arguments.batches = IDENTITIES, 1, min(arguments.batches, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "people"
        processes.progress(f"rendering {arguments.identities} people ...")
        worker = ["--worker", "render", "--folder", folder, "--identities", arguments.identities]
        processes.measure(worker, "Rendering")
        results = [] if arguments.steps else [compare(size, folder, arguments) for size in sizes]
        if results:
            print_table(results)
        step_results = [] if arguments.no_steps else steps(folder, arguments)
        if step_results:
            print_steps(step_results)
    processes.print_json("input_pipeline", results, steps=step_results)


if __name__ == "__main__":
    main()
