"""One way to run the epochs of a stage: resume, schedules, logs, checkpoints."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kdas_tf.training.board import Board
from kdas_tf.training.callbacks import (
    CheckpointCallback,
    FiniteLoss,
    LearningRateCallback,
    MetricsFile,
    Progress,
    TemperatureCallback,
)
from kdas_tf.training.checkpoints import Checkpoints, Position
from kdas_tf.training.steps import DistilledModel
from kdas_tf.training.stopping import RestoreMeans, StopOnSignal, end_epoch


def fit(
    model: DistilledModel,
    dataset_from: Callable[[int, int], tf.data.Dataset],
    *,
    stage: str,
    workdir: Path,
    epochs: int,
    steps_per_epoch: int,
    checkpoints: Checkpoints,
    board: Board,
    temperature: Callable[[float], float],
    learning_rate: Callable[[float], float],
    callbacks: Iterable[keras.callbacks.Callback] = (),
    shown: tuple[str, ...] = (),
    since: float | None = None,
) -> None:
    """Trains a compiled model, from its last checkpoint on if there is one.

    Args:
        model: compiled.
        dataset_from: makes the batches from an epoch and a step in it on.
        stage: name of the stage.
        workdir: folder of the run; `metrics.jsonl` is written here.
        epochs: number of epochs.
        steps_per_epoch: batches in an epoch.
        checkpoints: where to restore from and save to.
        board: TensorBoard.
        temperature: T as a function of the epoch.
        learning_rate: of the weights, as a function of the epoch.
        callbacks: run after the schedules and before logs are written, so they may add to the logs.
        shown: names of the values that people see.
        since: `time.monotonic()` when the stage began.

    Raises:
        UserError: a loss is not finite, or a checkpoint cannot be written or read.
        Stopped: the process was asked to end; a checkpoint is saved.
    """
    start = checkpoints.restore()
    if start != Position(0):
        inside = f", {start.step} of {steps_per_epoch} steps done in the next" if start.step else ""
        print(f"{stage}: continuing after epoch {start.epoch} of {epochs}{inside}", flush=True)
    if start.epoch >= epochs:
        return
    finite = FiniteLoss(start.step)
    stop = StopOnSignal(checkpoints, start, steps_per_epoch, finite.check_steps)
    used = [
        TemperatureCallback(temperature),
        LearningRateCallback(learning_rate),
        *callbacks,
        finite,
        MetricsFile(workdir / "metrics.jsonl", stage, start.epoch),
        board,
        CheckpointCallback(checkpoints),
        Progress(stage, epochs, steps_per_epoch, shown, since=since, steps_done=start.step),
        stop,
    ]
    first = start.epoch
    with stop.listening():
        if start.step == steps_per_epoch:
            end_epoch(model, first, start.logs, used)
            first += 1
        elif start.step:  # the rest of an epoch, which Keras would begin again
            rest = [RestoreMeans(start.means), *used]
            batches, steps = dataset_from(first, start.step), steps_per_epoch - start.step
            _fit(model, batches, initial_epoch=first, epochs=first + 1, steps_per_epoch=steps, callbacks=rest)
            first += 1
        if first < epochs:
            batches = dataset_from(first, 0)
            _fit(model, batches, initial_epoch=first, epochs=epochs, steps_per_epoch=steps_per_epoch, callbacks=used)


def _fit(model: DistilledModel, batches: tf.data.Dataset, **arguments: Any) -> None:
    model.fit(batches, shuffle=False, verbose=0, **arguments)
