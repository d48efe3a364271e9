"""Times steps of search and training with a fixed batch in memory, and with the input pipeline.

Steps are "search C H W B CELLS" and "student C H W B CELLS" with Auto-ReID's genotype, as in steps/search_step.py; the
teacher is a table of logits. The pipeline reads rendered people, or the photographs of --photographs; once its images
are kept in memory, once they come from files. The three take turns in one process, each turn with an iterator of its
own, so that nothing is prepared while another one's steps are timed. "longer %" is the median over the turns of how
much longer a step takes than that with the batch in memory.
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import harness, models
from benchmarks.input import pipeline

STEPS = ("search 8 64 32 16 4", "search 16 128 64 16 8", "student 16 64 32 32 4", "student 32 128 64 32 8")
QUICK = ("search 4 32 16 4 1", "student 4 32 16 4 1")
COLUMNS = {"step": "", "": "", "ms": ".1f", "CPU ms": ".1f", "longer %": ".1f"}
LABELS = {"memory": "batch in memory", "kept": "images kept", "files": "from files"}


def make_model(search: bool, size: models.Size, identities: int, images: int) -> Any:
    """A compiled model with a table of logits as its teacher, as at laptop scale."""
    teacher = models.random_table(images, identities)
    if search:
        return models.search_model(models.supernet(size, identities), teacher, identities)
    network = models.student(size, "AUTO_REID", identities)
    return models.training_model(network, teacher, identities, learning_rate=1e-4, temperature=1.0)


def measure(photographs: str, number: int, step: str = "", seconds: float = 0.0, row: str = "") -> list[dict[str, Any]]:
    """One step with all three inputs, in so many turns; or the photographs of all."""
    if row == "render":
        pipeline.render(Path(photographs), number)
        return []
    from kdas_tf.data import market1501
    from kdas_tf.data.records import relabel

    models.strategy()
    kind, _, text = step.partition(" ")
    search, size = kind == "search", models.Size.parse(text)
    records = market1501.read(Path(photographs)).train
    shape = (size.batch // 2, 2) if search else (size.batch // 4, 4)
    inputs = {
        name: models.real_batches(records, size.image_size, shape, padding=2, kept=name == "kept", paired=search)
        for name in ("kept", "files")
    }
    inputs = {"memory": models.repeated(next(iter(inputs["files"]))), **inputs}
    for _, _ in zip(inputs["kept"], range(2 * len(records) // size.batch), strict=False):
        pass  # an epoch, so that all images are kept
    run = make_model(search, size, len(relabel(records)[1]), len(records)).train_function
    run(iter(inputs["memory"]))
    steps = max(2, round(seconds / _turn(run, iter(inputs["memory"]), 3)[0]))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in inputs}
    for turn in range(number):
        for name in list(inputs)[:: -1 if turn % 2 else 1]:
            times[name].append(_turn(run, iter(inputs[name]), steps))
    rows = []
    for name, pairs in times.items():
        wall, cpu = (1e3 * statistics.median(each) for each in zip(*pairs, strict=True))
        rows.append({"": LABELS[name], "ms": wall, "CPU ms": cpu})
        if name != "memory":
            longer = [pair[0] / other[0] - 1 for pair, other in zip(pairs, times["memory"], strict=True)]
            rows[-1]["longer %"] = 100 * statistics.median(longer)
    return rows


def _turn(run: Any, batches: Iterator[Any], number: int) -> tuple[float, float]:
    """Seconds and CPU seconds of a step, after three that are not counted."""
    for _ in range(3):
        run(batches)

    def steps() -> None:
        for _ in range(number):
            logs = run(batches)
        float(next(iter(logs.values())))  # waits for the last step

    wall, cpu = harness.timed(steps)
    return wall / number, cpu / number


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every step."""
    turns, seconds = (1, 0.1) if arguments.quick else (arguments.turns, 6.0)
    common = {"photographs": pipeline.photographs_of(arguments), "number": turns, "seconds": seconds}
    return [{"step": step, **common} for step in (QUICK if arguments.quick else STEPS)]


def options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's own arguments."""
    pipeline.add_photographs(parser)
    parser.add_argument("--turns", type=harness.at_least_1, default=5, help="of each input in a process (default: 5)")


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options)
