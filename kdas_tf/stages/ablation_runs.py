"""One run of the ablation: a row with a seed, in a folder of its own, that can be stopped and continued."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras

from kdas_tf import files, genotype
from kdas_tf.errors import UserError
from kdas_tf.evaluation.comparison import NUMBERS, Numbers
from kdas_tf.genotype import Genotype
from kdas_tf.models.costs import derived_parameters
from kdas_tf.stages import search as search_stage
from kdas_tf.stages import teacher as teacher_stage
from kdas_tf.stages import train as train_stage
from kdas_tf.stages.ablation_rows import Row
from kdas_tf.training.devices.replicas import Strategy

SHARED = ("data", "teacher")
"""Stages whose folders all runs of a table use."""

SECONDS = "seconds.json"
MAX_DRAWS = 10_000
"""Random genotypes that are drawn before the nearest one has to do."""


class Run(NamedTuple):
    """A row with one seed."""

    row: Row
    seed: int

    def folder(self, workdir: Path) -> Path:
        """Its workdir, in that of the table."""
        return workdir / "table" / self.row.name / f"seed_{self.seed}"

    def genotype_file(self, workdir: Path) -> Path:
        """What its search has found, or what was drawn for it."""
        return self.folder(workdir) / "search" / search_stage.RESULT

    def is_done(self, workdir: Path) -> bool:
        """Whether it has been trained to its end."""
        return (self.folder(workdir) / "train" / train_stage.RESULT).exists()

    def seconds(self, workdir: Path) -> float:
        """How long it has taken so far, over all times it was continued."""
        try:
            return float(files.read_json(self.folder(workdir) / SECONDS)["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0


class Stages(NamedTuple):
    """What all runs of a table are done with.

    Attributes:
        search: as `kdas_tf.stages.search.run`.
        train: as `kdas_tf.stages.train.run`.
        strategy: devices.
        chosen: the run whose genotype the second table trains.
        student: channels, cells, reductions and stem of what `train` trains.
        size_tolerance: share by which a random genotype's parameters may differ.
    """

    search: Callable[..., None]
    train: Callable[..., None]
    strategy: Strategy
    chosen: Run
    student: dict[str, Any]
    size_tolerance: float


def do(run: Run, workdir: Path, stages: Stages) -> None:
    """Does a run, or what is left of it.

    Raises:
        UserError: it needs another run first, or one of its stages fails.
    """
    folder, row = run.folder(workdir), run.row
    arguments: dict[str, Any] = {"workdir": folder, "seed": run.seed, "strategy": stages.strategy}
    training: dict[str, Any] = {}
    prepare(folder)
    started, before = time.monotonic(), run.seconds(workdir)
    try:
        if row.kind == "search" and not run.genotype_file(workdir).exists():
            stages.search(**arguments, temperature=row.temperature)
        elif row.kind == "random" and not run.genotype_file(workdir).exists():
            draw(run, workdir, stages)
        elif row.kind == "hand-made":
            training["architecture"] = row.architecture
        elif row.kind == "training":
            training["architecture"] = str(_existing(stages.chosen, workdir, needed_by=run))
            if row.temperature is not None:
                training["temperature"] = row.temperature
        stages.train(**arguments, **training)
    finally:
        files.write_json(folder / SECONDS, {"seconds": round(before + time.monotonic() - started, 1)})
        free_memory()


def free_memory() -> None:
    """Lets go of the networks of a run: dozens of them follow one another in one process."""
    policy = keras.config.dtype_policy()
    keras.utils.clear_session()  # which also forgets the precision
    keras.config.set_dtype_policy(policy)


def prepare(folder: Path) -> None:
    """Makes a run's folder, in which data and teacher are those of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SHARED:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(Path("../../..") / name)  # relative: a copy must not use the original's


def draw(run: Run, workdir: Path, stages: Stages) -> None:
    """Writes a random genotype of about the size of what the chosen row's search with the same seed has found.

    Raises:
        UserError: that search has not been trained yet, or trained another network than parameters are counted for.
    """
    matched = Run(stages.chosen.row, run.seed)
    found = genotype.load(_existing(matched, workdir, needed_by=run))
    trained = matched.folder(workdir) / "train" / train_stage.RESULT
    if not trained.exists():
        raise _missing(matched, trained, needed_by=run)
    wanted = int(_numbers(trained)["parameters"])
    identities = _read(matched.genotype_file(workdir))["derived_from"]["identities"]

    def count(one: Genotype) -> int:
        return derived_parameters(one, identities, **stages.student)

    if count(found) != wanted:
        raise UserError(
            f"{trained} has {wanted} trainable parameters, but table.run.channels, cells, reductions and stem give "
            f"{count(found)} for its genotype. Give the table the same ones as train.run."
        )
    first = run.seed * MAX_DRAWS
    best, drawn = genotype.random_genotype(first), 1
    while abs(count(best) - wanted) > stages.size_tolerance * wanted and drawn < MAX_DRAWS:
        one = genotype.random_genotype(first + drawn)
        drawn += 1
        best = min(best, one, key=lambda each: abs(count(each) - wanted))
    derived_from = {"drawn": drawn, "parameters": count(best), "parameters_wanted": wanted}
    genotype.save(run.genotype_file(workdir), best, derived_from=derived_from)
    print(
        f"table: {drawn} random genotypes drawn to find one of {count(best) / 1e6:.3f} M parameters, for "
        f"{wanted / 1e6:.3f} M of {matched.row.name}",
        flush=True,
    )


def _existing(run: Run, workdir: Path, *, needed_by: Run) -> Path:
    path = run.genotype_file(workdir)
    if not path.exists():
        raise _missing(run, path, needed_by=needed_by)
    return path


def _missing(run: Run, path: Path, *, needed_by: Run) -> UserError:
    return UserError(
        f"The row {needed_by.row.name} needs the network of the row {run.row.name} with seed {run.seed}, but there is "
        f"no {path}. Run that one first: --gin_param=\"table.run.rows=['{run.row.name}']\" "
        f"--gin_param='table.run.seeds=[{run.seed}]'."
    )


class Finished(NamedTuple):
    """What a run has come to.

    Attributes:
        row: name of its row.
        seed: of the run; None for the teacher, which has one run.
        folder: in the workdir.
        numbers: of the network after its last epoch; without mAP and ranks if there is nothing to judge on.
        seconds: that it took; None if that was not measured.
        drawn: how many random genotypes were drawn for it; None if none were.
    """

    row: str
    seed: int | None
    folder: str
    numbers: Numbers
    seconds: float | None = None
    drawn: int | None = None

    def as_json(self) -> dict[str, Any]:
        """All of it on one level."""
        rest = self._asdict()
        return {"row": rest.pop("row"), "seed": rest.pop("seed"), **rest.pop("numbers"), **rest}


def finished(row: Row, runs: Sequence[Run], workdir: Path) -> list[Finished]:
    """Those of the runs of a row that are done, with their numbers; one may be shared with another row."""
    found = []
    for run in runs:
        if run.is_done(workdir):
            folder = run.folder(workdir)
            numbers = _numbers(folder / "train" / train_stage.RESULT)
            origin = _read(run.genotype_file(workdir)).get("derived_from", {}) if row.kind == "random" else {}
            place = folder.relative_to(workdir).as_posix()
            found.append(Finished(row.name, run.seed, place, numbers, run.seconds(workdir), origin.get("drawn")))
    return found


def finished_teacher(row: Row, workdir: Path) -> list[Finished]:
    """The teacher with what its stage has measured; nothing where that was not measured."""
    numbers = _numbers(workdir / "teacher" / teacher_stage.RESULT)
    return [Finished(row.name, None, "teacher", numbers)] if "mAP" in numbers else []


def _numbers(path: Path) -> Numbers:
    content = _read(path)
    numbers = {**content["results"], "parameters": content.get("parameters")}
    return {name: float(numbers[name]) for name in NUMBERS if numbers.get(name) is not None}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = dict(files.read_json(path))
        content["results"] = dict(content.get("results", {}))
        return content
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Delete it to do that part of the table again."
        ) from error


def runs_on_disk(row: Row, workdir: Path) -> list[Run]:
    """All runs of a row that have a folder, in the order of their seeds."""
    names = [path.name.removeprefix("seed_") for path in (workdir / "table" / row.name).glob("seed_*")]
    return [Run(row, seed) for seed in sorted(int(name) for name in names if name.isdecimal())]
