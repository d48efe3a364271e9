"""Times a training step of a derived network, and the same network in eager PyTorch beside it.

    python benchmarks/train_step.py [--sizes "64 384 128 32 8" ...] [--genotype AUTO_REID] [--repeats 5] [--rounds 3]
        [--peer_python PYTHON] [--no_operations] [--quick]

Prints two tables, then the same as JSON on the last line. Sizes are "C H W B CELLS": channels, height, width, batch,
cells.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import processes
from search_step import parse_size
from step_models import training_model

SIZES = ("64 384 128 32 8",)
QUICK = ("6 32 16 8 2",)
IDENTITIES = 751  # Market-1501
REDUCTIONS = {8: (2, 4, 6), 4: (1, 3), 2: (1,)}
OPERATIONS = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3", "part_aware")


def make_student(size: str, genotype: str) -> Any:
    """The network of a size."""
    from kdas_tf.genotype import load
    from kdas_tf.models.networks import Student

    channels, height, width, _, cells = map(int, size.split())
    return Student(
        load(genotype),
        IDENTITIES,
        image_size=(height, width),
        channels=channels,
        cells=cells,
        reductions=REDUCTIONS[cells],
    )


def make_batch(size: str) -> dict[str, Any]:
    """A batch of random pixels, four images of each identity."""
    import tensorflow as tf

    _, height, width, batch, _ = map(int, size.split())
    return {
        "image": tf.random.uniform([batch, height, width, 3], 0, 255),
        "label": tf.range(batch) // 4,
        "index": tf.range(batch),
    }


def measure(size: str, genotype: str, repeats: int) -> dict[str, float]:
    """Times our steps in this process; the first one, which builds and traces, apart."""
    import tensorflow as tf

    processes.training_strategy()
    begin = time.perf_counter()
    student = make_student(size, genotype)
    model = training_model(student, None, IDENTITIES, learning_rate=3.5e-4)  # at T = 0
    batches = iter(tf.data.Dataset.from_tensors(make_batch(size)).repeat())

    def run() -> tuple[float, float]:
        return processes.timed(lambda: float(model.train_function(batches)["total"]))

    run()
    first = time.perf_counter() - begin
    run()
    times = [run() for _ in range(repeats)]
    return {
        "parameters": sum(v.value.shape.num_elements() for v in student.trainable_variables),
        "first": first,
        "seconds": statistics.median(wall for wall, _ in times),
        "cpu": statistics.median(cpu for _, cpu in times),
        "rss": processes.peak_memory() / 1e9,
    }


def write_check(size: str, genotype: str, path: Path) -> dict[str, float]:
    """Writes weights, a batch, and what our network makes of it; statistics are those of a few steps."""
    import numpy as np
    import student_weights
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    student, batch = make_student(size, genotype), make_batch(size)
    model = training_model(student, None, IDENTITIES, learning_rate=1e-3)
    batches = iter(tf.data.Dataset.from_tensors(batch).repeat())
    for _ in range(3):
        model.train_function(batches)
    weights = student_weights.arrays(student)
    outputs = student(batch["image"], training=False)._asdict()
    loss = model.terms(batch, model.targets(batch)).total  # after the weights: it moves the statistics
    np.savez(
        path,
        weights=len(weights),
        images=batch["image"],
        labels=batch["label"],
        loss=loss,
        **{f"weight_{i}": weight for i, weight in enumerate(weights)},
        **outputs,
    )
    return {"loss": float(loss)}


def cases_of(size: str) -> list[tuple[str, int, int, int, int, int]]:
    """(operation, channels, height, width, stride, batch) of what the cells of a size may hold, each once."""
    from kdas_tf.models.cells import cell_plan

    channels, height, width, batch, cells = map(int, size.split())
    rows, columns = -(-height // 4), -(-width // 4)
    found: dict[tuple[int, int, int, int], None] = {}
    for cell in cell_plan(cells, REDUCTIONS[cells], channels):
        if cell["reduction"]:
            found[(cell["channels"], rows, columns, 2)] = None
            rows, columns = -(-rows // 2), -(-columns // 2)
        found[(cell["channels"], rows, columns, 1)] = None
    return [
        (name, *shape, batch)
        for shape in found
        for name in OPERATIONS
        if shape[1] >= 4 and (name, shape[3]) != ("skip_connect", 1)  # the identity does nothing
    ]


def measure_operations(cases: list[tuple[str, int, int, int, int, int]], repeats: int) -> list[list[float]]:
    """Seconds forward and backward, and forward alone, of every case."""
    import tensorflow as tf

    from kdas_tf.space.mixed import make_operation

    processes.training_strategy()
    results = []
    for name, channels, height, width, stride, batch in cases:
        operation = make_operation(name, channels, stride=stride)
        x = tf.random.normal([batch, height, width, channels])
        operation.build(x.shape)
        gradient = tf.random.normal(operation.compute_output_shape(x.shape))

        @tf.function
        def forward(x, operation=operation):
            return operation(x, training=True)

        @tf.function
        def both(x, gradient, operation=operation):
            variables = [variable.value for variable in operation.trainable_variables]
            with tf.GradientTape() as tape:
                tape.watch(x)
                output = operation(x, training=True)
            return tape.gradient(output, [x, *variables], gradient)

        times: list[tuple[float, float]] = []
        for _ in range(repeats + 2):
            since = time.perf_counter()
            both(x, gradient)[0][0, 0, 0, 0].numpy()
            middle = time.perf_counter()
            forward(x)[0, 0, 0, 0, 0].numpy()
            times.append((middle - since, time.perf_counter() - middle))
        results.append([statistics.median(each) for each in zip(*times[2:], strict=True)])
    return results


def compare(size: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures ours and the peer at one size, turn by turn, and how far the peer's outputs are from ours."""
    genotype, check = folder / "genotype.json", folder / "check.npz"
    numbers = size.split()
    peer_arguments = [genotype, *numbers, "--identities", IDENTITIES, "--reductions", *REDUCTIONS[int(numbers[-1])]]
    processes.progress(f"comparing outputs at {size} ...")
    # Of a smaller batch and image, but the same network: the weights do not depend on them.
    small = " ".join([numbers[0], str(min(128, int(numbers[1]))), str(min(64, int(numbers[2]))), "8", numbers[4]])
    processes.measure(["--worker", "check", "--sizes", small, "--genotype", genotype, "--folder", folder], "The check")
    agreement = processes.peer(arguments.peer_python, "torch_student.py", [*peer_arguments, "--check", check])
    missing = agreement if isinstance(agreement, str) else None
    ours, peers = [], []
    for number in range(arguments.rounds):
        processes.progress(f"measuring {size}, round {number + 1} of {arguments.rounds} ...")
        worker = ["--worker", "step", "--sizes", size, "--genotype", genotype, "--repeats", arguments.repeats]
        ours.append(processes.measure(worker, f"Ours at {size}"))
        if missing is None:
            found = processes.peer(
                arguments.peer_python, "torch_student.py", [*peer_arguments, "--repeats", arguments.repeats]
            )
            if isinstance(found, str):
                missing = found
            else:
                peers.append(found)
    return {
        "size": size,
        "ours": processes.medians(ours),
        "peer": processes.medians(peers) if peers and missing is None else None,
        "agreement": None if isinstance(agreement, str) else agreement,
        "peer_not_measured": missing,
    }


def compare_operations(size: str, folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Times every candidate operation at the sizes of the cells, ours and the peer's."""
    processes.progress(f"measuring operations at {size} ...")
    worker = ["--worker", "operations", "--sizes", size, "--folder", folder, "--repeats", arguments.repeats]
    ours = processes.measure(worker, "Operations")
    cases = ours["cases"]
    peer_arguments = [folder / "genotype.json", *size.split(), "--operations", json.dumps(cases)]
    peer = processes.peer(arguments.peer_python, "torch_student.py", [*peer_arguments, "--repeats", arguments.repeats])
    results = []
    for i, case in enumerate(cases):
        both, forward = ours["seconds"][i]
        result = {"case": case, "seconds": both, "forward": forward}
        if not isinstance(peer, str):
            result |= {"peer_seconds": peer[i][0], "peer_forward": peer[i][1]}
        results.append(result)
    return results


def print_table(results: list[dict[str, Any]]) -> None:
    """Prints what steps cost, for people."""
    row = "{:<18} {:<6} {:>8} {:>8} {:>8} {:>8} {:>11}"
    print(row.format("C H W B CELLS", "", "step s", "CPU s", "first s", "peak GB", "parameters"))
    for result in results:
        ours, peer = result["ours"], result["peer"]
        for name, found in (("ours", ours), ("peer", peer)):
            if found:
                numbers = [f"{found[key]:.3f}" if key in found else "" for key in ("seconds", "cpu", "first", "rss")]
                print(row.format(result["size"], name, *numbers, f"{found['parameters']:,.0f}"))
        if peer:
            shares = [f"{peer[key] / ours[key]:.2f}" for key in ("seconds", "cpu")]
            print(row.format("", "faster", *shares, "", f"{peer['rss'] / ours['rss']:.2f}", ""))
        else:
            print(f"{'':<18} peer   not measured: {result['peer_not_measured']}")
        if result["agreement"]:
            differences = (
                f"{name.removesuffix('_difference')} {value:.1e}"
                for name, value in result["agreement"].items()
                if name.endswith("_difference")
            )
            print("The same weights, largest differences of peer and ours, relative: " + ", ".join(differences))


def print_operations(results: list[dict[str, Any]]) -> None:
    """Prints what operations cost, for people: milliseconds forward and backward together."""
    columns = " ".join(f"{name:>8}" for name in ("ours", "forward", "peer", "forward"))
    print(f"\n{'milliseconds':<16} {'C':>4} {'map':>8} {'stride':>6} {columns}")
    for result in results:
        name, channels, height, width, stride, _ = result["case"]
        numbers = [result.get(key) for key in ("seconds", "forward", "peer_seconds", "peer_forward")]
        cells = " ".join("       -" if number is None else f"{1e3 * number:>8.1f}" for number in numbers)
        print(f"{name:<16} {channels:>4} {f'{height}x{width}':>8} {stride:>6} {cells}")


def work(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a process of its own does."""
    size = arguments.sizes[0]
    if arguments.worker == "genotype":
        from kdas_tf import genotype

        genotype.save(arguments.folder / "genotype.json", genotype.load(arguments.genotype))
        return {}
    if arguments.worker == "check":
        return write_check(size, arguments.genotype, arguments.folder / "check.npz")
    if arguments.worker == "operations":
        cases = cases_of(size)
        return {"cases": cases, "seconds": measure_operations(cases, arguments.repeats)}
    return measure(size, arguments.genotype, arguments.repeats)


def main() -> None:
    """Measures every size and prints the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=parse_size, metavar='"C H W B CELLS"')
    parser.add_argument("--genotype", default="AUTO_REID", help="a known name, or a genotype.json")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps in a process (default: 5)")
    parser.add_argument("--rounds", type=int, default=3, help="processes of ours and of the peer, in turn")
    parser.add_argument("--peer_python", default=sys.executable, help="a Python that has PyTorch (default: this one)")
    parser.add_argument("--no_operations", action="store_true", help="leave out the table of operations")
    parser.add_argument("--quick", action="store_true", help="a tiny network, few repeats")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.sizes = arguments.sizes or (QUICK if arguments.quick else SIZES)
    if min(arguments.repeats, arguments.rounds) < 1:
        parser.error("expected --repeats and --rounds of at least 1")
    for size in arguments.sizes:
        if int(size.split()[-1]) not in REDUCTIONS:
            parser.error(f"expected {', '.join(map(str, REDUCTIONS))} cells, got {size!r}")
    if arguments.worker:
        print(json.dumps(work(arguments)))
        return
    if arguments.quick:
        arguments.repeats, arguments.rounds = min(arguments.repeats, 2), 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        processes.measure(["--worker", "genotype", "--genotype", arguments.genotype, "--folder", folder], "Reading")
        results = [compare(size, folder, arguments) for size in arguments.sizes]
        print_table(results)
        operations = []
        if not arguments.no_operations:
            operations = compare_operations(arguments.sizes[0], folder, arguments)
            print_operations(operations)
    processes.print_json("train_step", results, genotype=arguments.genotype, operations=operations)


if __name__ == "__main__":
    main()
