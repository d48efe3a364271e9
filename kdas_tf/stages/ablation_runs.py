"""One run of the ablation: a row with a seed, in a folder of its own, that can be stopped and continued."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files, genotype
from kdas_tf.errors import UserError
from kdas_tf.evaluation.comparison import NUMBERS, Numbers
from kdas_tf.evaluation.printing import millions
from kdas_tf.genotype import Genotype
from kdas_tf.models.costs import derived_parameters
from kdas_tf.settings import CellSettings, Job
from kdas_tf.stages import search as search_stage
from kdas_tf.stages import teacher as teacher_stage
from kdas_tf.stages import train as train_stage
from kdas_tf.stages.ablation_rows import AblationRow

SHARED = ("data", "teacher")
"""Stages whose folders all runs of a table use."""

SECONDS = "seconds.json"
MAX_DRAWS = 10_000
"""Random genotypes that are drawn before the nearest one has to do."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A row with a seed."""

    table: Path  # workdir of the table
    row: AblationRow
    seed: int | None  # None for the teacher, which has one run

    @property
    def folder(self) -> Path:
        """The run's workdir, in that of the table."""
        return self.table / "table" / self.row.name / f"seed_{self.seed}"

    @property
    def genotype_file(self) -> Path:
        """What its search has derived, or what was drawn for it."""
        return self.folder / "search" / search_stage.RESULT

    @property
    def result_file(self) -> Path:
        """What its training, or the teacher's stage, has measured."""
        if self.row.kind == "teacher":
            return self.table / "teacher" / teacher_stage.RESULT
        return self.folder / "train" / train_stage.RESULT

    @property
    def is_done(self) -> bool:
        """Whether it has been trained to its end; of the teacher, whether it was measured."""
        return self.result_file.exists() and (self.row.kind != "teacher" or "mAP" in self.numbers)

    @property
    def seconds(self) -> float:
        """How long it has taken so far, over all times it was continued."""
        try:
            return float(files.read_json(self.folder / SECONDS)["seconds"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0

    @property
    def numbers(self) -> Numbers:
        """Of the network after its last epoch; without mAP and ranks if there is nothing to judge on."""
        content = _read(self.result_file)
        numbers = {**content.get("results", {}), "parameters": content.get("parameters")}
        return {name: float(numbers[name]) for name in NUMBERS if numbers.get(name) is not None}

    @property
    def drawn(self) -> int | None:
        """How many random genotypes were drawn for it; None for none."""
        random = self.row.kind == "random"
        return _read(self.genotype_file).get("derived_from", {}).get("drawn") if random else None

    def as_json(self, row: str) -> dict[str, Any]:
        """What `table.json` says of it, as a run of a row that may share it with its own."""
        about = {"row": row, "seed": self.seed, **self.numbers, "drawn": self.drawn}
        if self.row.kind == "teacher":
            return {**about, "folder": "teacher", "seconds": None}
        return {**about, "folder": self.folder.relative_to(self.table).as_posix(), "seconds": self.seconds}


@dataclasses.dataclass(frozen=True)
class Runner:
    """Does runs; its fields are arguments of `kdas_tf.stages.table.run`, but for the chosen run."""

    job: Job
    search: Callable[..., None]
    train: Callable[..., None]
    student: CellSettings
    chosen: Run  # whose genotype the second table trains
    size_tolerance: float

    def do(self, run: Run) -> None:
        """Does a run, or what is left of it; refuses one that needs another run first."""
        assert run.seed is not None
        row = run.row
        training: dict[str, Any] = {}
        job = dataclasses.replace(self.job, workdir=run.folder, seed=run.seed)
        run.folder.mkdir(parents=True, exist_ok=True)
        for name in SHARED:
            if not (run.folder / name).is_symlink():  # relative: a copy must not use the original's
                (run.folder / name).symlink_to(Path("../../..") / name)
        started, before = time.monotonic(), run.seconds
        try:
            if row.kind == "search" and not run.genotype_file.exists():
                self.search(job, temperature=row.temperature)
            elif row.kind == "random" and not run.genotype_file.exists():
                self.draw(run)
            elif row.kind == "hand-made":
                training["architecture"] = row.architecture
            elif row.kind == "training":
                training["architecture"] = str(_existing(self.chosen, self.chosen.genotype_file, needed_by=run))
                if row.temperature is not None:
                    training["temperature"] = row.temperature
            self.train(job, **training)
        finally:
            files.write_json(run.folder / SECONDS, {"seconds": round(before + time.monotonic() - started, 1)})
            # Lets go of the run's networks: dozens of them follow one another in one process.
            policy = keras.config.dtype_policy()
            keras.utils.clear_session()  # which also forgets the precision
            keras.config.set_dtype_policy(policy)

    def draw(self, run: Run) -> None:
        """Writes a random genotype of about the size of what the chosen row's search with the same seed has derived."""
        assert run.seed is not None
        matched = dataclasses.replace(self.chosen, seed=run.seed)
        searched = genotype.load(_existing(matched, matched.genotype_file, needed_by=run))
        _existing(matched, matched.result_file, needed_by=run)
        wanted = int(matched.numbers["parameters"])
        identities = _read(matched.genotype_file)["derived_from"]["identities"]

        def count(candidate: Genotype) -> int:
            return derived_parameters(candidate, identities, **self.student.arguments())

        if count(searched) != wanted:
            raise UserError(
                f"{matched.result_file} has {wanted} trainable parameters, but table.run.student gives "
                f"{count(searched)} for its genotype. Give the table the network that train.run has."
            )
        first = run.seed * MAX_DRAWS
        best, drawn = genotype.random_genotype(first), 1
        while abs(count(best) - wanted) > self.size_tolerance * wanted and drawn < MAX_DRAWS:
            candidates = (best, genotype.random_genotype(first + drawn))
            best, drawn = min(candidates, key=lambda each: abs(count(each) - wanted)), drawn + 1
        derived_from = {"drawn": drawn, "parameters": count(best), "parameters_wanted": wanted}
        genotype.save(run.genotype_file, best, derived_from=derived_from)
        print(
            f"table: {drawn} random genotypes drawn to find one of {millions(count(best))} M parameters, for "
            f"{millions(wanted)} M of {matched.row.name}",
            flush=True,
        )


def _existing(run: Run, path: Path, *, needed_by: Run) -> Path:
    if not path.exists():
        raise UserError(
            f"The row {needed_by.row.name} needs the network of the row {run.row.name} with seed {run.seed}, but there "
            f"is no {path}. Run that one first: --gin_param=\"table.run.rows=['{run.row.name}']\" "
            f"--gin_param='table.run.seeds=[{run.seed}]'."
        )
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(files.read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}). Delete it to do that part of the table again."
        ) from error


def finished_runs(table: Path, row: AblationRow, shared: Run | None) -> list[Run]:
    """The runs of a row that are done, by their seeds; `shared`, of another row, is one of this row too."""
    runs = [Run(table, row, None)] if row.kind == "teacher" else []
    names = [path.name.removeprefix("seed_") for path in (table / "table" / row.name).glob("seed_*")]
    runs += [Run(table, row, int(name)) for name in names if name.isdecimal()] + ([shared] if shared else [])
    return sorted((run for run in runs if run.is_done), key=lambda run: run.seed or 0)
