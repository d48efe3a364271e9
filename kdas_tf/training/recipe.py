"""One training, as all stages do it: from the making of a network to its last epoch."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.optimizers import Optimizer

from kdas_tf.data.pipeline import WHOLE, BatchShard, TrainingImages, balanced_batches, naming_damaged_images
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.data.sampler import steps_per_epoch
from kdas_tf.evaluation.printing import millions
from kdas_tf.models.networks import trainable_parameters
from kdas_tf.schedules import over
from kdas_tf.settings import Fitting, Job, Sampling
from kdas_tf.training.batch_norm import configure_batch_norm
from kdas_tf.training.board import Board
from kdas_tf.training.callbacks import FiniteLoss, MetricsFile, OnFirstWorker, Progress, Scheduled
from kdas_tf.training.checkpoints import Checkpoints, Position
from kdas_tf.training.devices.replicas import replicas
from kdas_tf.training.devices.workers import batch_shard_of, writes
from kdas_tf.training.steps import DistilledModel
from kdas_tf.training.stopping import StopOnSignal, restore_values


class BatchSource(NamedTuple):
    """The batches of a training.

    `make` takes the epoch, the step and the shard, and gives this process's shard of all batches from there on.
    """

    make: Callable[[int, int, BatchShard], tf.data.Dataset]
    steps_per_epoch: int
    records: Sequence[Record] = ()  # the photographs that the batches show; a damaged one is named


def balanced_source(
    job: Job,
    data: ReIDData,
    *,
    image_size: tuple[int, int],
    sampling: Sampling,
    epochs: int,
    teacher_size: tuple[int, int] | None = None,
) -> BatchSource:
    """P x K batches of all training photographs, as the network in training and its teacher see them."""
    images = TrainingImages(data.train, image_size, cache_bytes=job.image_cache_bytes, teacher_size=teacher_size)

    settings: dict[str, Any] = {"sampling": sampling, "seed": job.seed, "epochs": epochs}

    def make(epoch: int, step: int, shard: BatchShard) -> tf.data.Dataset:
        return balanced_batches(images, start_epoch=epoch, start_step=step, shard=shard, **settings)

    return BatchSource(make, steps_per_epoch(len(data.train), sampling.batch_size), data.train)


class Recipe:
    """What a stage that trains does, apart from what it trains.

    Example:
        recipe = Recipe("train", job, fitting)  # the stage's clock starts here
        with recipe.making(source):
            model = TrainingModel(network, teacher, objective, num_identities=751)
        recipe.compile(model)
        recipe.fit(model, board=recipe.board(), temperature=temperature)
    """

    def __init__(self, stage: str, job: Job, fitting: Fitting):
        self.stage, self.job, self.fitting = stage, job, fitting
        self.since = time.monotonic()
        self.source = BatchSource(lambda epoch, step, shard: tf.data.Dataset.range(0), 0)

    @contextlib.contextmanager
    def making(self, source: BatchSource) -> Iterator[None]:
        """A context for the making of networks: on the job's devices, with weights that follow from its seed.

        Raises:
            UserError: the batches cannot be made, or the devices cannot share them.
        """
        self.source = source
        source.make(self.fitting.epochs, 0, batch_shard_of(self.job.strategy))  # refused before networks are made
        keras.utils.set_random_seed(self.job.seed)
        with self.job.strategy.scope():
            yield

    def compile(
        self, model: DistilledModel, *optimizers: Optimizer, title: str | None = None, momentum: float | None = None
    ) -> None:
        """Prepares a model for `fit`, and says how large its network is; call it inside of `making`.

        The optimizers are those beside that of the weights; the title is the network's name by default; the momentum is
        that of `configure_batch_norm`.
        """
        network, synchronized = model.network, self.fitting.synchronized_batch_norm
        configure_batch_norm(network, replicas=replicas(), synchronized=synchronized, momentum=momentum)
        optimizer = self.fitting.optimizer(learning_rate=self.fitting.learning_rate)
        model.compile(optimizer, *optimizers, jit_compile=False)
        parameters = millions(trainable_parameters(network))
        print(f"{self.stage}: {title or network.name}, {parameters} M trainable parameters", flush=True)

    def first_batches(self, number: int) -> list[Any]:
        """The first batches of the first epoch, whole, also on several machines."""
        with naming_damaged_images(self.source.records):
            return list(itertools.islice(self.source.make(0, 0, WHOLE), number))

    def board(self, batch: Any = None) -> Board:
        """TensorBoard of the stage; a batch is shown as the network sees it."""
        return Board(self.job.workdir / "tensorboard" / self.stage, batch)

    def fit(
        self,
        model: DistilledModel,
        *,
        board: Board,
        temperature: Callable[[float], float] = lambda epoch: 0.0,
        parts: Mapping[str, Any] | None = None,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        shown: tuple[str, ...] = (),
    ) -> None:
        """Trains a compiled model, from its last checkpoint on if there is one.

        `temperature` gives T in an epoch. Checkpoints hold the `parts` by name, beside the network and the weights'
        optimizer. The `callbacks` run after the schedules and before logs are written, so they may add to the logs.
        `shown` are the names of the values that people see.

        Raises:
            UserError: a loss is not finite, a photograph is damaged, or a checkpoint cannot be written or read.
            Stopped: the process was asked to end; a checkpoint is saved.
        """
        job, epochs, steps = self.job, self.fitting.epochs, self.source.steps_per_epoch
        checkpoints = Checkpoints(
            job.workdir / self.stage / "checkpoints",
            {"network": model.network, "optimizer": model.optimizer, **(parts or {})},
            keep=job.keep_checkpoints,
            strategy=job.strategy,
        )
        start = checkpoints.restore()
        if start != Position(0):
            inside = f", {start.step} of {steps} steps done in the next" if start.step else ""
            print(f"{self.stage}: continuing after epoch {start.epoch} of {epochs}{inside}", flush=True)
        if start.epoch >= epochs:
            return

        # Schedules, then what a stage adds to the logs, then what looks at the logs and writes them.
        finite = FiniteLoss()
        stop = StopOnSignal(checkpoints, steps, finite.check_steps)
        used = [
            Scheduled(model.temperature, over(temperature, epochs), logged_as="temperature"),
            Scheduled(model.optimizer.learning_rate, self.fitting.learning_rate_at, logged_as="learning_rate"),
            *callbacks,
            finite,
            MetricsFile(job.workdir / "metrics.jsonl", self.stage, start.epoch) if writes(job.strategy) else None,
            board,
            keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: checkpoints.save(Position(epoch + 1))),
            Progress(self.stage, epochs, steps, shown, since=self.since),
            stop,
        ]
        used = [each for each in used if each and (writes(job.strategy) or not isinstance(each, OnFirstWorker))]

        shard = batch_shard_of(job.strategy)
        batches = job.strategy.distribute_datasets_from_function(
            lambda _: self.source.make(start.epoch, start.step, shard)
        )
        with naming_damaged_images(self.source.records), stop.listening():
            _run_epochs(model, iter(batches), start, epochs, steps, used)
        checkpoints.remove_all_but(1)  # what is trained to its end goes back no more


def _run_epochs(
    model: DistilledModel, batches: Iterator[Any], start: Position, epochs: int, steps: int, callbacks: list[Any]
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
        if 0 < done < steps:
            restore_values(model, start.means)
        for step in range(done, steps):
            used.on_train_batch_begin(step)
            logs = model.train_function(batches)
            used.on_train_batch_end(step, logs)
        used.on_epoch_end(epoch, dict(logs))
    used.on_train_end()
