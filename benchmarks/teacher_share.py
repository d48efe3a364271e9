"""Times the teacher's part of a search step, and what makes it smaller.

    python benchmarks/teacher_share.py [--scales laptop paper] [--repeats 5] [--quick]

Prints a table for each scale, then the same as JSON on the last line. Paper scale takes about five minutes and 10 GB.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import processes
from step_models import random_batch, search_model

ROWS = {
    "labels": "T = 0: not run",
    "table": "clean view, run before: looked up",
    "one_pass": "one pass for both batches",
    "two_passes": "a pass for each batch",
    "folded": "one pass, normalisations folded",
    "bfloat16": "one pass in bfloat16",
}


class Scale(NamedTuple):
    """What gin/scale and gin/teacher say of a search."""

    channels: int
    image_size: tuple[int, int]
    batch: int
    cells: int
    reductions: tuple[int, ...]
    identities: int
    backbone: str
    teacher_size: tuple[int, int]
    backbone_arguments: dict[str, Any] = {}


SCALES = {
    "laptop": Scale(8, (64, 32), 16, 4, (1, 3), 150, "MobileNetV2", (128, 64)),
    "paper": Scale(32, (384, 128), 16, 8, (2, 4, 6), 751, "ResNet50", (384, 128)),
}
QUICK = {"tiny": Scale(4, (32, 16), 4, 1, (), 10, "MobileNetV2", (32, 32), {"alpha": 0.35})}


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


def teachers(scale: Scale, images: Any) -> dict[str, Any]:
    """The same teacher in every form; its statistics are those of some images, as after training."""
    import numpy as np

    from kdas_tf.models.teacher_network import TeacherTable
    from kdas_tf.serving.graphs.folding import fold_functional
    from kdas_tf.training.batch_norm import configure_batch_norm

    network = make_teacher(scale)
    configure_batch_norm(network, replicas=1, momentum=0.0)
    network(images, training=True)
    folded, half = make_teacher(scale), make_teacher(scale, "mixed_bfloat16")
    for copy in (folded, half):
        copy.set_weights(network.get_weights())
    folded.backbone = fold_functional(network.backbone)
    table = TeacherTable(np.zeros((1000, scale.identities), "float32"))
    return {"network": network, "folded": folded, "bfloat16": half, "table": table}


def passes(scale: Scale) -> dict[str, Callable[[], Any]]:
    """Every way to get the logits of the two batches of a step, compiled."""
    import tensorflow as tf

    images = tf.random.uniform([2 * scale.batch, *scale.image_size, 3], 0, 255)
    halves, index = tf.split(images, 2), tf.range(2 * scale.batch)
    made = teachers(scale, images)

    def logits(name: str, images: Any) -> Any:
        return made[name](images, training=False).logits

    ways: dict[str, Callable[[], Any]] = {
        "table": lambda: made["table"](index),
        "one_pass": lambda: logits("network", images),
        "two_passes": lambda: tf.concat([logits("network", half) for half in halves], 0),
        "folded": lambda: logits("folded", images),
        "bfloat16": lambda: logits("bfloat16", images),
    }
    return {name: tf.function(way) for name, way in ways.items()}


def make_step(scale: Scale) -> Callable[[float], Any]:
    """A search step (weights, then alphas) with the teacher as a network, as a function of the temperature."""
    import tensorflow as tf

    from kdas_tf.models.networks import Supernet

    supernet = Supernet(
        scale.identities,
        image_size=scale.image_size,
        channels=scale.channels,
        cells=scale.cells,
        reductions=scale.reductions,
    )
    model = search_model(supernet, make_teacher(scale), scale.identities)
    batch = random_batch(scale.image_size, scale.batch, scale.identities, images=scale.batch, seed=0)
    batches = iter(tf.data.Dataset.from_tensors({"train": batch, "val": batch}).repeat())

    def run(temperature: float) -> Any:
        model.temperature.assign(temperature)
        return model.train_function(batches)["total"]

    return run


def in_turn(works: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """As `processes.in_turn`, of works whose results are there only once they are asked for."""
    return processes.in_turn({name: lambda work=work: work().numpy() for name, work in works.items()}, repeats)


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Times all ways and the step in this process."""
    import keras
    import numpy as np

    processes.training_strategy()
    keras.utils.set_random_seed(0)
    scale = {**SCALES, **QUICK}[name]
    ways = passes(scale)
    found = in_turn(ways, repeats)
    expected = ways["one_pass"]().numpy()
    for way in ("two_passes", "folded", "bfloat16"):
        logits = ways[way]().numpy()
        found[way]["difference"] = float(np.abs(logits - expected).max() / np.abs(expected).max())
    del ways
    run = make_step(scale)
    step = in_turn({"labels": lambda: run(0.0), "network": lambda: run(1.0)}, repeats)
    return {"passes": found, "step": step, "rss": processes.peak_memory() / 1e9}


def print_table(result: dict[str, Any]) -> None:
    """Prints what a step takes with each way, for people."""
    scale, step, found = result["scale"], result["step"], result["passes"]
    print(f"{scale}: a step with the network as teacher {step['network']['seconds']:.3f} s, at T = 0 ", end="")
    print(f"{step['labels']['seconds']:.3f} s; peak {result['rss']:.2f} GB")
    print(f"{'':<36} {'teacher s':>10} {'CPU s':>8} {'of a step':>10} {'difference':>11}")
    for name, label in ROWS.items():
        if name == "labels":
            numbers = f"{0:>10.4f} {0:>8.4f} {'0.0%':>10}"
        else:
            own = found[name]["seconds"]
            share = own / (step["labels"]["seconds"] + own)
            numbers = f"{own:>10.4f} {found[name]['cpu']:>8.4f} {100 * share:>9.1f}%"
        difference = found.get(name, {}).get("difference")
        print(f"{label:<36} {numbers}" + ("" if difference is None else f" {difference:>11.1e}"))


def main() -> None:
    """Measures every scale and prints the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", nargs="+", choices=SCALES, default=["laptop"], help="default: laptop")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of everything, in turn; medians are shown")
    parser.add_argument("--quick", action="store_true", help="a tiny supernet and teacher instead")
    parser.add_argument("--worker", choices={**SCALES, **QUICK}, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("expected --repeats of at least 1")
    if arguments.worker:
        print(json.dumps(measure(arguments.worker, arguments.repeats)))
        return
    results = []
    for scale in QUICK if arguments.quick else arguments.scales:
        processes.progress(f"measuring {scale} scale ...")
        worker = ["--worker", scale, "--repeats", arguments.repeats]
        results.append({"scale": scale, **processes.measure(worker, f"The search step at {scale} scale")})
    for result in results:
        print_table(result)
    processes.print_json("teacher_share", results)


if __name__ == "__main__":
    main()
