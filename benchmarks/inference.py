"""Times inference of a student in every runtime, and ResNet-50 and OSNet x1.0 through ONNX Runtime beside it.

    python benchmarks/inference.py [--sizes 384x128 256x128] [--batches 1 16] [--rounds 3] [--seconds 2]
        [--genotype FILE] [--only TEXT ...] [--quick]

Prints a table for each size, and the same as JSON on the last line. Sizes are HEIGHTxWIDTH in pixels.
"""

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import processes
from inference_networks import LARGE, PEERS, SMALL, STUDENTS, prepare
from inference_runtimes import EXPECTED, IMAGES, PEER, RUNTIMES, as_pixels, runtime_of

SIZES = ("384x128", "256x128")
QUICK = ("64x32",)
SEARCHED = Path(__file__).with_name("searched_genotype.json")


class Row(NamedTuple):
    """A network of one size in one runtime."""

    size: str
    network: str
    runtime: str

    @property
    def label(self) -> str:
        """As the table says it, without the size."""
        return f"{self.network}, {runtime_of(self.runtime).label}"

    @property
    def folder(self) -> str:
        """Where the network's files are."""
        return re.sub(r"[^\w.]+", "_", f"{self.network}_{self.size}")


def measure(row: Row, folder: Path, batches: list[int], seconds: float) -> dict[str, float]:
    """Times one row in this process: images and CPU seconds, and how far its embeddings are from Keras'."""
    import numpy as np

    runtime = runtime_of(row.runtime)
    images = np.load(folder / IMAGES)
    embed = runtime.open(folder)
    numbers = _difference(embed(as_pixels(images, runtime.pixels)), folder)
    for batch in batches:
        pixels = as_pixels(np.resize(images, (batch, *images.shape[1:])), runtime.pixels)
        for _ in range(2):
            embed(pixels)
        times: list[float] = []
        began, began_cpu = time.perf_counter(), processes.cpu_seconds()
        while len(times) < 5 or time.perf_counter() - began < seconds:
            since = time.perf_counter()
            embed(pixels)
            times.append(time.perf_counter() - since)
        numbers |= {
            f"images_per_second_{batch}": batch / statistics.median(times),
            f"cpu_seconds_per_image_{batch}": (processes.cpu_seconds() - began_cpu) / len(times) / batch,
            f"p50_{batch}": statistics.median(times),
            f"p95_{batch}": float(np.quantile(times, 0.95)),
        }
    return numbers


def _difference(embeddings: Any, folder: Path) -> dict[str, float]:
    """Largest difference to the Keras network's embeddings, all of length 1, and the least cosine."""
    import numpy as np

    if not np.isfinite(embeddings).all():
        raise SystemExit("the embeddings are not finite")
    if not (folder / EXPECTED).exists():
        return {}
    expected, found = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (np.load(folder / EXPECTED).astype(np.float64), np.asarray(embeddings, np.float64))
    )
    return {"difference": float(abs(expected - found).max()), "cosine": float((expected * found).sum(1).min())}


def work(arguments: argparse.Namespace) -> None:
    """What a process of its own does: `prepare` or `measure`, as JSON on the last line."""
    rows = [Row(*row) for row in json.loads(arguments.worker)]
    folder = arguments.folder / rows[0].folder
    if not folder.exists():
        print(json.dumps(prepare_rows(rows, folder, arguments)))
        return
    from kdas_tf.errors import UserError

    try:
        print(json.dumps(measure(rows[0], folder, arguments.batches, arguments.seconds)))
    except (ImportError, UserError) as error:
        print(json.dumps({"not_measured": str(error)}))


def prepare_rows(rows: list[Row], folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Writes the files of the one network of some rows; see `prepare`."""
    scale = SMALL if arguments.quick else LARGE
    runtimes = [row.runtime for row in rows]
    size = parse_size(rows[0].size)
    return prepare(rows[0].network, size, runtimes, folder, genotype=arguments.genotype, scale=scale)


def start(rows: list[Row], folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs `work` in a process of its own; a process that ends badly says why in `not_measured`."""
    command = ["--worker", json.dumps(rows), "--folder", folder, "--genotype", arguments.genotype]
    command += ["--batches", *arguments.batches, "--seconds", arguments.seconds, *["--quick"] * arguments.quick]
    process = processes.start(command)
    lines = process.stdout.splitlines() if process.returncode == 0 else []
    if lines:
        return json.loads(lines[-1])
    last = (process.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return {"not_measured": f"the process ended with {process.returncode}: {last[:200]}"}


def run(rows: list[Row], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Prepares all networks, then measures all rows in turn, round after round."""
    rounds: dict[Row, list[dict[str, float]]] = {row: [] for row in rows}
    missing: dict[Row, str] = {}
    seconds: dict[Row, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size, network in dict.fromkeys((row.size, row.network) for row in rows):
            own = [row for row in rows if (row.size, row.network) == (size, network)]
            processes.progress(f"preparing {network} at {size} ...")
            written = start(own, folder, arguments)
            for row in own:
                result = written.get(row.runtime, written.get("not_measured", "it was not written"))
                if isinstance(result, str):
                    missing[row] = result
                else:
                    seconds[row] = result
        for number in range(arguments.rounds):
            for row in (row for row in rows if row not in missing):
                processes.progress(f"measuring {row.label} at {row.size}, round {number + 1} of {arguments.rounds} ...")
                result = start([row], folder, arguments)
                if "not_measured" in result:
                    missing[row] = result["not_measured"]
                else:
                    rounds[row].append(result)
    return [
        {**row._asdict(), "label": row.label}
        | (
            {"not_measured": missing[row]}
            if row in missing
            else {"write_seconds": seconds[row], **processes.medians(rounds[row])}
        )
        for row in rows
    ]


def print_tables(results: list[dict[str, Any]], batches: list[int]) -> None:
    """Prints a table for each size, for people: milliseconds, and images per second."""
    columns = "".join(f" {'images/s':>9} {'CPU ms':>7} {'p50 ms':>7} {'p95 ms':>7}" for _ in batches)
    for size in dict.fromkeys(result["size"] for result in results):
        print(f"{size:<34}" + "".join(f" {'batch ' + str(batch):>33}" for batch in batches))
        print(f"{'':<34}{columns} {'difference':>10}")
        for result in (each for each in results if each["size"] == size):
            if "not_measured" in result:
                print(f"{result['label']:<34} not measured: {result['not_measured']}")
                continue
            numbers = ""
            for batch in batches:
                numbers += f" {result[f'images_per_second_{batch}']:>9.1f}"
                for name in ("cpu_seconds_per_image", "p50", "p95"):
                    numbers += f" {1000 * result[f'{name}_{batch}']:>7.1f}"
            difference = f"{result['difference']:.1e}" if "difference" in result else ""
            print(f"{result['label']:<34}{numbers} {difference:>10}".rstrip())
        for line in ratios([each for each in results if each["size"] == size], batches):
            print(line)
        print()


def ratios(results: list[dict[str, Any]], batches: list[int]) -> list[str]:
    """What the best runtime of each student is, beside its plain Keras predict and ResNet-50, in images per second."""
    lines = []
    measured = [each for each in results if "not_measured" not in each]
    for batch in batches:
        speed = f"images_per_second_{batch}"
        resnet = next((each[speed] for each in measured if each["network"] == PEERS[0]), None)
        for student in STUDENTS:
            own = {each["runtime"]: each[speed] for each in measured if each["network"] == student}
            if not own:
                continue
            best = max(own, key=own.__getitem__)
            against = {"Keras predict": own.get("keras"), PEERS[0]: resnet}
            parts = [f"{own[best] / other:.2f} x {name}" for name, other in against.items() if other]
            if parts:
                lines.append(f"batch {batch}, {student}: best is {runtime_of(best).label}, {', '.join(parts)}")
    return lines


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) of a size as it is on the command line."""
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", text) or min(map(int, text.split("x"))) < 32:
        raise argparse.ArgumentTypeError(f'expected HEIGHTxWIDTH of at least 32 each, such as 384x128, got "{text}"')
    height, width = map(int, text.split("x"))
    return height, width


def choose(sizes: Sequence[str], only: list[str] | None) -> list[Row]:
    """The rows to measure: all, or those whose label has one of some texts."""
    rows = [Row(size, network, runtime) for size in sizes for network in STUDENTS for runtime in RUNTIMES]
    rows += [Row(size, network, runtime) for size in sizes for network in PEERS for runtime in PEER]
    return [row for row in rows if only is None or any(text.lower() in row.label.lower() for text in only)]


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say what is measured."""
    parser.add_argument("--sizes", nargs="+", metavar="HEIGHTxWIDTH", help="pixels of the images")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16], help="images at a time (default: 1 16)")
    parser.add_argument("--genotype", default=str(SEARCHED), metavar="FILE", help="genotype.json of the searched one")
    parser.add_argument(
        "--only", nargs="+", metavar="TEXT", help='rows whose label has it, such as "OSNet" or "LiteRT"'
    )
    parser.add_argument("--quick", action="store_true", help="a tiny student and small images")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)


def sizes_of(parser: argparse.ArgumentParser, arguments: argparse.Namespace, default: Sequence[str]) -> list[str]:
    """The sizes to measure at, each once; ends the program where one is none."""
    sizes = arguments.sizes or (QUICK if arguments.quick else default)
    try:
        for size in sizes:
            parse_size(size)
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --sizes: {error}")
    return list(dict.fromkeys(sizes))


def main() -> None:
    """Measures every row and prints the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_choices(parser)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each row, in turn; medians are shown")
    parser.add_argument("--seconds", type=float, default=2, help="that each batch is run for in a process")
    arguments = parser.parse_args()
    if arguments.rounds < 1 or min(arguments.batches) < 1 or arguments.seconds < 0:
        parser.error("expected --rounds and --batches of at least 1 and --seconds of at least 0")
    if arguments.worker:
        work(arguments)
        return
    sizes = sizes_of(parser, arguments, SIZES)
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, min(arguments.seconds, 0.2)
    rows = choose(sizes, arguments.only)
    if not rows:
        labels = "; ".join(row.label for row in choose(sizes[:1], None))
        parser.error(f"no row has {' or '.join(arguments.only)} in its label; there are {labels}")
    results = run(rows, arguments)
    print_tables(results, arguments.batches)
    processes.print_json("inference", results, batches=arguments.batches)


if __name__ == "__main__":
    main()
