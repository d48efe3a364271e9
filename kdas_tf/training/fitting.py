"""One way to run the epochs of a stage: resume, schedules, logs, checkpoints."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from kdas_tf.data.pipeline import Share
from kdas_tf.training.board import Board
from kdas_tf.training.callbacks import (
    CheckpointCallback,
    FiniteLoss,
    LearningRateCallback,
    MetricsFile,
    OnFirstWorker,
    Progress,
    TemperatureCallback,
)
from kdas_tf.training.checkpoints import Checkpoints, Position
from kdas_tf.training.devices.workers import share_of, writes
from kdas_tf.training.steps import DistilledModel
from kdas_tf.training.stopping import StopOnSignal, restore_values


def fit(
    model: DistilledModel,
    dataset_from: Callable[[int, int, Share], tf.data.Dataset],
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
        dataset_from: makes this process's share of the batches from an epoch and a step in it on.
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
    strategy = model.distribute_strategy
    start, first_worker = checkpoints.restore(), writes(strategy)
    if start != Position(0):
        inside = f", {start.step} of {steps_per_epoch} steps done in the next" if start.step else ""
        print(f"{stage}: continuing after epoch {start.epoch} of {epochs}{inside}", flush=True)
    if start.epoch >= epochs:
        return
    finite = FiniteLoss()
    stop = StopOnSignal(checkpoints, steps_per_epoch, finite.check_steps)
    used = [TemperatureCallback(temperature), LearningRateCallback(learning_rate), *callbacks, finite]
    if first_worker:
        used += [
            MetricsFile(workdir / "metrics.jsonl", stage, start.epoch),
            board,
            CheckpointCallback(checkpoints),
            Progress(stage, epochs, steps_per_epoch, shown, since=since),
        ]
    used = [each for each in (*used, stop) if first_worker or not isinstance(each, OnFirstWorker)]
    share = share_of(strategy)
    batches = strategy.distribute_datasets_from_function(lambda _: dataset_from(start.epoch, start.step, share))
    with stop.listening():
        _run_epochs(model, iter(batches), start, epochs, steps_per_epoch, used)


def _run_epochs(
    model: DistilledModel,
    batches: Iterator[Any],
    start: Position,
    epochs: int,
    steps_per_epoch: int,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Does what Keras' own `fit` does, which fails on several machines (Keras 3.15).

    That averages the first batch over them, to build a model that is built, and logs along an axis that they lack.
    """
    used = keras.callbacks.CallbackList(callbacks, model=model)
    model.make_train_function()
    used.on_train_begin()
    for epoch in range(start.epoch, epochs):
        model.reset_metrics()
        used.on_epoch_begin(epoch)
        done = start.step if epoch == start.epoch else 0
        logs: dict[str, Any] = dict(start.logs) if done else {}
        if 0 < done < steps_per_epoch:
            restore_values(model, start.means)
        for step in range(done, steps_per_epoch):
            used.on_train_batch_begin(step)
            logs = model.train_function(batches)
            used.on_train_batch_end(step, logs)
        used.on_epoch_end(epoch, dict(logs))
    used.on_train_end()
