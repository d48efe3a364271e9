"""Runs stages in order in a workdir, which belongs to one job meanwhile."""

import contextlib
import hashlib
import inspect
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kdas_tf.errors import UserError
from kdas_tf.launcher import bindings, faults, lock
from kdas_tf.launcher.bindings import Stage, declared
from kdas_tf.launcher.guard import check_unchanged, forget, remember
from kdas_tf.training.devices import workers


def run_all(stages: Sequence[Stage], common: dict[str, Any], settings: dict[str, dict[str, str]]) -> None:
    """Runs stages in order, in a workdir that belongs to this job meanwhile."""
    folder, first = common["workdir"], workers.writes(common["strategy"])
    with contextlib.ExitStack() as held:

        def begin():
            for stage in stages:  # all of them before anything is written
                check_unchanged(folder / stage_name(stage), settings[stage_name(stage)])
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock.holding(folder))
                (folder / "config.gin").write_text(bindings.config_text(), encoding="utf-8")
            except OSError as error:
                raise UserError(
                    f"Expected --workdir={folder} to be a folder that can be written to: {error.strerror}."
                ) from error

        if not first:
            print("started; what the job does is printed by its first worker", flush=True)
            held.enter_context(contextlib.redirect_stdout(held.enter_context(open(os.devnull, "w"))))
        workers.by_first(common["strategy"], begin)
        for stage in stages:
            run_stage(stage, folder, settings[stage_name(stage)], common)


def check_several_machines(stages: Sequence[Stage], mixed_precision: str) -> None:
    """Refuses what several machines cannot share.

    Raises:
        UserError: a stage is for one machine, or its numbers are float16.
    """
    for stage in stages:
        if declared(stage, "ONE_MACHINE"):
            raise UserError(
                f"Expected stages that several machines can share, got {stage_name(stage)}. Run it on one machine; or "
                "on several, each with a workdir and a part of the work of its own."
            )
    if mixed_precision == "mixed_float16":
        raise UserError(
            "Expected --mixed_precision=mixed_bfloat16 or float32 on several machines: in float16 each of them would "
            "decide on its own which steps to skip."
        )


def run_stage(stage: Stage, folder: Path, settings: dict[str, str], common: dict[str, Any]) -> None:
    """Runs one stage, or says that it was done before; with several machines, what they see of it is the first one's.

    A stage whose module says `TOGETHER` is run by all of them, the others by the first alone.
    """
    strategy, name = common["strategy"], stage_name(stage)
    result = folder / name / str(declared(stage, "RESULT"))
    done = workers.all_values(strategy, [result.exists()])[0, 0]
    if done and not free_arguments(stage):
        print(f"{name}: done before, {result}", flush=True)
        return
    started = time.monotonic()
    if declared(stage, "TOGETHER"):
        workers.by_first(strategy, lambda: begin_stage(stage, folder, settings))
        do_stage(stage, folder, common)
        workers.by_first(strategy, lambda: None)  # the others wait for what the first one still writes
    else:

        def alone():
            begin_stage(stage, folder, settings)
            do_stage(stage, folder, {**common, "strategy": workers.alone(strategy)})

        workers.by_first(strategy, alone)
    if not workers.writes(strategy):
        workers.wait_for(result)
    print(f"{name}: finished in {time.monotonic() - started:.0f} s, {result}", flush=True)


def begin_stage(stage: Stage, folder: Path, settings: dict[str, str]) -> None:
    """Writes down how a stage is begun."""
    check_unchanged(folder / stage_name(stage), settings)  # again: the lock may have been another process's before
    try:
        remember(folder / stage_name(stage), settings)
    except OSError as error:
        raise UserError(faults.explain(error, stage_name(stage), {}) or str(error)) from error


def do_stage(stage: Stage, folder: Path, common: dict[str, Any]) -> None:
    """Runs one stage; faults of the machine are said in words."""
    name = stage_name(stage)
    try:
        stage(**accepted(stage, common))
    except Exception as error:
        if workers.writes(common["strategy"]):
            forget(folder / name)
        defaults = {name: parameter.default for name, parameter in inspect.signature(stage).parameters.items()}
        line = faults.explain(error, name, {**defaults, **bindings.bindings_of(stage)})
        if line is None or isinstance(error, UserError):
            raise
        raise UserError(line) from error


def settings_of_all(stages: Sequence[Stage], history: str) -> dict[str, dict[str, str]]:
    """What decides each stage's result: what is bound for it, and what came before it."""
    settings = {}
    for stage in stages:
        free = {f"{stage_name(stage)}.run.{argument}" for argument in free_arguments(stage)}
        bound = {name: value for name, value in bindings.settings_of(stage).items() if name not in free}
        settings[stage_name(stage)] = {**bound, "before": history}
        history = hashlib.sha256(str(settings[stage_name(stage)]).encode()).hexdigest()
    return settings


def free_arguments(stage: Stage) -> tuple[str, ...]:
    """Arguments of a stage that decide how much of it is done, not what comes out; most stages have none."""
    return declared(stage, "FREE", ())


def describe(stages: Sequence[Stage], common: dict[str, Any]) -> Iterator[str]:
    """Yields the lines that `--dry_run` prints."""
    yield "Stages: " + ", ".join(stage_name(stage) for stage in stages)
    identities = None
    for stage in stages:
        arguments = {**bindings.bindings_of(stage), **common}
        count_identities, plan = declared(stage, "count_identities"), declared(stage, "plan")
        if count_identities:
            identities = count_identities(settings=bindings.settings_of(stage), **arguments)
        for line in plan(num_identities=identities, **arguments) if plan else ():
            yield f"  {stage_name(stage)}: {line}"
    yield f"Training identities: {identities}"
    yield "Configuration:"
    yield bindings.config_text()


def accepted(stage: Stage, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a stage has."""
    parameters = inspect.signature(stage).parameters
    return {name: value for name, value in arguments.items() if name in parameters}


def stage_name(stage: Stage) -> str:
    """A stage's name, which is its module's and its folder's."""
    return inspect.unwrap(stage).__module__.rsplit(".", 1)[-1]
