"""Times a training step of a derived network, and the same network in eager PyTorch beside it (torch_student.py).

Sizes are "C H W B CELLS", as in search_step.py. A step is the train stage's at T = 0: cross-entropy, batch-hard
triplet, Adam, 751 identities; one fixed batch in memory. Before PyTorch is timed, our weights, after a few steps, are
copied into its network (student_weights.py); "difference" is the largest of its features, embeddings and logits in
inference, as a share of the largest number, and "loss" that of the loss in training.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import harness, models

PEER = Path(__file__).with_name("torch_student.py")
SIZES = ("64 384 128 32 8",)
QUICK = ("6 32 16 8 2",)
COLUMNS = {
    "C H W B cells": "",
    "": "",
    "step s": ".3f",
    "CPU s": ".3f",
    "first s": ".1f",
    "peak GB": ".2f",
    "parameters": ",",
    "difference": ".1e",
    "loss": ".1e",
}


def measure_ours(size: models.Size, genotype: str, repeats: int) -> dict[str, float]:
    """Times our steps in this process; the first one, which builds and traces, apart."""
    models.strategy()
    begin = time.perf_counter()
    student = models.student(size, genotype)
    model = models.training_model(student, None, models.MARKET1501, learning_rate=3.5e-4)
    batches = iter(models.repeated(models.random_batch(size.image_size, size.batch, models.MARKET1501, per_identity=4)))
    step = {"": lambda: float(model.train_function(batches)["total"])}  # waits for the end of the step
    step[""]()
    first = time.perf_counter() - begin
    ((wall, cpu),) = harness.in_turn(step, repeats).values()
    parameters = sum(v.value.shape.num_elements() for v in student.trainable_variables)
    row = {"step s": wall, "CPU s": cpu, "first s": first}
    return {**row, "peak GB": harness.peak_gb(), "parameters": parameters}


def write_check(size: models.Size, genotype: str, folder: Path) -> None:
    """Writes the genotype, weights, a batch, and what our network makes of it; statistics are those of a few steps."""
    import numpy as np
    import tensorflow as tf

    from benchmarks.steps import student_weights
    from kdas_tf import genotype as genotypes

    genotypes.save(folder / "genotype.json", genotypes.load(genotype))
    tf.keras.utils.set_random_seed(0)
    # Of a smaller batch and image, but the same network: the weights do not depend on them.
    size = size._replace(height=min(128, size.height), width=min(64, size.width), batch=8)
    student = models.student(size, genotype)
    model = models.training_model(student, None, models.MARKET1501, learning_rate=1e-3)
    batch = models.random_batch(size.image_size, size.batch, models.MARKET1501, per_identity=4)
    batches = iter(models.repeated(batch))
    for _ in range(3):
        model.train_function(batches)
    weights = student_weights.arrays(student)
    outputs, loss = models.outputs_and_loss(model, batch)
    arrays = {f"weight_{i}": weight for i, weight in enumerate(weights)}
    batch_arrays = {"images": batch["image"], "labels": batch["label"]}
    np.savez(folder / "check.npz", weights=len(weights), loss=loss, **batch_arrays, **arrays, **outputs)


def measure_peer(case: dict[str, Any], size: models.Size) -> dict[str, float]:
    """Times PyTorch, and compares its outputs with those of our network."""
    folder = Path(case["folder"], case["C H W B cells"].replace(" ", "_"))
    if not folder.exists():
        harness.worker(**{**case, "": "check"})
    reductions = ["--reductions", *models.REDUCTIONS[size.cells], "--identities", models.MARKET1501]
    arguments = [folder / "genotype.json", *size, *reductions]
    ways = ["--check", folder / "check.npz"], ["--repeats", case["repeats"]]
    check, found = (json.loads(harness.other_python(case["python"], PEER, [*arguments, *way])[-1]) for way in ways)
    difference = max(check[f"{name}_difference"] for name in ("features", "embedding", "logits"))
    row = {"step s": found["seconds"], "CPU s": found["cpu"], "peak GB": found["rss"]}
    return {**row, "parameters": found["parameters"], "difference": difference, "loss": check["loss_difference"]}


def measure(**case: Any) -> dict[str, float]:
    """One size, ours or PyTorch's; or what their comparison needs."""
    size = models.Size.parse(case["C H W B cells"])
    if case[""] == "ours":
        return measure_ours(size, case["genotype"], case["repeats"])
    if case[""] == "check":
        folder = Path(case["folder"], case["C H W B cells"].replace(" ", "_"))
        folder.mkdir()
        write_check(size, case["genotype"], folder)
        return {}
    return measure_peer(case, size)


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every size, ours and PyTorch's in turn."""
    common = {"genotype": arguments.genotype, "repeats": arguments.repeats}
    peer = {"python": arguments.peer_python, "folder": arguments.folder}
    rows = []
    for size in QUICK if arguments.quick else arguments.sizes:
        models.Size.parse(size)
        rows += [
            {"C H W B cells": size, "": "ours", **common},
            {"C H W B cells": size, "": "eager PyTorch", **common, **peer},
        ]
    return rows


def options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's own arguments."""
    parser.add_argument("--genotype", default="AUTO_REID", help="a known name, or a genotype.json")
    parser.add_argument("--repeats", type=harness.at_least_1, default=5, help="timed steps in a process (default: 5)")
    parser.add_argument("--peer_python", default=sys.executable, help="a Python that has PyTorch (default: this one)")


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options, sizes=SIZES, rounds=3)
