"""The ablation: searches, trains and judges every row with every seed, and writes the paper's Table 1 and a second one.

The first table varies the objective of the search, and one training serves all its rows (the paper's caption). The
second varies the objective of the training on one genotype. Only both together show where a gain comes from.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files, genotype
from kdas_tf.drawing import comparison_plot, pictures
from kdas_tf.errors import UserError
from kdas_tf.evaluation import comparison
from kdas_tf.evaluation.comparison import Line, Table
from kdas_tf.models import baselines
from kdas_tf.models.costs import derived_parameters
from kdas_tf.models.networks import PAPER_REDUCTIONS, trainable_parameters
from kdas_tf.stages import ablation_rows as table_rows
from kdas_tf.stages import ablation_runs
from kdas_tf.stages import search as search_stage
from kdas_tf.stages import train as train_stage
from kdas_tf.stages.ablation_rows import Row
from kdas_tf.stages.ablation_runs import Finished, Run, Stages
from kdas_tf.training.callbacks import clock
from kdas_tf.training.devices.replicas import Strategy

RESULT = "table.json"
ONE_MACHINE = True
CELLS = True
FREE = ("seeds", "rows", "hand_made")
"""Arguments that say how much of the table is done now; they may differ from one command to the next."""

_NOTES = (
    "Mean ± sample standard deviation over the seeds; mAP and ranks in percent, of the network after its last epoch.",
    "The paper's numbers are on Market-1501 (Table 1; the teacher's are in Table 2).",
)


def run(
    *,
    workdir: Path,
    strategy: Strategy,
    seeds: Sequence[int] = (0, 1, 2),
    rows: Sequence[str] | None = None,
    hand_made: Sequence[str] = table_rows.HAND_MADE,
    search: Callable[..., None] = search_stage.run,
    train: Callable[..., None] = train_stage.run,
    search_temperatures: Mapping[str, Callable[[float], float]] = table_rows.SEARCH_TEMPERATURES,
    train_temperatures: Mapping[str, Callable[[float], float]] = table_rows.TRAIN_TEMPERATURES,
    chosen: str = "dynamic",
    chosen_seed: int = 0,
    channels: int = 64,
    cells: int = 8,
    reductions: Sequence[int] = PAPER_REDUCTIONS,
    stem: str = "inet4",
    size_tolerance: float = 0.1,
) -> None:
    """Does what is missing of the tables, and writes them again after each run: `table.md`, `.csv`, `.png`, `.json`.

    Every run has a workdir of its own, `table/ROW/seed_SEED`, with this run's data and teacher.

    Args:
        workdir: folder of the run, with data and teacher.
        strategy: devices.
        seeds: of searches, drawn genotypes and trainings.
        rows: names of the rows to do; None does all.
        hand_made: architectures that are not searched, as in `kdas_tf.models.baselines.make`; a row each.
        search: searches, as the search stage.
        train: trains and judges, as the train stage; its own temperature serves the first table.
        search_temperatures: {name: T of the search as a function of the epoch}; a row each.
        train_temperatures: {name: T of the training}; a row `train_NAME` of the second table each, beside the
            training's own.
        chosen: searched row with whose size random genotypes are drawn, and whose genotype the second table trains.
        chosen_seed: seed of the search that found this genotype.
        channels: C of the networks that `train` trains, to count the parameters of random genotypes.
        cells: number of their cells.
        reductions: positions of their reduction cells, counted from 0.
        stem: of these networks.
        size_tolerance: share by which the parameters of a random genotype may differ from those of the searched one
            with the same seed.

    Raises:
        UserError: there is no such row, a seed is no seed, or a run fails; finished runs stay.
    """
    known = table_rows.make_rows(search_temperatures, train_temperatures, hand_made, chosen)
    first = Run(known[chosen], chosen_seed)
    student = {"channels": channels, "cells": cells, "reductions": reductions, "stem": stem}
    stages = Stages(search, train, strategy, first, student, size_tolerance)
    asked = wanted(known, rows, seeds, first)
    for number, one in enumerate(asked, start=1):
        if one.is_done(workdir):
            continue
        left = time_left(asked, workdir)
        print(
            f"table: run {number} of {len(asked)}, {one.row.name} with seed {one.seed}; "
            f"{'time left not known yet' if left is None else f'time left about {clock(left)}'}",
            flush=True,
        )
        ablation_runs.do(one, workdir, stages)
        write(known, workdir, first)
    print(write(known, workdir, first), flush=True)


def wanted(known: Mapping[str, Row], names: Sequence[str] | None, seeds: Sequence[int], chosen: Run) -> list[Run]:
    """The runs that are asked for: seed by seed, so that a table that is stopped has something in every row.

    Raises:
        UserError: there is no such row, or a seed is no seed.
    """
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UserError(f"Expected table.run.rows to name rows of the table, {', '.join(known)}, got {unknown[0]!r}.")
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(f"Expected table.run.seeds to be different whole numbers from 0 on, got {list(seeds)}.")
    rows = [row for row in known.values() if row.kind != "teacher" and (names is None or row.name in names)]
    found = [_same(Run(row, seed), chosen) for seed in seeds for row in rows]
    return list(dict.fromkeys(found))


def _same(run: Run, chosen: Run) -> Run:
    """The chosen genotype, trained as in the first table with the seed that found it, has been trained there."""
    return chosen if run.row.kind == "training" and run.row.temperature is None and run.seed == chosen.seed else run


def time_left(asked: Sequence[Run], workdir: Path) -> float | None:
    """Estimates the seconds that are left from finished runs, those of the same kind if there are any."""
    spent: dict[str, list[float]] = {}
    for run in asked:
        if run.is_done(workdir):
            spent.setdefault(run.row.kind, []).append(run.seconds(workdir))
    every = [seconds for one in spent.values() for seconds in one]
    if not every:
        return None
    left = 0.0
    for run in asked:
        if not run.is_done(workdir):
            alike = spent.get(run.row.kind, every)
            left += max(sum(alike) / len(alike) - run.seconds(workdir), 0.0)
    return left


def write(known: Mapping[str, Row], workdir: Path, chosen: Run) -> str:
    """Writes all files from all runs that are finished, whether or not they were asked for now; returns the text."""
    found = {row.name: _finished(row, workdir, chosen) for row in known.values()}

    def lines(*, of_training: bool) -> list[Line]:
        rows = [row for row in known.values() if (row.kind == "training") == of_training]
        numbers = {row.name: [one.numbers for one in found[row.name]] for row in rows}
        return [Line(row.name, row.title, numbers[row.name], table_rows.published(row.name)) for row in rows]

    drawn = [f"{one.drawn} (seed {one.seed})" for one in found[table_rows.RANDOM]]
    draws = [f"Random genotypes drawn until one had about the wanted size: {', '.join(drawn)}."] if drawn else []
    only = f"All train the genotype of {known[chosen.row.name].title!r}, seed {chosen.seed}."
    tables = [
        Table("The objective of the search", lines(of_training=False), [*_NOTES, *draws]),
        Table("The objective of the training", lines(of_training=True), [only]),
    ]
    folder, text = workdir / "table", comparison.markdown(tables)
    with files.replacing(folder / "table.md") as partial:
        partial.write_text(text, encoding="utf-8")
    comparison.write_csv(folder / "table.csv", tables)
    pictures.save(comparison_plot.plot(tables), folder / "table.png")
    files.write_json(folder / RESULT, {"runs": [one.as_json() for of_row in found.values() for one in of_row]})
    return text


def _finished(row: Row, workdir: Path, chosen: Run) -> list[Finished]:
    if row.kind == "teacher":
        return ablation_runs.finished_teacher(row, workdir)
    runs = [_same(Run(row, chosen.seed), chosen), *ablation_runs.runs_on_disk(row, workdir)]
    return ablation_runs.finished(row, sorted(set(runs), key=lambda run: run.seed), workdir)


def plan(*, workdir: Path, num_identities: int, **arguments: Any) -> list[str]:
    """Says what the stage would do: rows and seeds, what is done, parameters where they are known."""
    arguments = {name: p.default for name, p in inspect.signature(run).parameters.items()} | arguments
    names = ("search_temperatures", "train_temperatures", "hand_made", "chosen")
    known = table_rows.make_rows(*(arguments[name] for name in names))
    chosen = Run(known[arguments["chosen"]], arguments["chosen_seed"])
    asked = wanted(known, arguments["rows"], arguments["seeds"], chosen)
    done = [one for one in asked if one.is_done(workdir)]
    lines = [f"{len(asked)} runs, {len(done)} of them done"]
    student = {name: arguments[name] for name in ("channels", "cells", "reductions", "stem")}
    for row in dict.fromkeys(one.row for one in asked):
        seeds = [f"{one.seed}{' (done)' if one in done else ''}" for one in asked if one.row == row]
        counts = {int(one.numbers["parameters"]) for one in _finished(row, workdir, chosen)}
        if row.architecture is not None:
            counts = {_parameters(row.architecture, num_identities, student)}
        size = ", ".join(f"{count / 1e6:.2f}" for count in sorted(counts))
        lines.append(f"{row.name}: seeds {', '.join(seeds)}" + (f"; {size} M trainable parameters" if size else ""))
    return lines


def _parameters(architecture: str, num_identities: int, student: Mapping[str, Any]) -> int:
    if architecture in genotype.NAMED or Path(architecture).is_file():
        return derived_parameters(genotype.load(architecture), num_identities, **student)
    with keras.StatelessScope():  # counts without memory; the size of the image has no influence
        return trainable_parameters(baselines.make(architecture, num_identities, image_size=(64, 64)))
