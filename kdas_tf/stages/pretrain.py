"""Trains a network on ImageNet, or on any folder of class folders; `train` can start from its weights."""

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files, schedules
from kdas_tf.data import classes
from kdas_tf.data.class_batches import (
    EncodedImages,
    ImageFiles,
    RandomResizedCrop,
    training_batches,
    validation_batches,
)
from kdas_tf.data.classes import ClassData
from kdas_tf.data.pipeline import WHOLE, Dataset, Share, naming_damaged_images
from kdas_tf.data.sampler import steps_per_epoch
from kdas_tf.data.tfds_images import TfdsImages
from kdas_tf.errors import UserError
from kdas_tf.models import baselines, saved
from kdas_tf.models.networks import PAPER_REDUCTIONS, trainable_parameters
from kdas_tf.stages import search as search_stage
from kdas_tf.stages.reporting import progress_line
from kdas_tf.training.batch_norm import configure_batch_norm
from kdas_tf.training.board import Board
from kdas_tf.training.checkpoints import Checkpoints
from kdas_tf.training.classification import ClassificationModel, Evaluation
from kdas_tf.training.devices.replicas import Strategy, replicas
from kdas_tf.training.devices.workers import by_first, share_of, wait_for, writes
from kdas_tf.training.fitting import fit
from kdas_tf.training.optimizers import momentum_sgd

RESULT = "pretrain.json"
TOGETHER = True
CELLS = True
INDEX = "images.json"
SOURCES = ("folder", "tfds")


def run(
    *,
    workdir: Path,
    seed: int,
    strategy: Strategy,
    data_dir: str,
    source: str = "folder",
    tfds_name: str = "imagenet2012",
    held_out: float = 0.1,
    image_size: tuple[int, int] = (224, 224),
    architecture: str | None = None,
    channels: int = 64,
    cells: int = 8,
    reductions: Sequence[int] = PAPER_REDUCTIONS,
    stem: str = "inet4",
    epochs: int = 250,
    batch_size: int = 256,
    learning_rate: float = 0.1,
    final_learning_rate: float = 0.0,
    optimizer: Callable[..., keras.optimizers.Optimizer] = momentum_sgd,
    label_smoothing: float = 0.1,
    augmentation: Callable[[], RandomResizedCrop] = RandomResizedCrop,
    synchronized_batch_norm: bool = True,
    keep_checkpoints: int = 3,
) -> None:
    """Writes `pretrain.json` last, beside the network after the last epoch and the best one in `best`.

    The paper pre-trains on ImageNet (section 4.4) and says no more about it; the defaults are those of DARTS (Liu et
    al. 2019, section A.2) with a cosine.

    Args:
        workdir: folder of the run.
        seed: of weights, batches and augmentation.
        strategy: devices.
        data_dir: folder of class folders (`kdas_tf.data.classes.read`), or the one in which TFDS keeps its data sets.
        source: "folder" or "tfds".
        tfds_name: name of the data set in TFDS.
        held_out: share of a folder without `val` to judge by.
        image_size: (height, width) in pixels.
        architecture: as in `kdas_tf.models.baselines.make`; None is the genotype that this run's search has found.
        channels: C of a network of cells.
        cells: number of cells.
        reductions: positions of the reduction cells, counted from 0.
        stem: of networks of cells, one of `kdas_tf.models.stem.STEMS`.
        epochs: of training.
        batch_size: images in a batch.
        learning_rate: at the start.
        final_learning_rate: at the end of a cosine.
        optimizer: makes the optimizer from a learning rate.
        label_smoothing: of the labels (0.1 in DARTS).
        augmentation: makes the augmentation.
        synchronized_batch_norm: several devices normalise by the whole batch; otherwise each by its own part of it.
        keep_checkpoints: how many of the last checkpoints are kept.

    Raises:
        UserError: an argument is out of its range, or the images cannot be used.
    """
    if epochs < 1 or batch_size < 1 or not 0.0 <= label_smoothing < 1.0:
        raise UserError(
            "Expected epochs and batch_size of at least 1 and label_smoothing from 0 to below 1, got "
            f"{epochs}, {batch_size} and {label_smoothing}."
        )
    share_of(strategy).part(batch_size)  # refuses what the devices cannot share
    since = time.monotonic()
    folder = workdir / "pretrain"
    images, data = _open(folder, data_dir, source, tfds_name, held_out)
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        network = _network(workdir, architecture, images, image_size, channels, cells, reductions, stem)
        configure_batch_norm(network, replicas=replicas(), synchronized=synchronized_batch_norm)
        model = ClassificationModel(network, num_classes=len(images.classes), label_smoothing=label_smoothing)
        model.compile(optimizer(learning_rate=learning_rate), jit_compile=False)
    if data is not None:  # after the network, whose errors come at once
        found = data
        by_first(strategy, lambda: _check_images(found, folder / INDEX))
        wait_for(folder / INDEX)
        data = classes.load(folder / INDEX)
        images = ImageFiles(data)
    parameters = trainable_parameters(network)
    print(f"pretrain: {network.name}, {parameters / 1e6:.2f} M trainable parameters", flush=True)

    def batches(epoch: int, step: int = 0, share: Share = WHOLE) -> Dataset:
        return training_batches(
            images,
            image_size=image_size,
            batch_size=batch_size,
            augmentation=augmentation(),
            seed=seed,
            start_epoch=epoch,
            start_step=step,
            epochs=epochs,
            share=share,
        )

    def to_judge_by(share: Share) -> Dataset:
        return validation_batches(images, image_size=image_size, batch_size=batch_size, share=share)

    evaluation = Evaluation(to_judge_by, folder, image_size=image_size)
    with naming_damaged_images((*data.train, *data.val)) if data is not None else contextlib.nullcontext():
        fit(
            model,
            batches,
            stage="pretrain",
            workdir=workdir,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch(images.train_images, batch_size),
            checkpoints=Checkpoints(
                folder / "checkpoints",
                {"network": network, "optimizer": model.optimizer},
                keep=keep_checkpoints,
                strategy=strategy,
            ),
            board=Board(workdir / "tensorboard" / "pretrain", next(iter(batches(0))), strategy=strategy),
            temperature=lambda epoch: 0.0,
            learning_rate=lambda epoch: schedules.cosine(
                epoch, start=learning_rate, end=final_learning_rate, epochs=epochs
            ),
            callbacks=[evaluation],
            shown=("total", "top1", "val_top1", "val_top5"),
            since=since,
        )
        last = evaluation.last or evaluation.judge(model)
    if not writes(strategy):
        return
    saved.save(network, folder, image_size=image_size)
    _finish(folder, images, {"results": last, "best": evaluation.best, "parameters": parameters, "epochs": epochs})


def _check_images(data: ClassData, index: Path) -> None:
    """Looks at every image once, and writes the index of those that can be used."""
    if not index.exists():
        data = classes.drop_damaged(data, progress=progress_line("pretrain: checking images"))
        print(f"pretrain: {classes.describe(data)}", flush=True)
        classes.save(data, index)


def _open(
    folder: Path, data_dir: str, source: str, tfds_name: str, held_out: float
) -> tuple[EncodedImages, ClassData | None]:
    """The images, and what is known about their files; from the index where an earlier run has left one."""
    if source not in SOURCES:
        raise UserError(f"Expected pretrain.run.source to be one of {', '.join(SOURCES)}, got {source!r}.")
    if source == "tfds":
        return TfdsImages(data_dir, tfds_name), None
    index = folder / INDEX
    data = classes.load(index) if index.exists() else classes.read(data_dir, held_out=held_out)
    return ImageFiles(data), data


def _network(
    workdir: Path,
    architecture: str | None,
    images: EncodedImages,
    image_size: tuple[int, int],
    channels: int,
    cells: int,
    reductions: Sequence[int],
    stem: str,
) -> keras.Model:
    found = workdir / "search" / search_stage.RESULT
    if architecture is None and not found.exists():
        raise UserError(
            f"Nothing to pre-train: {workdir} holds no search result. Give the --workdir of a finished search, or "
            "name a network, such as --gin_param=\"ARCHITECTURE='ResNet18'\"."
        )
    return baselines.make(
        architecture or str(found),
        len(images.classes),
        image_size=image_size,
        channels=channels,
        cells=cells,
        reductions=reductions,
        stem=stem,
    )


def _finish(folder: Path, images: EncodedImages, content: dict[str, Any]) -> None:
    for name in ("results", "best"):
        content[name] = {key: round(value, 4) for key, value in content[name].items()}
    counts = {"classes": len(images.classes), "train_images": images.train_images, "val_images": images.val_images}
    last, best = content["results"], content["best"]
    print(
        f"pretrain: top-1 {last['top1']:.1f}  top-5 {last['top5']:.1f}  "
        f"(best: top-1 {best['top1']:.1f} after epoch {best['epoch']})",
        flush=True,
    )
    files.write_json(folder / RESULT, {**content, **counts})


def plan(
    *,
    workdir: Path,
    data_dir: str,
    source: str = "folder",
    tfds_name: str = "imagenet2012",
    held_out: float = 0.1,
    image_size: tuple[int, int] = (224, 224),
    architecture: str | None = None,
    channels: int = 64,
    cells: int = 8,
    reductions: Sequence[int] = PAPER_REDUCTIONS,
    stem: str = "inet4",
    **arguments: Any,
) -> list[str]:
    """Says what the stage would do, with classes, images and parameters."""
    images, _ = _open(workdir / "pretrain", data_dir, source, tfds_name, held_out)
    with keras.StatelessScope():
        network = _network(workdir, architecture, images, image_size, channels, cells, reductions, stem)
    return [
        f"trains {architecture or 'the network that was searched'} at {image_size[0]}x{image_size[1]}, "
        f"{trainable_parameters(network) / 1e6:.2f} M trainable parameters",
        f"{len(images.classes):,} classes, {images.train_images:,} images to train on, {images.val_images:,} to judge "
        "by",
        f"{arguments.get('epochs', 250)} epochs of batches of {arguments.get('batch_size', 256)}",
    ]
