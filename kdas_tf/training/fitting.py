"""One way to run the epochs of a stage: resume, schedules, logs, checkpoints."""

from collections.abc import Callable, Iterable
from pathlib import Path

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
from kdas_tf.training.checkpoints import Checkpoints
from kdas_tf.training.steps import DistilledModel


def fit(
    model: DistilledModel,
    dataset_from: Callable[[int], tf.data.Dataset],
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
        dataset_from: makes the batches from an epoch on.
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
    """
    start = checkpoints.restore()
    if start:
        print(f"{stage}: continuing after epoch {start} of {epochs}", flush=True)
    if start >= epochs:
        return
    model.fit(
        dataset_from(start),
        initial_epoch=start,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[
            TemperatureCallback(temperature),
            LearningRateCallback(learning_rate),
            *callbacks,
            FiniteLoss(),
            MetricsFile(workdir / "metrics.jsonl", stage, start),
            board,
            CheckpointCallback(checkpoints),
            Progress(stage, epochs, steps_per_epoch, shown, since=since),
        ],
    )
