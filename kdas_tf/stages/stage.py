"""What a stage is: a `run` function with a name, a result, and what the launcher must know of it."""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from kdas_tf.data.contents import Photographs
from kdas_tf.settings import Job, Sampling

Source = str | Path | Photographs
"""What a stage reads: the name of a stage of the same workdir, or a file or photographs from elsewhere."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of a run, with a folder of its own in the workdir.

    Args:
        name: of the stage, and of its folder.
        result: file in the folder whose existence says that the stage is finished; it is written last.
        run: does the work: `run(job, **arguments)`.
        check: refuses arguments that cannot work, before anything runs: `check(**arguments)`.
        plan: lines of text for `--dry_run`: `plan(job, identities, **arguments)`; computes and writes nothing.
        identities: number of training identities, for `--dry_run`: `identities(job, **arguments)`.
        sampling: the batches of people that it would train on, a `settings.Sampling`, or None: `sampling(arguments)`.
        reads: (workdir, arguments) -> what the result depends on beside the arguments; None where that cannot be told,
            so that the stage is always done.
        machines: "together" if all machines of a job run the stage, "first" if the first one does it for all, "one"
            if a job of several machines cannot have it.
        serves: names of stages for which it is done; it is left out of a command that has such stages, none of which
            reads it.
        trains_cells: whether it trains a network of cells, which wants its threads divided in another way.
        repeatable: whether it may be done again with other arguments, as long as no other stage has read its result;
            otherwise a result of other arguments is kept and the command refused.
        stands: whether a result of the same arguments can still be used: `stands(job, **arguments)`.
        grows: whether it looks for itself what is left to do, and is never skipped.
        may_change: which arguments, `name` or `name.field`, decide what is shown, kept or still to be done, not what
            comes out: `may_change(arguments)`.
        decided_by: what the launcher sets that decides the result: "seed", "precision", "deterministic".
    """

    name: str
    result: str
    run: Callable[..., None]
    check: Callable[..., None] | None = None
    plan: Callable[..., Sequence[str]] | None = None
    identities: Callable[..., int] | None = None
    sampling: Callable[[Mapping[str, Any]], Sampling | None] = lambda arguments: arguments.get("sampling")
    reads: Callable[[Path, Mapping[str, Any]], Sequence[Source] | None] = lambda workdir, arguments: ()
    machines: Literal["together", "first", "one"] = "first"
    serves: Collection[str] = ()
    trains_cells: bool = False
    repeatable: bool = False
    stands: Callable[..., bool] = lambda job, **arguments: True
    grows: bool = False
    may_change: Callable[[Mapping[str, Any]], Collection[str]] = lambda arguments: ()
    decided_by: Collection[str] = ("seed", "precision", "deterministic")

    def folder(self, job: Job) -> Path:
        """The stage's folder."""
        return job.workdir / self.name


Run = TypeVar("Run", bound=Callable[..., None])


def stage(name: str, *, result: str, **properties: Any) -> Callable[[Run], Run]:
    """Makes a `run` function the work of a `Stage`, which is then its attribute `stage`; arguments as in `Stage`."""

    def mark(run: Run) -> Run:
        run.stage = Stage(name, result, run, **properties)  # type: ignore[attr-defined]
        return run

    return mark


def stage_of(run: Any) -> Stage | None:
    """The stage whose work a function does, also where gin has wrapped it; None for another function."""
    return getattr(inspect.unwrap(run), "stage", None) if callable(run) else None
