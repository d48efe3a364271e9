"""Times the two steps of the search, and a PyTorch supernet of the same shape beside them.

    python benchmarks/search_step.py [--sizes "8 64 32 16 4" ...] [--repeats 7] [--rounds 1] [--ours_only]
        [--peer PATH_TO/torch_supernet.py] [--peer_python PYTHON]

Prints a table, and the same as JSON on the last line. Sizes are "C H W B CELLS": channels, height, width, batch, cells.
"""

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
from processes import peak_memory

PEER = processes.ROOT.parent / "shared" / "peers" / "torch_supernet.py"
SIZES = ("8 64 32 16 4", "16 128 64 16 8")
REDUCTIONS = {8: (2, 4, 6), 6: (1, 3), 5: (1, 3), 4: (1, 3), 3: (1, 2)}  # the peer's rule
PASSES = 5
"""Forward passes that a pair of steps costs: with the gradients of weights 3 (each product, and one for either factor),
with those of the alphas alone 2 (their own are small)."""
PEER_LINE = re.compile(
    r"params (?P<params>[\d.]+)M first (?P<first>[\d.]+)s weight_step (?P<weight>[\d.]+)s "
    r"alpha_step (?P<alpha>[\d.]+)s rss (?P<rss>[\d.]+)GB"
)


def measure(size: tuple[int, ...], repeats: int, **options: Any) -> dict[str, float]:
    """Times our steps in this process: medians in seconds, the time from nothing to both first steps, peak memory.

    `options` are further arguments of the supernet.

    The work is the peer's: cross-entropy of a fixed random batch in memory, SGD with momentum and weight decay on the
    weights, Adam on the alphas. Importing TensorFlow is not counted, as the peer does not count importing torch.
    """
    import tensorflow as tf

    from kdas_tf.models.costs import multiply_adds
    from kdas_tf.models.networks import Supernet
    from kdas_tf.training.optimizers import SGD, Adam

    channels, height, width, batch, cells = size
    processes.training_strategy()
    begin = time.perf_counter()
    reductions = REDUCTIONS.get(cells, (cells - 1,))
    supernet = Supernet(
        100, image_size=(height, width), channels=channels, cells=cells, reductions=reductions, **options
    )
    images = tf.random.normal([batch, height, width, 3])
    labels = tf.random.uniform([batch], 0, 100, tf.int32)

    def step(variables: list[Any], optimizer: Any) -> Callable[[], Any]:
        optimizer.build(variables)
        values = [variable.value for variable in variables]

        @tf.function
        def run():
            with tf.GradientTape(watch_accessed_variables=False) as tape:  # as the search does
                tape.watch(values)
                logits = supernet(images, training=True).logits
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            optimizer.apply(tape.gradient(loss, values), variables)
            return loss

        return lambda: run().numpy()  # which waits for the end of the step

    steps = {
        "weight": step(supernet.network_weights, SGD()(learning_rate=0.1)),
        "alpha": step(supernet.alphas, Adam(weight_decay=0.0)(learning_rate=0.02)),
    }
    for run in steps.values():
        run()
    first = time.perf_counter() - begin
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, run in steps.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    memory = peak_memory()
    operations = 2.0 * batch * multiply_adds(supernet, (height, width))
    return {
        "params": sum(variable.value.shape.num_elements() for variable in supernet.trainable_variables) / 1e6,
        "first": first,
        "gflop": PASSES * operations / 1e9,
        **{name: statistics.median(values) for name, values in times.items()},
        "rss": memory / 1e9,
        "product": speed_of_a_product(),
    }


def speed_of_a_product(size: int = 4096, repeats: int = 5) -> float:
    """GFLOP/s of products of two large float32 matrices in this process, one on each core: what the cores reach."""
    import tensorflow as tf

    left, right = (tf.random.normal([size, size]) for _ in range(processes.THREADS))

    @tf.function
    def products():
        return tf.matmul(left, right), tf.matmul(right, left)

    times = [processes.timed(lambda: [each.numpy() for each in products()])[0] for _ in range(repeats + 1)]
    return processes.THREADS * 2 * size**3 / statistics.median(times[1:]) / 1e9


def run_ours(size: str, repeats: int) -> dict[str, float]:
    """Measures ours in a process of its own, so that the peak memory is its own.

    Raises:
        SystemExit: the process failed; its last lines are shown.
    """
    return processes.measure(["--worker", size, "--repeats", repeats], f"Ours at size {size!r}")


def run_peer(size: str, peer: Path, python: str) -> dict[str, float] | str:
    """Measures the peer in a process of its own; a string says why it could not be measured."""
    if not peer.is_file():
        return f"no peer at {peer}"
    lines = processes.peer_lines(python, peer, size.split())
    if isinstance(lines, str):
        return lines
    found = PEER_LINE.search("\n".join(lines))
    if not found:
        return f"the peer printed no result, but {lines[-1][:200]!r}"
    return {name: float(value) for name, value in found.groupdict().items()}


def median_of(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Per number the median over the rounds, and the pair of both steps."""
    return processes.medians(rounds) | {"pair": statistics.median(each["weight"] + each["alpha"] for each in rounds)}


def compare(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures ours and the peer at one size, turn by turn."""
    ours, peers, missing = [], [], "not asked for" if arguments.ours_only else None
    for number in range(arguments.rounds):
        processes.progress(f"measuring {size}, round {number + 1} of {arguments.rounds} ...")
        ours.append(run_ours(size, arguments.repeats))
        if not missing:
            result = run_peer(size, arguments.peer, arguments.peer_python)
            if isinstance(result, str):
                missing = result
            else:
                peers.append(result)
    peer = median_of(peers) if peers and not missing else None
    return {"size": size, "ours": median_of(ours), "peer": peer, "peer_not_measured": missing}


def print_table(results: list[dict[str, Any]]) -> None:
    """Prints what was measured, for people."""
    columns = ("weight", "alpha", "pair", "first", "rss")
    row = "{:<16} {:<7}" + " {:>9}" * len(columns)
    print(row.format("C H W B CELLS", "", "weight s", "alpha s", "pair s", "first s", "peak GB"))
    for result in results:
        ours, peer = result["ours"], result["peer"]
        print(row.format(result["size"], "ours", *(f"{ours[name]:.3f}" for name in columns)))
        if peer:
            print(row.format("", "peer", *(f"{peer[name]:.3f}" for name in columns)))
            print(row.format("", "ratio", *(f"{ours[name] / peer[name]:.2f}" for name in columns)))
        elif result["peer_not_measured"] != "not asked for":
            print(f"{'':<16} peer    not measured: {result['peer_not_measured']}")
        speed = ours["gflop"] / ours["pair"]
        print(
            f"{'':<16} {ours['gflop']:.1f} GFLOP in a pair, {speed:.0f} GFLOP/s; a large product reaches "
            f"{ours['product']:.0f} ({speed / ours['product']:.0%})"
        )


def parse_size(text: str) -> str:
    """Checks a size as it is on the command line."""
    if not re.fullmatch(r"\d+( \d+){4}", text):
        raise argparse.ArgumentTypeError(f'expected five numbers, C H W B CELLS, such as "8 64 32 16 4", got "{text}"')
    return text


def main() -> None:
    """Measures every size and prints the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES, metavar='"C H W B CELLS"')
    parser.add_argument("--repeats", type=int, default=7, help="timed steps of each kind in ours; the peer does 5")
    parser.add_argument(
        "--rounds", type=int, default=1, help="processes of ours and of the peer, in turn, at each size"
    )
    parser.add_argument("--peer", type=Path, default=PEER, help="the peer's script (default: %(default)s)")
    parser.add_argument("--peer_python", default=sys.executable, help="a Python that has PyTorch (default: this one)")
    parser.add_argument("--ours_only", action="store_true", help="leave the peer out")
    parser.add_argument("--worker", type=parse_size, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.repeats, arguments.rounds) < 1:
        parser.error("expected --repeats and --rounds of at least 1")
    if arguments.worker:
        print(json.dumps(measure(tuple(map(int, arguments.worker.split())), arguments.repeats)))
        return
    results = [compare(size, arguments) for size in arguments.sizes]
    print_table(results)
    processes.print_json("search_step", results)


if __name__ == "__main__":
    main()
