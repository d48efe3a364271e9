"""Steps of search and training with three kinds of input: for input_pipeline.py."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import processes
from search_step import REDUCTIONS
from step_models import random_table, search_model, training_model

INPUTS = {
    "memory": "a fixed batch in memory",
    "kept": "the pipeline, images kept in memory",
    "files": "the pipeline, from files",
}


class Step(NamedTuple):
    """A network in training; sizes as in search_step.py."""

    search: bool
    channels: int
    height: int
    width: int
    batch: int
    cells: int
    seconds: float = 4.0


STEPS = {
    "search 8 64 32 16 4": Step(True, 8, 64, 32, 16, 4),
    "search 16 128 64 16 8": Step(True, 16, 128, 64, 16, 8, 8.0),
    "student 16 64 32 32 4": Step(False, 16, 64, 32, 32, 4),
    "student 32 128 64 32 8": Step(False, 32, 128, 64, 32, 8, 8.0),
}
QUICK = {
    "search 4 32 16 4 1": Step(True, 4, 32, 16, 4, 1, 0.1),
    "student 4 32 16 4 1": Step(False, 4, 32, 16, 4, 1, 0.1),
}


def real_batches(
    records: Sequence[Any],
    size: tuple[int, int],
    padding: int,
    shape: tuple[int, int],
    *,
    kept: bool,
    epochs: int,
    paired: bool = False,
) -> Any:
    """Batches as the stages make them: P x K of `shape`, one or, for a search, two of the halves of the records."""
    from kdas_tf.data.image_cache import ImageCache
    from kdas_tf.data.pipeline import balanced_batches, paired_batches
    from kdas_tf.data.records import relabel
    from kdas_tf.data.splits import half_split
    from kdas_tf.data.transforms import Augmentation

    labels = relabel(records)[0]
    arguments: dict[str, Any] = {
        "records": records,
        "labels": labels,
        "image_size": size,
        "identities_per_batch": shape[0],
        "images_per_identity": shape[1],
        "augmentation": Augmentation(padding=padding),
        "epochs": epochs,
        "cache": ImageCache(records, size, limit=1e9 if kept else 0),
    }
    if not paired:
        return balanced_batches(indices=range(len(labels)), seed=0, **arguments)
    halves = half_split(labels, 0)
    return paired_batches({"train": (halves[0], 0), "val": (halves[1], 1)}, **arguments)


def timed(batches: Iterable[Any], number: int, warm: int = 3) -> dict[str, float]:
    """Seconds and CPU seconds of a number of batches, after some that are not counted."""
    iterator = iter(batches)
    for _ in range(warm):
        next(iterator)

    def read() -> None:
        for _ in range(number):
            next(iterator)

    wall, cpu = processes.timed(read)
    return {"seconds": wall, "cpu": cpu}


def make_model(step: Step, identities: int, images: int) -> Any:
    """A compiled model with a table of logits as its teacher, as at laptop scale."""
    from kdas_tf.genotype import NAMED
    from kdas_tf.models.networks import Student, Supernet

    network: dict[str, Any] = {
        "image_size": (step.height, step.width),
        "channels": step.channels,
        "cells": step.cells,
        "reductions": REDUCTIONS.get(step.cells, ()),
    }
    teacher = random_table(images, identities)
    if step.search:
        return search_model(Supernet(identities, **network), teacher, identities)
    student = Student(NAMED["AUTO_REID"], identities, **network)
    return training_model(student, teacher, identities, learning_rate=1e-4, temperature=1.0)


def measure(name: str, folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Times a step with every kind of input, in turn; `longer` is the median share by which it takes longer.

    Every turn has an iterator of its own, so that nothing is prepared while another one's steps are timed.
    """
    import tensorflow as tf

    from kdas_tf.data import market1501
    from kdas_tf.data.records import relabel

    processes.training_strategy()
    step = {**STEPS, **QUICK}[name]
    records = market1501.read(folder).train
    shape = (step.batch // 2, 2) if step.search else (step.batch // 4, 4)
    inputs = {
        kind: real_batches(
            records,
            (step.height, step.width),
            2,
            shape,
            kept=kind == "kept",
            epochs=10_000,
            paired=step.search,
        )
        for kind in ("kept", "files")
    }
    fixed = next(iter(inputs["files"]))
    inputs = {"memory": tf.data.Dataset.from_tensors(fixed).repeat(), **inputs}
    model = make_model(step, len(relabel(records)[1]), len(records))
    for batch, _ in zip(inputs["kept"], range(2 * len(records) // step.batch), strict=False):
        del batch  # an epoch, so that all images are kept
    run = model.train_function
    run(iter(inputs["memory"]))
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in inputs}
    number = max(2, round(step.seconds / _turn(run, iter(inputs["memory"]), 3)[0]))
    for turn in range(rounds):
        order = list(inputs) if turn % 2 == 0 else list(inputs)[::-1]
        for kind in order:
            times[kind].append(_turn(run, iter(inputs[kind]), number))
    return {
        kind: {
            "seconds": statistics.median(wall for wall, _ in found),
            "cpu": statistics.median(cpu for _, cpu in found),
            "longer": statistics.median(
                wall / other - 1 for (wall, _), (other, _) in zip(found, times["memory"], strict=True)
            ),
        }
        for kind, found in times.items()
    }


def _turn(run: Any, batches: Iterator[Any], number: int) -> tuple[float, float]:
    """Seconds and CPU seconds of a step, after three that are not counted."""
    for _ in range(3):
        run(batches)

    def steps() -> None:
        for _ in range(number):
            logs = run(batches)
        float(next(iter(logs.values())))  # waits for the last step

    wall, cpu = processes.timed(steps)
    return wall / number, cpu / number
