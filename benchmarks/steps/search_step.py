"""Times the two steps of the search, and a PyTorch supernet of the same shape beside them.

Sizes are "C H W B CELLS": channels, height and width in pixels, batch, cells. Both do the same work: cross-entropy of a
fixed random batch in memory, SGD with momentum and weight decay on the weights, Adam on the alphas. The peer is a
script outside of this project, one PyTorch module per operation and edge as in DARTS: --peer says where it is.

"first s" is from nothing to the end of the first step of both kinds: building and tracing. "GFLOP/s" counts the
multiply-adds of convolutions and dense layers (kdas_tf/models/costs.py) as two operations, three times for the weights
and twice for the alphas; "product" is what two 4096x4096 products reach in the same process.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import harness, models

SIZES = ("8 64 32 16 4", "16 128 64 16 8")
QUICK = ("4 64 32 4 2",)
IDENTITIES = 100
COLUMNS = {
    "C H W B cells": "",
    "": "",
    "weight s": ".3f",
    "alpha s": ".3f",
    "pair s": ".3f",
    "first s": ".1f",
    "peak GB": ".2f",
    "GFLOP/s": ".0f",
    "product": ".0f",
}
PASSES = 5
"""Forward passes that a pair of steps costs: with the gradients of weights 3 (each product, and one for either factor),
with those of the alphas alone 2 (their own are small)."""
PEER_LINE = re.compile(
    r"first (?P<first>[\d.]+)s weight_step (?P<weight>[\d.]+)s alpha_step (?P<alpha>[\d.]+)s rss (?P<rss>[\d.]+)GB"
)


def measure_ours(size: models.Size, repeats: int, **options: Any) -> dict[str, float]:
    """Times our steps in this process; `options` are further arguments of the supernet."""
    import tensorflow as tf

    from kdas_tf.models.costs import multiply_adds

    models.strategy()
    begin = time.perf_counter()
    supernet = models.supernet(size, IDENTITIES, **options)
    images = tf.random.normal([size.batch, *size.image_size, 3])
    labels = tf.random.uniform([size.batch], 0, IDENTITIES, tf.int32)

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

    weight_optimizer, alpha_optimizer = models.optimizers(0.1, 0.02, weight_decay=0.0)
    steps = {
        "weight": step(supernet.network_weights, weight_optimizer),
        "alpha": step(supernet.alphas, alpha_optimizer),
    }
    for run in steps.values():
        run()
    first = time.perf_counter() - begin
    times = {name: wall for name, (wall, _) in harness.in_turn(steps, repeats, warm_up=0).items()}
    peak = harness.peak_gb()  # before the products, which take memory of their own
    gflop = PASSES * 2 * size.batch * multiply_adds(supernet, size.image_size) / 1e9
    pair = times["weight"] + times["alpha"]
    row = {"weight s": times["weight"], "alpha s": times["alpha"], "pair s": pair, "first s": first, "peak GB": peak}
    return {**row, "GFLOP/s": gflop / pair, "product": _speed_of_a_product()}


def _speed_of_a_product(size: int = 4096, repeats: int = 5) -> float:
    """GFLOP/s of products of two large float32 matrices in this process, one on each core: what the cores reach."""
    import tensorflow as tf

    left, right = (tf.random.normal([size, size]) for _ in range(harness.THREADS))

    @tf.function
    def products():
        return tf.matmul(left, right), tf.matmul(right, left)

    ((seconds, _),) = harness.in_turn({"": lambda: [each.numpy() for each in products()]}, repeats).values()
    return harness.THREADS * 2 * size**3 / seconds / 1e9


def measure_peer(size: models.Size, peer: str, python: str) -> dict[str, float]:
    """What the peer's script prints."""
    if not Path(peer).is_file():
        raise harness.NotMeasured(f"no peer at {peer}")
    lines = harness.other_python(python, peer, size)
    found = PEER_LINE.search("\n".join(lines))
    if not found:
        raise harness.NotMeasured(f"the peer printed no result, but {lines[-1][:200]!r}")
    first, weight, alpha, peak = map(float, found.groups())
    return {"weight s": weight, "alpha s": alpha, "pair s": weight + alpha, "first s": first, "peak GB": peak}


def measure(**case: Any) -> dict[str, float]:
    """One size, ours or the peer's."""
    size = models.Size.parse(case["C H W B cells"])
    if case[""] == "ours":
        return measure_ours(size, case["repeats"])
    return measure_peer(size, case["peer"], case["python"])


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every size, ours and the peer's in turn."""
    rows = []
    for size in QUICK if arguments.quick else arguments.sizes:
        models.Size.parse(size)
        rows.append({"C H W B cells": size, "": "ours", "repeats": arguments.repeats})
        if arguments.peer:
            peer = {"peer": arguments.peer, "python": arguments.peer_python}
            rows.append({"C H W B cells": size, "": "PyTorch peer", **peer})
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's own arguments."""
    parser.add_argument("--repeats", type=harness.at_least_1, default=7, help="timed steps of each kind (default: 7)")
    parser.add_argument("--peer", metavar="FILE", help="the peer's script, torch_supernet.py; without it ours alone")
    parser.add_argument("--peer_python", default=sys.executable, help="a Python that has PyTorch (default: this one)")


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options, sizes=SIZES)
