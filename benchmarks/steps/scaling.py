"""Times a whole step of the search while one dimension grows: cells, channels, pixels, batch, identities, devices.

A step is the search's own, on the weights and then on the alphas: distillation at T = 1.5 from a table of random
logits, batch-hard triplets, SGD with momentum, Adam; one fixed batch in memory. Reductions are always the 2nd and the
4th cell. Devices are logical CPUs of a MirroredStrategy with the same global batch on the same two threads: they show
what replicas cost, not what they gain.

"exponent" is of the CPU seconds, from the point before in the same dimension: 1 is linear. "first" is from nothing to
the end of the first step. "head %" is the CPU time of a step of neck, classifier, targets, objective and their
optimizers alone, in a process of its own, in that of the whole step.
"""

import argparse
import itertools
import math
import statistics
import time
from typing import Any

from benchmarks import harness, models

REDUCTIONS = (1, 3)  # positions: cells that are added have the last one's size, for 64 rows bear no third reduction
TABLE = 16  # images in the teacher's table
TEMPERATURE = 1.5  # above 0, so that the teacher is used
SECONDS = 2.0  # steps are timed for so long at least
COLUMNS = {
    "dimension": "",
    "value": "",
    "step s": ".3f",
    "CPU s": ".3f",
    "exponent": ".2f",
    "first s": ".1f",
    "first CPU s": ".1f",
    "peak GB": ".2f",
    "head %": ".0f",
}
BASE = {"channels": 8, "pixels": (64, 32), "batch": 16, "cells": 4, "identities": models.MARKET1501, "devices": 1}
GROWTH: dict[str, tuple[Any, ...]] = {
    "cells": (2, 8),
    "channels": (16, 32),
    "pixels": ((128, 64), (192, 96)),
    "batch": (8, 64),
    "identities": (1_041, 10_000, 100_000),
    "devices": (2, 4),
}
QUICK = {"channels": 4, "pixels": (32, 16), "batch": 8, "cells": 2, "identities": 10, "devices": 1}
QUICK_GROWTH: dict[str, tuple[Any, ...]] = {"identities": (10_000,)}


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


def make_network(size: models.Size, identities: int, devices: int, head_width: int | None) -> Any:
    """The search's own supernet; or of the head alone, where its input's channels are given."""
    import numpy as np

    if head_width:
        maps = np.random.default_rng(0).normal(size=(size.batch, 1, 1, head_width)).astype("float32")
        return make_head(identities, maps)
    reductions = [position for position in REDUCTIONS if position < size.cells]
    return models.supernet(size, identities, replicas=devices, reductions=reductions)


def measure_steps(point: dict[str, Any], head_width: int | None) -> dict[str, float]:
    """Times whole steps, on weights and on alphas, in this process."""
    import keras

    import kdas_tf.training.steps  # noqa: F401 - so that it is loaded before the clock starts

    size = models.Size(point["channels"], *point["pixels"], point["batch"], point["cells"])
    identities, devices = point["identities"], point["devices"]
    keras.utils.set_random_seed(0)
    begin, begin_cpu = time.perf_counter(), harness.cpu_seconds()
    strategy = models.strategy(devices)
    with strategy.scope():
        network = make_network(size, identities, devices, head_width)
        table = models.random_table(TABLE, identities)
        model = models.search_model(network, table, identities, temperature=TEMPERATURE)
    batches = strategy.experimental_distribute_dataset(models.search_batches(size, identities, images=TABLE))
    same = itertools.repeat(next(iter(batches)))

    def step() -> None:
        float(model.train_function(same)["total"])  # which waits for the end of the step

    step()
    first, first_cpu = time.perf_counter() - begin, harness.cpu_seconds() - begin_cpu
    step()
    times: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while len(times) < 7 or time.perf_counter() - begin < SECONDS:
        times.append(harness.timed(step))
    return {
        "step s": statistics.median(wall for wall, _ in times),
        "CPU s": statistics.median(cpu for _, cpu in times),
        "first s": first,
        "first CPU s": first_cpu,
        "peak GB": harness.peak_gb(),
        "width": model.network.head.classifier.kernel.shape[0],
    }


def measure(dimension: str, value: str, point: dict[str, Any], head_width: int | None = None) -> dict[str, float]:
    """One point; where identities grow also the head alone, in another process."""
    found = measure_steps(point, head_width)
    if dimension in ("base", "identities") and head_width is None:
        (head,) = harness.worker(dimension=dimension, value=value, point=point, head_width=found["width"])
        found["head %"] = 100 * head["CPU s"] / found["CPU s"]
    return found


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The base, and every point in which one dimension differs from it."""
    base, growth = (QUICK, QUICK_GROWTH) if arguments.quick else (BASE, GROWTH)
    rows = [{"dimension": "base", "value": "", "point": base}]
    for dimension, values in growth.items():
        for value in values:
            text = "x".join(map(str, value)) if dimension == "pixels" else f"{value:,}"
            rows.append({"dimension": dimension, "value": text, "point": {**base, dimension: value}})
    return rows


def exponents(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds the exponents; the base, where it was measured, is a point of every dimension."""
    measured = [row for row in rows if "CPU s" in row]
    for dimension in GROWTH:

        def amount(row: dict[str, Any], dimension: str = dimension) -> int:
            value = row["point"][dimension]
            return math.prod(value) if dimension == "pixels" else value

        line = sorted((row for row in measured if row["dimension"] in ("base", dimension)), key=amount)
        for before, row in itertools.pairwise(line):
            if row["dimension"] != "base":
                row["exponent"] = math.log(row["CPU s"] / before["CPU s"]) / math.log(amount(row) / amount(before))
    return rows


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, derive=exponents)
