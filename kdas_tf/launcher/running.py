"""Runs stages in order in a workdir, which belongs to one job meanwhile."""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kdas_tf.errors import UserError
from kdas_tf.launcher import bindings, faults, guard, lock
from kdas_tf.launcher.guard import Step
from kdas_tf.settings import Job
from kdas_tf.stages.stage import Stage
from kdas_tf.training.devices import workers


def steps_of(stages: Sequence[Stage]) -> list[Step]:
    """The steps of a command, with all values made; refuses a value that is missing or out of its range."""
    arguments = bindings.check_arguments()
    return [Step(stage, arguments[stage.name], bindings.settings_of(stage)) for stage in stages]


def left_out(steps: Sequence[Step], workdir: Path) -> list[Step]:
    """The steps for whose results no other step has a use, such as a teacher's where T is 0 throughout."""
    found = []
    for step in steps:
        users = [each for each in steps if each.stage.name in step.stage.serves]
        if users and not any(step.stage.name in (each.stage.reads(workdir, each.arguments) or ()) for each in users):
            found.append(step)
    return found


def identities_of(steps: Sequence[Step], job: Job) -> list[int | None]:
    """For each step the number of people to train on, as far as the steps up to it tell."""
    found: list[int | None] = []
    for step in steps:
        if step.stage.identities is not None:
            found.append(step.stage.identities(job, **step.arguments))
        else:
            found.append(found[-1] if found else None)
    return found


def check_batches(steps: Sequence[Step], identities: Sequence[int | None]) -> None:
    """Refuses batches of more identities than there are (`identities_of`), before a stage has spent hours on it."""
    for step, people in zip(steps, identities, strict=True):
        sampling = step.stage.sampling(step.arguments)
        if people is not None and sampling is not None and sampling.identities_per_batch > people:
            raise UserError(
                f"Expected {step.stage.name}/settings.Sampling.identities_per_batch of at most {people}, the "
                f"people to train on, got {sampling.identities_per_batch}. Lower it, or add people.",
                code="fit",
            )


def run_all(steps: Sequence[Step], job: Job, launcher: Mapping[str, str]) -> None:
    """Runs stages in order, in a workdir that belongs to this job meanwhile; `launcher` as in `guard.records_of`."""
    unused = left_out(steps, job.workdir)
    steps = [step for step in steps if step not in unused]
    with contextlib.ExitStack() as held:

        def begin():
            check_batches(steps, identities_of(steps, job))
            records = guard.records_of(steps, job.workdir, launcher)
            for step in steps:  # all of them before anything is written
                _check_unchanged(step, job, records[step.stage.name])
            try:
                job.workdir.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock.holding(job.workdir))
            except OSError as error:
                raise UserError(
                    f"Expected --workdir={job.workdir} to be a folder that can be written to: {error.strerror}."
                ) from error

        check_alike(steps, job, launcher)
        if not workers.writes(job.strategy):
            print("started; what the job does is printed by its first worker", flush=True)
            held.enter_context(contextlib.redirect_stdout(held.enter_context(open(os.devnull, "w"))))
        workers.run_on_first_worker(job.strategy, begin)
        for step in unused:
            print(f"{step.stage.name}: left out, no stage of this command reads it", flush=True)
        for step in steps:
            # Again: what a stage reads may depend on what the stages before it have left.
            record = guard.records_of([step], job.workdir, launcher)[step.stage.name]
            run_step(step, job, record)


def check_alike(steps: Sequence[Step], job: Job, launcher: Mapping[str, str]) -> None:
    """Refuses workers of one job that were given different settings, on all of them: none would notice it later.

    Raises:
        UserError: the settings are not the same everywhere.
    """
    settings = [[step.stage.name, sorted(step.texts.items())] for step in steps]
    parts = {"the stages and their settings": settings, "seed, precision and determinism": sorted(launcher.items())}
    # 48 bits of a hash are exact as a float64.
    own = [int(hashlib.sha256(json.dumps(part).encode()).hexdigest()[:12], 16) for part in parts.values()]
    found = workers.all_values(job.strategy, own)
    different = [name for name, column in zip(parts, found.T, strict=True) if len(set(column.tolist())) > 1]
    if different:
        other = next(i for i, row in enumerate(found) if (row != found[0]).any())
        raise UserError(
            f"Expected all workers of the job to be given the same command, but {' and '.join(different)} differ "
            f"between worker 0 and worker {other}. Start all of them with the same flags and files.",
            code="machines",
        )


def check_several_machines(stages: Sequence[Stage], mixed_precision: str) -> None:
    """Refuses what several machines cannot share: a stage for one machine, and float16."""
    for stage in stages:
        if stage.machines == "one":
            raise UserError(
                f"Expected stages that several machines can share, got {stage.name}. Run it on one machine; or "
                "on several, each with a workdir and a part of the work of its own."
            )
    if mixed_precision == "mixed_float16":
        raise UserError(
            "Expected --mixed_precision=mixed_bfloat16 or float32 on several machines: in float16 each of them would "
            "decide on its own which steps to skip."
        )


def run_step(step: Step, job: Job, record: guard.Record) -> None:
    """Runs one stage, or says that it was done before; several machines see what the first of them sees."""
    stage, result = step.stage, step.stage.folder(job) / step.stage.result
    if workers.all_values(job.strategy, [_is_done(step, job, record)])[0, 0]:
        print(f"{stage.name}: done before, {result}", flush=True)
        return
    started = time.monotonic()
    if stage.machines == "together":
        workers.run_on_first_worker(job.strategy, lambda: _begin(step, job, record))
        _do(step, job)
        workers.run_on_first_worker(job.strategy, lambda: None)  # the others wait for what the first one still writes
    else:

        def alone():
            _begin(step, job, record)
            _do(step, dataclasses.replace(job, strategy=workers.alone(job.strategy)))

        workers.run_on_first_worker(job.strategy, alone)
    if not workers.writes(job.strategy):
        workers.wait_for(result)
    print(f"{stage.name}: finished in {time.monotonic() - started:.0f} s, {result}", flush=True)


def _is_done(step: Step, job: Job, record: guard.Record) -> bool:
    """Whether the stage has nothing to do: its result is there, and of the same settings where others may follow."""
    folder = step.stage.folder(job)
    if step.stage.grows or not (folder / step.stage.result).exists():
        return False
    if not step.stage.stands(job, **step.arguments):
        return False
    return not step.stage.repeatable or (record["reads"] is not None and guard.read(folder) in (None, record))


def _check_unchanged(step: Step, job: Job, record: guard.Record) -> None:
    check = guard.check_may_be_repeated if step.stage.repeatable else guard.check_unchanged
    check(step.stage.folder(job), record)


def _begin(step: Step, job: Job, record: guard.Record) -> None:
    """Writes down how a stage is begun."""
    _check_unchanged(step, job, record)  # again: the lock may have been another process's before
    folder = step.stage.folder(job)
    try:
        if step.stage.repeatable and not step.stage.grows:  # a stopped command leaves no result of another one
            (folder / step.stage.result).unlink(missing_ok=True)
        guard.remember(folder, record)
        (folder / guard.CONFIG).write_text(bindings.config_text(), encoding="utf-8")
    except OSError as error:
        raise UserError(faults.explain(error, step.stage.name, {}) or str(error)) from error


def _do(step: Step, job: Job) -> None:
    """Runs one stage; faults of the machine are said in words."""
    stage = step.stage
    try:
        stage.run(job, **step.arguments)
    except Exception as error:
        if workers.writes(job.strategy):
            guard.forget(stage.folder(job))
        line = faults.explain(error, stage.name, step.arguments)
        if line is None or isinstance(error, UserError):
            raise
        raise UserError(line) from error


def describe(steps: Sequence[Step], job: Job) -> Iterator[str]:
    """Yields the lines that `--dry_run` prints."""
    unused = left_out(steps, job.workdir)
    steps = [step for step in steps if step not in unused]
    identities = identities_of(steps, job)
    check_batches(steps, identities)
    yield "Stages: " + ", ".join(step.stage.name for step in steps)
    yield from (f"  {step.stage.name}: left out, no stage of this command reads it" for step in unused)
    for step, people in zip(steps, identities, strict=True):
        for line in step.stage.plan(job, people, **step.arguments) if step.stage.plan else ():
            yield f"  {step.stage.name}: {line}"
    yield f"Training identities: {identities[-1] if identities else None}"
    yield "Configuration:"
    yield bindings.config_text()
