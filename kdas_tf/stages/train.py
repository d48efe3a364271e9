"""Stage 4: trains the network that was searched, or any other one, with the objective at dynamic temperature."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files, schedules
from kdas_tf.data.image_cache import ImageCache
from kdas_tf.data.pipeline import WHOLE, Dataset, Share, balanced_batches, naming_damaged_images
from kdas_tf.data.records import ReIDData, relabel
from kdas_tf.data.sampler import steps_per_epoch
from kdas_tf.data.transforms import Augmentation
from kdas_tf.errors import UserError
from kdas_tf.losses.objective import Objective
from kdas_tf.models import baselines, saved
from kdas_tf.models.networks import PAPER_REDUCTIONS, trainable_parameters
from kdas_tf.models.transfer import start_from
from kdas_tf.stages import data as data_stage
from kdas_tf.stages import search as search_stage
from kdas_tf.stages import teacher as teacher_stage
from kdas_tf.stages.judging import judge, summary
from kdas_tf.training.batch_norm import configure_batch_norm
from kdas_tf.training.board import Board
from kdas_tf.training.callbacks import DropPathCallback, OnFirstWorker
from kdas_tf.training.checkpoints import Checkpoints
from kdas_tf.training.devices.replicas import Strategy, replicas
from kdas_tf.training.devices.workers import on_this_worker, share_of, writes
from kdas_tf.training.fitting import fit
from kdas_tf.training.optimizers import adam
from kdas_tf.training.steps import TrainingModel

RESULT = "train.json"
TOGETHER = True
CELLS = True
BEST = "best"


def run(
    *,
    workdir: Path,
    seed: int,
    strategy: Strategy,
    image_size: tuple[int, int],
    architecture: str | None = None,
    channels: int = 64,
    cells: int = 8,
    reductions: Sequence[int] = PAPER_REDUCTIONS,
    stem: str = "inet4",
    drop_path: float = 0.0,
    pretrained: str | None = None,
    epochs: int = 200,
    identities_per_batch: int = 8,
    images_per_identity: int = 4,
    learning_rate: float = 3.5e-4,
    final_learning_rate: float = 3.5e-6,
    optimizer: Callable[..., keras.optimizers.Optimizer] = adam,
    temperature: Callable[[float], float] = schedules.linear_temperature,
    label_smoothing: float = 0.0,
    augmentation: Callable[[], Augmentation] = Augmentation,
    objective: Callable[[], Objective] = Objective,
    judge_every: int = 20,
    synchronized_batch_norm: bool = True,
    keep_checkpoints: int = 3,
    image_cache_gb: float = 1.0,
) -> None:
    """Writes `train.json` last, beside the network after the last epoch and the best one in `best`.

    Args:
        workdir: folder of the run.
        seed: of weights, batches, augmentation and dropped paths.
        strategy: devices.
        image_size: (height, width) in pixels.
        architecture: as in `kdas_tf.models.baselines.make`; None is the genotype that this run's search has found.
        channels: C of a network of cells.
        cells: number of cells.
        reductions: positions of the reduction cells, counted from 0.
        stem: of networks of cells, one of `kdas_tf.models.stem.STEMS`.
        drop_path: probability towards which it grows linearly from 0 over the epochs (DARTS).
        pretrained: folder of a pretrain stage to start from.
        epochs: of training.
        identities_per_batch: P; the paper has 16 with pre-trained weights.
        images_per_identity: K.
        learning_rate: at the start.
        final_learning_rate: at the end of a cosine.
        optimizer: makes the optimizer from a learning rate.
        temperature: T as a function of the epoch; where it is 0 from the start, no teacher is needed.
        label_smoothing: of the labels, where T is 0.
        augmentation: makes the augmentation.
        objective: makes the objective of Eq. 9.
        judge_every: epochs between two evaluations; the last epoch is always judged.
        synchronized_batch_norm: several devices normalise by the whole batch; otherwise each by its own part of it.
        keep_checkpoints: how many of the last checkpoints are kept.
        image_cache_gb: decoded training images are kept in memory if all of them fit; 10^9 bytes.

    Raises:
        UserError: an argument is out of its range, or an earlier stage's result cannot be used.
    """
    if judge_every < 1 or epochs < 1:
        raise UserError(f"Expected judge_every and epochs of at least 1, got {judge_every} and {epochs}.")
    since = time.monotonic()
    folder, data = workdir / "train", data_stage.load(workdir)
    labels, identities = relabel(data.train)
    distilled = any(temperature(epoch) > 0 for epoch in range(epochs))

    cache = ImageCache(data.train, image_size, limit=image_cache_gb * 1e9)

    def batches(epoch: int, step: int = 0, share: Share = WHOLE) -> Dataset:
        return balanced_batches(
            data.train,
            labels,
            range(len(labels)),
            image_size=image_size,
            identities_per_batch=identities_per_batch,
            images_per_identity=images_per_identity,
            augmentation=augmentation(),
            seed=seed,
            start_epoch=epoch,
            start_step=step,
            epochs=epochs,
            cache=cache,
            share=share,
        )

    batches(epochs, 0, share_of(strategy))  # refuses what does not fit before networks are made
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        network = baselines.make(
            architecture or str(workdir / "search" / search_stage.RESULT),
            len(identities),
            image_size=image_size,
            channels=channels,
            cells=cells,
            reductions=reductions,
            stem=stem,
            drop_path=drop_path,
        )
        configure_batch_norm(network, replicas=replicas(), synchronized=synchronized_batch_norm)
        if pretrained is not None:
            print(f"train: {start_from(network, Path(pretrained))} weights taken from {pretrained}", flush=True)
        model = TrainingModel(
            network,
            teacher_stage.load(workdir) if distilled else None,
            objective(),
            num_identities=len(identities),
            label_smoothing=label_smoothing,
        )
        model.compile(optimizer(learning_rate=learning_rate), jit_compile=False)
    parameters = trainable_parameters(network)
    print(f"train: {network.name}, {parameters / 1e6:.2f} M trainable parameters", flush=True)

    judged = JudgeCallback(
        network, data, folder, image_size=image_size, every=judge_every, epochs=epochs, strategy=strategy
    )
    with naming_damaged_images(data.train):
        fit(
            model,
            batches,
            stage="train",
            workdir=workdir,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch(len(labels), identities_per_batch * images_per_identity),
            checkpoints=Checkpoints(
                folder / "checkpoints",
                {"network": network, "optimizer": model.optimizer},
                keep=keep_checkpoints,
                strategy=strategy,
            ),
            board=Board(workdir / "tensorboard" / "train", strategy=strategy),
            temperature=temperature,
            learning_rate=lambda epoch: schedules.cosine(
                epoch, start=learning_rate, end=final_learning_rate, epochs=epochs
            ),
            callbacks=[*_drop_path(network, drop_path, epochs), judged],
            shown=("total", "distillation", "triplet", "temperature", "mAP", "rank1"),
            since=since,
        )
    if not writes(strategy):
        return
    saved.save(network, folder, image_size=image_size)
    last = judged.last if judged.last is not None else judged.judge(epochs)
    content = {"results": last, "best": judged.best, "parameters": parameters, "epochs": epochs, "seed": seed}
    files.write_json(folder / RESULT, content)


def _drop_path(network: keras.Model, final: float, epochs: int) -> list[keras.callbacks.Callback]:
    paths = getattr(network, "drop_path", None)  # only networks of cells have it, and only if it is on
    return [] if paths is None else [DropPathCallback(paths.rate, final, epochs)]


class JudgeCallback(OnFirstWorker):
    """Ranks the gallery now and then, logs mAP and ranks in percent, and keeps the best network.

    The best network is the one of the highest mAP on the queries that are also reported, so its numbers are too high by
    a little; the last network's are not.

    Args:
        network: in training.
        data: with queries and gallery; without them nothing is judged.
        folder: of the stage.
        image_size: (height, width) in pixels.
        every: epochs between two evaluations.
        epochs: in all; the last one is judged.
        strategy: devices.
    """

    def __init__(
        self,
        network: keras.Model,
        data: ReIDData,
        folder: Path,
        *,
        image_size: tuple[int, int],
        every: int,
        epochs: int,
        strategy: Strategy,
    ):
        super().__init__()
        self.judged = on_this_worker(network, strategy)
        self.network, self.data, self.image_size = network, data, image_size
        self.every, self.epochs = every, epochs
        self.best_file = folder / BEST / "best.json"
        self.best: dict[str, float] = {}
        if self.best_file.exists():
            self.best = files.read_json(self.best_file)
        self.last: dict[str, float] | None = None

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.epochs:
            self.last = self.judge(epoch + 1)
            if logs is not None:
                logs.update(self.last)

    def judge(self, epoch: int) -> dict[str, float]:
        """Numbers of the network as it is now, in percent; empty where there is nothing to judge on."""
        result = judge(self.judged, self.data, image_size=self.image_size, title="train")
        numbers = summary(result) if result else {}
        if numbers and numbers["mAP"] > self.best.get("mAP", -1.0):
            self.best = {"epoch": epoch, **numbers}
            saved.save(self.network, self.best_file.parent, image_size=self.image_size)
            files.write_json(self.best_file, self.best)
        return numbers


def plan(
    *,
    workdir: Path,
    num_identities: int,
    image_size: tuple[int, int],
    architecture: str | None = None,
    channels: int = 64,
    cells: int = 8,
    reductions: Sequence[int] = PAPER_REDUCTIONS,
    stem: str = "inet4",
    **arguments: Any,
) -> list[str]:
    """Says what the stage would do, with parameters where the architecture is known."""
    epochs = f"{arguments.get('epochs', 200)} epochs"
    own = workdir / "search" / search_stage.RESULT
    if architecture is None and not own.exists():
        return [f"trains the network that the search will find, C = {channels}, {epochs}"]
    with keras.StatelessScope():
        network = baselines.make(
            architecture or str(own),
            num_identities,
            image_size=image_size,
            channels=channels,
            cells=cells,
            reductions=reductions,
            stem=stem,
        )
    return [f"trains {architecture or own}, {trainable_parameters(network) / 1e6:.2f} M trainable parameters, {epochs}"]
