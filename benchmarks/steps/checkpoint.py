"""Measures what a checkpoint costs beside an epoch of the search.

Times a step as the search stage makes it (weights, then alphas, with a table of the teacher's logits; one fixed batch
in memory), and the saving of all of it: supernet, both optimizers, temperature, with checksums and flushed to the disk
of the system's temporary folder. There is a checkpoint after every epoch. An epoch here is less than a real one, which
also reads and judges.
"""

import argparse
import itertools
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import harness, models

SIZES = ("8 64 32 16 4",)
QUICK = ("4 32 16 4 1",)
IDENTITIES, STEPS = 150, 57  # of the embedded people as gin/search.gin draws them: people, and steps in an epoch
COLUMNS = {"C H W B cells": "", "": "", "s": ".3f", "CPU s": ".3f", "MB": ".2f", "of the epoch %": ".1f"}


def measure(**case: Any) -> list[dict[str, Any]]:
    """One size."""
    models.strategy()
    size = models.Size.parse(case["C H W B cells"])
    network = models.supernet(size, IDENTITIES)
    model = models.search_model(network, models.random_table(size.batch, IDENTITIES), IDENTITIES)
    batches = iter(models.search_batches(size, IDENTITIES, images=size.batch))
    take = {"step": lambda: model.train_function(batches)["val_total"].numpy()}  # waits for the end of the step
    step, step_cpu = harness.in_turn(take, case["steps"], warm_up=3)["step"]
    with tempfile.TemporaryDirectory() as name:
        save, epochs = models.checkpoints(Path(name), model), itertools.count(1)
        saved, saved_cpu = harness.in_turn({"save": lambda: save(next(epochs))}, 7)["save"]
        newest = max(Path(name).iterdir(), key=lambda path: path.stat().st_mtime)
        size_mb = sum(path.stat().st_size for path in newest.iterdir()) / 1e6
    epoch, epoch_cpu = STEPS * step, STEPS * step_cpu
    checkpoint = {
        "": "checkpoint",
        "s": saved,
        "CPU s": saved_cpu,
        "MB": size_mb,
        "of the epoch %": 100 * saved / epoch,
    }
    return [
        {"": "step", "s": step, "CPU s": step_cpu},
        {"": f"epoch of {STEPS} steps", "s": epoch, "CPU s": epoch_cpu},
        checkpoint,
    ]


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every size."""
    sizes, steps = (QUICK, 3) if arguments.quick else (arguments.sizes, 30)
    return [{"C H W B cells": size, "steps": steps} for size in sizes]


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, sizes=SIZES, rounds=3)
