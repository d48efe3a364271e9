"""The ablation: searches, trains and judges every row with every seed, and writes the paper's Table 1 and a second one.

The first table varies the objective of the search, and one training serves all its rows (the paper's caption). The
second varies the objective of the training on one genotype. Only both together show where a gain comes from.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files
from kdas_tf.drawing import comparison_plot, pictures
from kdas_tf.errors import UserError
from kdas_tf.evaluation import comparison
from kdas_tf.evaluation.comparison import Line, Table
from kdas_tf.evaluation.printing import millions
from kdas_tf.models import baselines
from kdas_tf.models.networks import trainable_parameters
from kdas_tf.settings import CellSettings, Job
from kdas_tf.stages import ablation_rows
from kdas_tf.stages import search as search_stage
from kdas_tf.stages import train as train_stage
from kdas_tf.stages.ablation_rows import AblationRow
from kdas_tf.stages.ablation_runs import Run, Runner, finished_runs
from kdas_tf.stages.stage import stage
from kdas_tf.training.callbacks import clock

RESULT = "table.json"

_NOTES = (
    "Mean ± sample standard deviation over the seeds; mAP and ranks in percent, of the network after its last epoch.",
    "A row is called higher or lower only where the 95 % confidence interval of the paired differences leaves out 0.",
    "The paper's numbers are on Market-1501 (Table 1; the teacher's are in Table 2).",
)


def check(
    *,
    seeds: Sequence[int],
    rows: Sequence[str] | None,
    hand_made: Sequence[str],
    search_temperatures: Mapping[str, Callable[[float], float]],
    train_temperatures: Mapping[str, Callable[[float], float]],
    chosen: str,
    chosen_seed: int,
    size_tolerance: float,
    **_: Any,
) -> None:
    """Refuses rows and seeds that cannot be, before data and teacher are made."""
    known = ablation_rows.make_rows(search_temperatures, train_temperatures, hand_made, chosen)
    wanted(known, rows, seeds, Run(Path(), known[chosen], chosen_seed))
    if not 0 <= size_tolerance < math.inf or chosen_seed < 0:
        raise UserError(
            "Expected table.run.size_tolerance and table.run.chosen_seed of at least 0, got "
            f"{size_tolerance} and {chosen_seed}.",
            code="range",
        )


def plan(job: Job, identities: int | None, *, student: CellSettings, **arguments: Any) -> list[str]:
    """Says what the stage would do: rows and seeds, what is done, parameters where they are known."""
    names = ("search_temperatures", "train_temperatures", "hand_made", "chosen")
    known = ablation_rows.make_rows(*(arguments[name] for name in names))
    chosen = Run(job.workdir, known[arguments["chosen"]], arguments["chosen_seed"])
    asked = wanted(known, arguments["rows"], arguments["seeds"], chosen)
    done = [run for run in asked if run.is_done]
    lines = [f"{len(asked)} runs, {len(done)} of them done"]
    for row in dict.fromkeys(run.row for run in asked):
        seeds = [f"{run.seed}{' (done)' if run in done else ''}" for run in asked if run.row == row]
        counts = {int(run.numbers["parameters"]) for run in _finished(row, chosen)}
        if row.architecture is not None:
            with keras.StatelessScope():  # counts without memory
                network = baselines.make(row.architecture, identities or 1, **student.arguments())
            counts = {trainable_parameters(network)}
        size = ", ".join(f"{millions(count)}" for count in sorted(counts))
        lines.append(f"{row.name}: seeds {', '.join(seeds)}" + (f"; {size} M trainable parameters" if size else ""))
    return lines


@stage(
    "table",
    result=RESULT,
    check=check,
    plan=plan,
    reads=lambda workdir, arguments: ("data", "teacher"),
    machines="one",
    trains_cells=True,
    grows=True,
    may_change=lambda arguments: ("seeds", "rows", "hand_made", "train.judge_every", "search.monitoring"),
    decided_by=("precision", "deterministic"),
)
def run(
    job: Job,
    *,
    student: CellSettings,
    seeds: Sequence[int] = (0, 1, 2),
    rows: Sequence[str] | None = None,
    hand_made: Sequence[str] = baselines.NAMES,
    search: Callable[..., None] = search_stage.run,
    train: Callable[..., None] = train_stage.run,
    search_temperatures: Mapping[str, Callable[[float], float]] = ablation_rows.SEARCH_TEMPERATURES,
    train_temperatures: Mapping[str, Callable[[float], float]] = ablation_rows.TRAIN_TEMPERATURES,
    chosen: str = "dynamic",
    chosen_seed: int = 0,
    size_tolerance: float = 0.1,
) -> None:
    """Does what is missing of the tables, and writes them again after each run: `table.md`, `.csv`, `.png`, `.json`.

    Every run has a workdir of its own, `table/ROW/seed_SEED`, with this run's data and teacher.

    Args:
        job: what the launcher sets; its workdir holds data and teacher.
        student: the networks that `train` trains, to count the parameters of random genotypes.
        seeds: of searches, drawn genotypes and trainings.
        rows: names of the rows to do; None does all.
        hand_made: architectures that are not searched, as in `kdas_tf.models.baselines.make`; a row each.
        search: searches, as the search stage.
        train: trains and judges, as the train stage; its own temperature serves the first table.
        search_temperatures: {name: T of the search as a function of the epoch}; a row each.
        train_temperatures: {name: T of the training}; a row `train_NAME` of the second table each, beside the
            training's own.
        chosen: searched row with whose size random genotypes are drawn, and whose genotype the second table trains.
        chosen_seed: seed of the search whose genotype that is.
        size_tolerance: share by which the parameters of a random genotype may differ from those of the searched one
            with the same seed.

    Raises:
        UserError: there is no such row, a seed is no seed, or a run fails; finished runs stay.
    """
    known = ablation_rows.make_rows(search_temperatures, train_temperatures, hand_made, chosen)
    first = Run(job.workdir, known[chosen], chosen_seed)
    runner = Runner(job, search, train, student, first, size_tolerance)
    asked = wanted(known, rows, seeds, first)
    for number, each in enumerate(asked, start=1):
        if each.is_done:
            continue
        left = time_left(asked)
        print(
            f"table: run {number} of {len(asked)}, {each.row.name} with seed {each.seed}; "
            f"{'time left not known yet' if left is None else f'time left about {clock(left)}'}",
            flush=True,
        )
        runner.do(each)
        write(known, first)
    print(write(known, first), flush=True)


def wanted(
    known: Mapping[str, AblationRow], names: Sequence[str] | None, seeds: Sequence[int], chosen: Run
) -> list[Run]:
    """The runs that are asked for: seed by seed, so that a table that is stopped has something in every row."""
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UserError(
            f"Expected table.run.rows to name rows of the table, {', '.join(known)}, got {unknown[0]!r}.", code="choice"
        )
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise UserError(
            f"Expected table.run.seeds to be different whole numbers from 0 on, got {list(seeds)}.", code="range"
        )
    rows = [row for row in known.values() if row.kind != "teacher" and (names is None or row.name in names)]
    runs = [Run(chosen.table, row, seed) for seed in seeds for row in rows]
    return list(dict.fromkeys(chosen if _is_chosen(run, chosen) else run for run in runs))


def _is_chosen(run: Run, chosen: Run) -> bool:
    """The chosen genotype, trained as in the first table with the seed that found it, has been trained there."""
    return run.row.kind == "training" and run.row.temperature is None and run.seed == chosen.seed


def _finished(row: AblationRow, chosen: Run) -> list[Run]:
    shared = _is_chosen(Run(chosen.table, row, chosen.seed), chosen)
    return finished_runs(chosen.table, row, chosen if shared else None)


def time_left(asked: Sequence[Run]) -> float | None:
    """Estimates the seconds that are left from finished runs, those of the same kind if there are any."""
    spent: dict[str, list[float]] = {}
    for run in asked:
        if run.is_done:
            spent.setdefault(run.row.kind, []).append(run.seconds)
    every = [seconds for of_kind in spent.values() for seconds in of_kind]
    if not every:
        return None
    left = [(spent.get(run.row.kind, every), run.seconds) for run in asked if not run.is_done]
    return sum(max(sum(alike) / len(alike) - seconds, 0.0) for alike, seconds in left)


def write(known: Mapping[str, AblationRow], chosen: Run) -> str:
    """Writes all files from all runs that are finished, whether or not they were asked for now; returns the text."""
    runs = {row.name: _finished(row, chosen) for row in known.values()}

    lines: dict[bool, list[Line]] = {False: [], True: []}  # of the trainings, which are the second table's: True
    for row in known.values():
        numbers = [run.numbers for run in runs[row.name]]
        seeds = [run.seed for run in runs[row.name]]
        line = Line(row.name, row.title, numbers, ablation_rows.published(row.name), seeds)
        lines[row.kind == "training"].append(line)
    drawn = [f"{run.drawn} (seed {run.seed})" for run in runs[ablation_rows.RANDOM]]
    draws = [f"Random genotypes drawn until one had about the wanted size: {', '.join(drawn)}."] if drawn else []
    only = f"All train the genotype of {chosen.row.title!r}, seed {chosen.seed}."
    tables = [
        Table("The objective of the search", lines[False], [*_NOTES, *draws], chosen.row.name),
        Table("The objective of the training", lines[True], [only], ablation_rows.TRAINED + chosen.row.name),
    ]
    folder, text = chosen.table / "table", comparison.markdown(tables)
    with files.replacing(folder / "table.md") as partial:
        partial.write_text(text, encoding="utf-8")
    comparison.write_csv(folder / "table.csv", tables)
    pictures.save(comparison_plot.plot(tables), folder / "table.png")
    compared = [
        each._asdict() | {"verdict": each.verdict} for table in tables for each in comparison.differences(table)
    ]
    done = [run.as_json(name) for name, finished in runs.items() for run in finished]
    files.write_json(folder / RESULT, {"runs": done, "differences": compared})
    return text
