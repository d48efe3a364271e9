"""Trains a network on ImageNet, or on any folder of class folders; `train` can start from its weights."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files
from kdas_tf.data import classes
from kdas_tf.data.class_batches import (
    EncodedImages,
    ImageFiles,
    RandomResizedCrop,
    training_batches,
    validation_batches,
)
from kdas_tf.data.classes import ClassData
from kdas_tf.data.contents import Photographs
from kdas_tf.data.pipeline import BatchShard, Dataset
from kdas_tf.data.records import ReIDData
from kdas_tf.data.sampler import steps_per_epoch
from kdas_tf.data.tfds_images import TfdsImages
from kdas_tf.errors import UserError
from kdas_tf.evaluation.printing import millions
from kdas_tf.models import baselines, saved
from kdas_tf.models.networks import trainable_parameters
from kdas_tf.settings import CellSettings, Fitting, Job
from kdas_tf.stages.reporting import progress_line
from kdas_tf.stages.stage import Source, stage
from kdas_tf.stages.train import architecture_of, read_by_architecture
from kdas_tf.training.classification import ClassificationModel, Evaluation
from kdas_tf.training.devices.workers import run_on_first_worker, wait_for, writes
from kdas_tf.training.recipe import BatchSource, Recipe

RESULT = "pretrain.json"
INDEX = "images.json"
SOURCES = ("folder", "tfds")


def check(*, source: str, batch_size: int, held_out: float, architecture: str | None, **_: Any) -> None:
    """Refuses arguments that cannot work."""
    if source not in SOURCES:
        raise UserError(
            f"Expected pretrain.run.source to be one of {', '.join(SOURCES)}, got {source!r}.", code="choice"
        )
    if batch_size < 1:
        raise UserError(f"Expected pretrain.run.batch_size of at least 1, got {batch_size}.", code="range")
    classes.check_held_out(held_out)
    if architecture is not None:
        baselines.check(architecture)


def plan(
    job: Job,
    identities: int | None,
    *,
    data_dir: str,
    network: CellSettings,
    fitting: Fitting,
    source: str,
    tfds_name: str,
    held_out: float,
    architecture: str | None,
    batch_size: int,
    **_: Any,
) -> list[str]:
    """Says what the stage would do, with classes, images and parameters."""
    images, _data = _open(job.workdir / "pretrain", data_dir, source, tfds_name, held_out)
    with keras.StatelessScope():
        parameters = trainable_parameters(_make_network(job.workdir, architecture, images, network))
    height, width = network.image_size
    return [
        f"trains {architecture or 'the network that was searched'} at {height}x{width}, "
        f"{millions(parameters)} M trainable parameters",
        f"{len(images.classes):,} classes, {images.train_images:,} images to train on, {images.val_images:,} to judge "
        "by",
        f"{fitting.epochs} epochs of batches of {batch_size}",
    ]


def reads(workdir: Path, arguments: Mapping[str, Any]) -> Sequence[Source]:
    """What the result depends on: the network, and which images are in which class, told by their names."""
    sources = read_by_architecture(arguments["architecture"])
    if arguments["source"] != "folder":
        return sources
    root = Path(os.path.abspath(os.path.expanduser(arguments["data_dir"])))

    def listed() -> ReIDData:
        data = classes.read(root, held_out=arguments["held_out"])
        return ReIDData(data.name, data.train, gallery=data.val)

    return [*sources, Photographs(root, listed, workdir / "pretrain", listed_only=True)]


@stage("pretrain", result=RESULT, check=check, plan=plan, reads=reads, machines="together", trains_cells=True)
def run(
    job: Job,
    *,
    data_dir: str,
    network: CellSettings,
    fitting: Fitting,
    source: str = "folder",
    tfds_name: str = "imagenet2012",
    held_out: float = 0.1,
    architecture: str | None = None,
    batch_size: int = 256,
    augmentation: RandomResizedCrop = RandomResizedCrop(),
) -> None:
    """Writes `pretrain.json` last, beside the network after the last epoch and the best one in `best`.

    The paper pre-trains on ImageNet (section 4.4) and says no more about it; the numbers are in `gin/pretrain.gin`.

    Args:
        job: what the launcher sets.
        data_dir: folder of class folders (`kdas_tf.data.classes.read`), or the one in which TFDS keeps its data sets.
        network: image size, and the cells of a network of cells.
        fitting: of the weights.
        source: one of `SOURCES`.
        tfds_name: name of the data set in TFDS.
        held_out: share of a folder without `val` to judge by.
        architecture: as in `kdas_tf.models.baselines.make`; None is the genotype that this run's search has derived.
        batch_size: images in a batch.
        augmentation: of the training images.
    """
    recipe = Recipe("pretrain", job, fitting)
    check(source=source, batch_size=batch_size, held_out=held_out, architecture=architecture)
    folder, image_size = job.workdir / "pretrain", network.image_size
    images, data = _open(folder, data_dir, source, tfds_name, held_out)
    shape: dict[str, Any] = {"image_size": image_size, "batch_size": batch_size}

    def make(epoch: int, step: int, shard: BatchShard) -> Dataset:
        place: dict[str, Any] = {"start_epoch": epoch, "start_step": step, "epochs": fitting.epochs, "shard": shard}
        return training_batches(images, augmentation=augmentation, seed=job.seed, **shape, **place)

    # The network first: its errors come at once. Then every image is looked at, which may take long.
    with recipe.making(BatchSource(make, steps_per_epoch(images.train_images, batch_size))):
        trained = _make_network(job.workdir, architecture, images, network)
        number, smoothing = len(images.classes), fitting.label_smoothing
        model = ClassificationModel(trained, num_classes=number, label_smoothing=smoothing)
        recipe.compile(model)
    if data is not None:
        images, records = _check_images(data, job, folder / INDEX)
        recipe.source = BatchSource(make, steps_per_epoch(images.train_images, batch_size), records)
    kept: dict[str, Any] = {"folder": folder, "image_size": image_size, "epochs": fitting.epochs}
    evaluation = Evaluation(model, lambda shard: validation_batches(images, shard=shard, **shape), **kept)
    shown, board = ("total", "top1", "val_top1", "val_top5"), recipe.board(recipe.first_batches(1)[0])
    recipe.fit(model, board=board, callbacks=[evaluation], shown=shown)
    accuracies = {"results": evaluation.final(), "best": evaluation.best}
    if writes(job.strategy):
        saved.save(trained, folder, image_size=image_size)
        about = {"parameters": trainable_parameters(trained), "epochs": fitting.epochs, "classes": number}
        _finish(folder, accuracies, {**about, "train_images": images.train_images, "val_images": images.val_images})


def _check_images(data: ClassData, job: Job, index: Path) -> tuple[EncodedImages, Sequence[Any]]:
    """Looks at every file once and writes the index of those that can be used; returns them, and their records."""

    def check() -> None:
        if not index.exists():
            readable = classes.drop_damaged(data, progress=progress_line("pretrain: checking images"))
            print(f"pretrain: {classes.describe(readable)}", flush=True)
            classes.save(readable, index)

    run_on_first_worker(job.strategy, check)
    wait_for(index)
    data = classes.load(index)
    return ImageFiles(data), (*data.train, *data.val)


def _open(
    folder: Path, data_dir: str, source: str, tfds_name: str, held_out: float
) -> tuple[EncodedImages, ClassData | None]:
    """The images, and what is known about their files; from the index if an earlier command has written it."""
    if source == "tfds":
        return TfdsImages(data_dir, tfds_name), None
    index = folder / INDEX
    data = classes.load(index) if index.exists() else classes.read(data_dir, held_out=held_out)
    return ImageFiles(data), data


def _make_network(workdir: Path, architecture: str | None, images: EncodedImages, network: CellSettings) -> keras.Model:
    name = architecture_of(workdir, architecture)
    if architecture is None and not Path(name).exists():
        raise UserError(
            f"Nothing to pre-train: {workdir} holds no search result. Give the --workdir of a finished search, or "
            "name a network, such as --gin_param=\"ARCHITECTURE='ResNet18'\"."
        )
    return baselines.make(name, len(images.classes), **network.arguments())


def _finish(folder: Path, accuracies: dict[str, dict[str, float]], about: dict[str, int]) -> None:
    last, best = accuracies["results"], accuracies["best"]
    print(
        f"pretrain: top-1 {last['top1']:.1f}  top-5 {last['top5']:.1f}  "
        f"(best: top-1 {best['top1']:.1f} after epoch {best['epoch']})",
        flush=True,
    )
    rounded = {kind: {name: round(value, 4) for name, value in of.items()} for kind, of in accuracies.items()}
    files.write_json(folder / RESULT, {**rounded, **about})
