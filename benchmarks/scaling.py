"""Times a whole step of the search while one dimension grows: cells, channels, pixels, batch, identities, devices.

    python benchmarks/scaling.py [--only cells batch ...] [--repeats 7] [--seconds 2] [--quick] [--plot FILE.png]

Prints a table, and the same as JSON on the last line.
"""

import argparse
import itertools
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import processes
from processes import cpu_seconds, peak_memory
from step_models import random_batch, random_table, search_model

REDUCTIONS = (1, 3)  # positions: cells that are added have the last one's size, for 64 rows bear no third reduction
TABLE = 16  # images in the teacher's table
TEMPERATURE = 1.5  # above 0, so that the teacher is used
COLUMNS = {
    "step s": "step",
    "CPU s": "cpu",
    "exponent": "exponent",
    "first s": "first",
    "first CPU": "first_cpu",
    "peak GB": "peak",
    "head %": "share",
}
LINES = {
    "first_cpu": ("to the end of the first step, CPU s", "s-C1"),
    "first": ("on the clock", "s--C1"),
    "cpu": ("a later step, CPU s", "o-C0"),
    "step": ("on the clock", "o--C0"),
}


class Point(NamedTuple):
    """What is timed; pixels are (height, width), the batch is that of all devices together."""

    channels: int = 8
    pixels: tuple[int, int] = (64, 32)
    batch: int = 16
    cells: int = 4
    identities: int = 751
    devices: int = 1

    def amount(self, dimension: str) -> int:
        """How much of a dimension there is."""
        return math.prod(self.pixels) if dimension == "pixels" else getattr(self, dimension)

    def label(self, dimension: str) -> str:
        """The same as people write it."""
        return "x".join(map(str, self.pixels)) if dimension == "pixels" else f"{getattr(self, dimension):,}"


BASE = Point()
GROWTH: dict[str, tuple[Any, ...]] = {
    "cells": (2, 4, 8),
    "channels": (8, 16, 32),
    "pixels": ((64, 32), (128, 64), (192, 96)),
    "batch": (8, 16, 64),
    "identities": (751, 1_041, 10_000, 100_000),
    "devices": (1, 2, 4),
}
QUICK = Point(channels=4, pixels=(32, 16), batch=8, cells=2, identities=10)
QUICK_GROWTH: dict[str, tuple[Any, ...]] = {"identities": (10, 10_000)}


def make_head(identities: int, maps: Any) -> Any:
    """A network of the head alone, for maps `[batch, height, width, channels]` that are always the same.

    A scale of the channels stands for the alphas: its gradient, too, has to come through the classifier.
    """
    import keras

    from kdas_tf.models.heads import ReIDHead

    class HeadNetwork(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale = self.add_weight(name="scale", shape=(maps.shape[-1],), initializer="ones")
            self.head = ReIDHead(identities)
            self.head.build(maps.shape)
            self.network_weights, self.alphas = self.head.trainable_weights, [self.scale]
            self.built = True

        def call(self, images, training=False):
            return self.head(keras.ops.convert_to_tensor(maps) * self.scale, training=training)

    return HeadNetwork()


def make_model(point: Point, strategy: Any, head_width: int | None) -> Any:
    """The search's own model with the paper's objective; of the head alone where its input's channels are given."""
    import numpy as np

    from kdas_tf.models.networks import Supernet
    from kdas_tf.training.batch_norm import configure_batch_norm

    with strategy.scope():
        if head_width:
            maps = np.random.default_rng(0).normal(size=(point.batch, 1, 1, head_width)).astype("float32")
            network = make_head(point.identities, maps)
        else:
            reductions = [position for position in REDUCTIONS if position < point.cells]
            shape: dict[str, Any] = {"image_size": point.pixels, "channels": point.channels, "cells": point.cells}
            network = Supernet(point.identities, reductions=reductions, **shape)
            configure_batch_norm(network, replicas=point.devices)
        table = random_table(TABLE, point.identities)
        return search_model(network, table, point.identities, temperature=TEMPERATURE)


def measure(point: Point, repeats: int, seconds: float, head_width: int | None) -> dict[str, float]:
    """Times whole steps, on weights and on alphas, in this process; importing the libraries is not counted.

    Returns:
        Medians of a step, in seconds on the clock and of all threads; the same from nothing to the end of the first
        step; peak memory in bytes; parameters; channels that the classifier sees; the last loss.
    """
    import keras
    import tensorflow as tf

    import kdas_tf.training.steps  # noqa: F401 - so that it is loaded before the clock starts

    keras.utils.set_random_seed(0)
    begin, begin_cpu = time.perf_counter(), cpu_seconds()
    strategy = processes.training_strategy(point.devices)
    model = make_model(point, strategy, head_width)
    shape = point.pixels, point.batch, point.identities
    halves = {half: random_batch(*shape, images=TABLE, seed=seed) for half, seed in (("train", 1), ("val", 2))}
    batches = tf.data.Dataset.from_tensors(halves)
    same = itertools.repeat(next(iter(strategy.experimental_distribute_dataset(batches))))

    def step() -> float:
        return float(model.train_function(same)["total"])  # which waits for the end of the step

    step()
    first, first_cpu = time.perf_counter() - begin, cpu_seconds() - begin_cpu
    step()
    times: list[tuple[float, float]] = []
    losses: list[float] = []
    begin = time.perf_counter()
    while len(times) < repeats or time.perf_counter() - begin < seconds:
        times.append(processes.timed(lambda: losses.append(step())))
    return {
        "step": statistics.median(wall for wall, _ in times),
        "cpu": statistics.median(cpu for _, cpu in times),
        "steps": len(times),
        "first": first,
        "first_cpu": first_cpu,
        "peak": peak_memory(),
        "parameters": sum(variable.value.shape.num_elements() for variable in model.network.trainable_variables),
        "width": model.network.head.classifier.kernel.shape[0],
        "loss": losses[-1],
    }


def run(point: Point, arguments: argparse.Namespace, *more: Any) -> dict[str, float]:
    """Measures in a process of its own, so that its peak memory is its own.

    Raises:
        SystemExit: the process failed; its last lines are shown.
    """
    command = ["--repeats", arguments.repeats, "--seconds", arguments.seconds, "--worker", json.dumps(point._asdict())]
    processes.progress(f"measuring {point}{' the head alone' if more else ''} ...")
    result = processes.measure([*command, *more], str(point))
    processes.progress(", ".join(f"{name} {value:.5g}" for name, value in result.items()))
    return result


def run_head(point: Point, arguments: argparse.Namespace, whole: dict[str, float]) -> dict[str, float]:
    """Measures the head alone: classifier, targets, objective and their optimizers; and its share of the whole step."""
    head = run(point, arguments, "--head_width", int(whole["width"]))
    return {"head_step": head["step"], "head_cpu": head["cpu"], "share": head["cpu"] / whole["cpu"]}


def run_all(base: Point, growth: dict[str, tuple[Any, ...]], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures every point once, however many dimensions it belongs to; one dimension grows at a time."""
    measured: dict[Point, dict[str, float]] = {}
    results = []
    for dimension, values in growth.items():
        line: list[dict[str, Any]] = []
        for value in values:
            point = base._replace(**{dimension: value})
            if point not in measured:
                measured[point] = run(point, arguments)
            if dimension == "identities" and "share" not in measured[point]:
                measured[point] |= run_head(point, arguments, measured[point])
            now = {"amount": point.amount(dimension), **measured[point]}
            if line:
                growing = {name: math.log(now[name] / line[-1][name]) for name in ("cpu", "amount")}
                now["exponent"] = growing["cpu"] / growing["amount"]
            line.append(now)
            results.append({"dimension": dimension, "label": point.label(dimension), **point._asdict(), **now})
    return results


def print_table(results: list[dict[str, Any]]) -> None:
    """Prints what was measured, for people; memory in units of 10^9 bytes."""
    row = "{:<11} {:>8}" + " {:>9}" * len(COLUMNS)
    print(row.format("", "", *COLUMNS).rstrip())
    dimension = None
    for result in results:
        name = result["dimension"] if result["dimension"] != dimension else ""
        dimension = result["dimension"]
        shown = {
            "step": f"{result['step']:.3f}",
            "cpu": f"{result['cpu']:.3f}",
            "exponent": f"{result['exponent']:.2f}" if "exponent" in result else "",
            "first": f"{result['first']:.1f}",
            "first_cpu": f"{result['first_cpu']:.1f}",
            "peak": f"{result['peak'] / 1e9:.2f}",
            "share": f"{100 * result['share']:.1f}" if dimension == "identities" else "",
        }
        print(row.format(name, result["label"], *(shown[column] for column in COLUMNS.values())).rstrip())


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """Draws a panel for each dimension, both axes logarithmic, and how a linear growth from the first point looks."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    dimensions = list(dict.fromkeys(result["dimension"] for result in results))
    columns = min(3, len(dimensions))
    rows = -(-len(dimensions) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows + 0.4), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
    for dimension, axes in zip(dimensions, panels, strict=False):
        line = [result for result in results if result["dimension"] == dimension]
        amounts = [result["amount"] for result in line]
        for column, (label, style) in LINES.items():
            axes.plot(amounts, [each[column] for each in line], style, label=label)
        if dimension != "devices":  # which share the same work
            linear = [line[0]["cpu"] * amount / amounts[0] for amount in amounts]
            axes.plot(amounts, linear, ":", color="gray", label="proportional")
        axes.set(xscale="log", yscale="log", xlabel=dimension)
        # 751 and 1,041 would lie on one another.
        pairs = itertools.pairwise([*line, {"amount": math.inf}])
        named = [each for each, following in pairs if 1.4 * each["amount"] < following["amount"]]
        axes.set_xticks([each["amount"] for each in named], [each["label"] for each in named])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(True, which="major", alpha=0.3)
    for axes in panels:
        axes.set_axis_off()
    for axes in figure.axes[::columns]:
        axes.set_ylabel("seconds")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=5, fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Measures every point and prints the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=GROWTH, help="dimensions to grow (default: all)")
    parser.add_argument("--repeats", type=int, default=7, help="timed steps at least")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for them at least")
    parser.add_argument("--quick", action="store_true", help="identities of a tiny network: about a minute")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw the growth")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--head_width", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.repeats < 1 or arguments.seconds < 0:
        parser.error("expected --repeats of at least 1 and --seconds of at least 0")
    if arguments.worker:
        point = Point(**{**arguments.worker, "pixels": tuple(arguments.worker["pixels"])})
        print(json.dumps(measure(point, arguments.repeats, arguments.seconds, arguments.head_width)))
        return
    growth = QUICK_GROWTH if arguments.quick else {name: GROWTH[name] for name in arguments.only or GROWTH}
    results = run_all(QUICK if arguments.quick else BASE, growth, arguments)
    print_table(results)
    if arguments.plot:
        draw(results, arguments.plot)
    processes.print_json("scaling", results)


if __name__ == "__main__":
    main()
