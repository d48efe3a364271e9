"""Times the teacher's part of a search step, and what makes it smaller.

Steps of the search (weights, then alphas) with the teacher as a network, at T = 1 and at T = 0, in turn; and apart from
them, in turn, every way to get the logits of the two batches. "of a step %" is a way's seconds as a share of these and
the step at T = 0. "difference" is the largest of its logits to those of one pass, as a share of the largest logit. The
teacher has random weights and the statistics of the images. The paper's scale takes about five minutes and 10 GB.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks import harness, models

COLUMNS = {"scale": "", "": "", "s": ".4f", "CPU s": ".4f", "of a step %": ".1f", "difference": ".1e"}
LABELS = {
    "table": "clean view, run before: looked up",
    "one_pass": "one pass for both batches (the default)",
    "two_passes": "a pass for each batch",
    "folded": "one pass, normalisations folded into the convolutions",
    "bfloat16": "one pass in bfloat16",
}


class Scale(NamedTuple):
    """What gin/scale and gin/teacher say of a search."""

    size: models.Size
    identities: int
    backbone: str
    teacher_size: tuple[int, int]
    backbone_arguments: dict[str, Any] = {}


SCALES = {
    "laptop": Scale(models.Size(8, 64, 32, 16, 4), 150, "MobileNetV2", (128, 64)),
    "paper": Scale(models.Size(32, 384, 128, 16, 8), 751, "ResNet50", (384, 128)),
}
QUICK = {"tiny": Scale(models.Size(4, 32, 16, 4, 1), 10, "MobileNetV2", (32, 32), {"alpha": 0.35})}


def make_teacher(scale: Scale, dtype: str | None = None) -> Any:
    """An untrained teacher, in inference as costly as a trained one."""
    import keras

    from kdas_tf.models.teacher_network import Teacher

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype or policy)
    try:
        return Teacher(
            scale.backbone,
            scale.identities,
            image_size=scale.teacher_size,
            weights=None,
            backbone_arguments=scale.backbone_arguments,
        )
    finally:
        keras.config.set_dtype_policy(policy)


def passes(scale: Scale) -> dict[str, Callable[[], Any]]:
    """Every way to get the logits of the two batches of a step, compiled."""
    import tensorflow as tf

    from kdas_tf.serving.graphs.folding import fold_functional

    batch = scale.size.batch
    images = tf.random.uniform([2 * batch, *scale.size.image_size, 3], 0, 255)
    halves, index = tf.split(images, 2), tf.range(2 * batch)
    network = make_teacher(scale)
    models.use_statistics_of(images, network)
    folded, half = make_teacher(scale), make_teacher(scale, "mixed_bfloat16")
    for copy in (folded, half):
        copy.set_weights(network.get_weights())
    folded.backbone = fold_functional(network.backbone)
    table = models.random_table(1000, scale.identities)

    def logits(network: Any, images: Any) -> Any:
        return network(images, training=False).logits

    ways: dict[str, Callable[[], Any]] = {
        "table": lambda: table(index),
        "one_pass": lambda: logits(network, images),
        "two_passes": lambda: tf.concat([logits(network, half) for half in halves], 0),
        "folded": lambda: logits(folded, images),
        "bfloat16": lambda: logits(half, images),
    }
    compiled = {name: tf.function(way) for name, way in ways.items()}
    return {name: lambda way=way: way().numpy() for name, way in compiled.items()}  # waits for the result


def make_step(scale: Scale) -> Callable[[float], Any]:
    """A search step (weights, then alphas) with the teacher as a network, as a function of the temperature."""
    network = models.supernet(scale.size, scale.identities)
    model = models.search_model(network, make_teacher(scale), scale.identities)
    batches = iter(models.search_batches(scale.size, scale.identities))

    def run(temperature: float) -> Any:
        model.temperature.assign(temperature)
        return model.train_function(batches)["total"].numpy()

    return run


def measure(scale: str, repeats: int) -> list[dict[str, Any]]:
    """All ways and the step, in this process."""
    import keras
    import numpy as np

    models.strategy()
    keras.utils.set_random_seed(0)
    chosen = {**SCALES, **QUICK}[scale]
    ways = passes(chosen)
    found = harness.in_turn(ways, repeats)
    expected = ways["one_pass"]()
    differences = {
        name: float(np.abs(ways[name]() - expected).max() / np.abs(expected).max())
        for name in ("two_passes", "folded", "bfloat16")
    }
    del ways
    run = make_step(chosen)
    steps = harness.in_turn({"T = 0": lambda: run(0.0), "T = 1": lambda: run(1.0)}, repeats)
    rows = [{"": f"a step of the search at {name}", "s": wall, "CPU s": cpu} for name, (wall, cpu) in steps.items()]
    for name, (wall, cpu) in found.items():
        share = 100 * wall / (steps["T = 0"][0] + wall)
        rows.append({"": LABELS[name], "s": wall, "CPU s": cpu, "of a step %": share})
        rows[-1] |= {"difference": differences[name]} if name in differences else {}
    return rows


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every scale."""
    return [{"scale": scale, "repeats": arguments.repeats} for scale in (QUICK if arguments.quick else SCALES)]


def options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's own arguments."""
    parser.add_argument("--repeats", type=harness.at_least_1, default=5, help="timed runs of everything, in turn")


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options)
