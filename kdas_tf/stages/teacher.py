"""Stage 2: fine-tunes the teacher with L_c + L_t, or takes over logits that somebody else computed."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kdas_tf import files, schedules
from kdas_tf.data.image_cache import ImageCache
from kdas_tf.data.pipeline import WHOLE, Dataset, Share, balanced_batches, naming_damaged_images, ordered_batches
from kdas_tf.data.records import ReIDData, relabel
from kdas_tf.data.sampler import steps_per_epoch
from kdas_tf.data.transforms import Augmentation
from kdas_tf.errors import UserError
from kdas_tf.evaluation.features import Network, predict
from kdas_tf.losses.objective import Objective
from kdas_tf.models import saved
from kdas_tf.models.networks import trainable_parameters
from kdas_tf.models.teacher_network import Teacher, TeacherTable, read_logits
from kdas_tf.stages import data as data_stage
from kdas_tf.stages.judging import judge, summary
from kdas_tf.stages.reporting import progress_line
from kdas_tf.training.batch_norm import configure_batch_norm
from kdas_tf.training.board import Board
from kdas_tf.training.checkpoints import Checkpoints
from kdas_tf.training.devices.replicas import Strategy, replicas
from kdas_tf.training.devices.workers import by_first, on_this_worker, share_of, writes
from kdas_tf.training.fitting import fit
from kdas_tf.training.optimizers import adam
from kdas_tf.training.steps import TrainingModel

RESULT = "teacher.json"
TOGETHER = True
TABLE = "logits.npy"
VIEWS = ("augmented", "clean")


def run(
    *,
    workdir: Path,
    seed: int,
    strategy: Strategy,
    image_size: tuple[int, int],
    backbone: str = "ResNet50",
    weights: str | None = "imagenet",
    last_stride: int | None = None,
    backbone_arguments: dict[str, Any] | None = None,
    teacher_image_size: tuple[int, int] | None = None,
    logits: str | None = None,
    reuse: str | None = None,
    view: str = "augmented",
    epochs: int = 60,
    identities_per_batch: int = 16,
    images_per_identity: int = 4,
    learning_rate: float = 3.5e-4,
    final_learning_rate: float = 3.5e-6,
    optimizer: Callable[..., keras.optimizers.Optimizer] = adam,
    label_smoothing: float = 0.0,
    augmentation: Callable[[], Augmentation] = Augmentation,
    objective: Callable[[], Objective] = Objective,
    synchronized_batch_norm: bool = True,
    keep_checkpoints: int = 3,
    image_cache_gb: float = 1.0,
) -> None:
    """Writes `teacher.json` beside the weights, or beside a table of logits.

    Args:
        workdir: folder of the run.
        seed: of weights, batches and augmentation.
        strategy: devices.
        image_size: (height, width) of the photographs in pixels.
        backbone: name in keras.applications.
        weights: of the backbone: "imagenet", a file, or None.
        last_stride: stride of a ResNet's last stage, None for the usual 2.
        backbone_arguments: more arguments of the backbone.
        teacher_image_size: what the backbone sees, if it is not `image_size`.
        logits: file of logits per image (`kdas_tf.models.teacher_network.read_logits`); nothing is trained then.
        reuse: folder of another run's teacher stage, of the same training images; it is copied, nothing is trained.
        view: "augmented" runs the teacher on what the student sees, "clean" once on every image as it is.
        epochs: of fine-tuning.
        identities_per_batch: P.
        images_per_identity: K.
        learning_rate: at the start.
        final_learning_rate: at the end of a cosine.
        optimizer: makes the optimizer from a learning rate.
        label_smoothing: of the labels.
        augmentation: makes the augmentation.
        objective: makes the objective; the temperature is 0, so it is L_c + L_t.
        synchronized_batch_norm: several devices normalise by the whole batch; otherwise each by its own part of it.
        keep_checkpoints: how many of the last checkpoints are kept.
        image_cache_gb: decoded training images are kept in memory if all of them fit; 10^9 bytes.

    Raises:
        UserError: an argument is out of its range, or a file cannot be used.
    """
    if view not in VIEWS:
        raise UserError(f"Expected teacher.run.view to be one of {VIEWS}, got {view!r}.")
    since = time.monotonic()
    folder, data = workdir / "teacher", data_stage.load(workdir)
    labels, identities = relabel(data.train)
    if reuse is not None:
        source = Path(reuse)
        by_first(strategy, lambda: _copy(source, folder, images=len(labels), identities=len(identities)))
        return
    if logits is not None:
        by_first(strategy, lambda: _take_logits(logits, folder, data, identities))
        return

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
        network = Teacher(
            backbone,
            len(identities),
            image_size=teacher_image_size or image_size,
            weights=weights,
            last_stride=last_stride,
            backbone_arguments=backbone_arguments,
        )
        configure_batch_norm(network, replicas=replicas(), synchronized=synchronized_batch_norm, momentum=0.9)
        model = TrainingModel(
            network, None, objective(), num_identities=len(identities), label_smoothing=label_smoothing
        )
        model.compile(optimizer(learning_rate=learning_rate), jit_compile=False)
    parameters = trainable_parameters(network)
    print(f"teacher: {backbone}, {parameters / 1e6:.1f} M trainable parameters, {len(identities)} identities")

    with naming_damaged_images(data.train):
        fit(
            model,
            batches,
            stage="teacher",
            workdir=workdir,
            epochs=epochs,
            steps_per_epoch=steps_per_epoch(len(labels), identities_per_batch * images_per_identity),
            checkpoints=Checkpoints(
                folder / "checkpoints",
                {"network": network, "optimizer": model.optimizer},
                keep=keep_checkpoints,
                strategy=strategy,
            ),
            board=Board(workdir / "tensorboard" / "teacher", strategy=strategy),
            temperature=lambda epoch: 0.0,
            learning_rate=lambda epoch: schedules.cosine(
                epoch, start=learning_rate, end=final_learning_rate, epochs=epochs
            ),
            shown=("total", "distillation", "triplet"),
            since=since,
        )
    if not writes(strategy):
        return
    judged = on_this_worker(network, strategy)
    result = judge(judged, data, image_size=image_size, title="teacher")
    results = summary(result) if result else {}
    if results:
        print("teacher: " + "  ".join(f"{name} {value:.1f}" for name, value in results.items()), flush=True)
    saved.save(network, folder, image_size=image_size)
    content = {"results": results, "parameters": parameters}
    if view == "clean":
        _finish_with_table(folder, clean_logits(judged, data, image_size), content)
    else:
        files.write_json(folder / RESULT, {"kind": "network", **content})


def clean_logits(network: Network, data: ReIDData, image_size: tuple[int, int]) -> np.ndarray:
    """Logits `[training images, identities]` of every training image as it is, not augmented."""
    report = progress_line("teacher: clean view of the training images")
    parts, done = [], 0
    with naming_damaged_images(data.train):
        for batch in ordered_batches(data.train, image_size=image_size, batch_size=64):
            parts.append(np.asarray(predict(network, batch["image"]).logits))
            done += len(parts[-1])
            report(done, len(data.train))
    return np.concatenate(parts)


def _take_logits(file: str, folder: Path, data: ReIDData, identities: Sequence[int]) -> None:
    table = read_logits(file, [Path(record.path).name for record in data.train], identities)
    _finish_with_table(folder, table, {"logits": file})


def _finish_with_table(folder: Path, logits: np.ndarray, origin: dict[str, Any]) -> None:
    with files.replacing(folder / TABLE) as partial:
        np.save(partial, logits, allow_pickle=False)
    files.write_json(folder / RESULT, {"kind": "table", **origin})


def _copy(source: Path, folder: Path, *, images: int, identities: int) -> None:
    """Takes over another run's teacher, the index last."""
    try:
        content = files.read_json(source / RESULT)
        table = content["kind"] == "table"
        if table:
            found = np.load(source / TABLE, mmap_mode="r", allow_pickle=False).shape
        else:
            found = (images, saved.describe(source)["config"]["num_identities"])
    except files.DAMAGE as error:
        raise UserError(
            f"Expected teacher.run.reuse to be the teacher folder of a finished run, but {source} cannot be read "
            f"({type(error).__name__}: {error})."
        ) from error
    if found != (images, identities):
        raise UserError(
            f"The teacher in {source} is of {found[1]} identities{f' and {found[0]} images' if table else ''}, this "
            f"data set has {identities}{f' and {images}' if table else ''}. Take one that was trained on the same data."
        )
    for name in (TABLE, saved.WEIGHTS, saved.INDEX):
        if (source / name).exists():
            with files.replacing(folder / name) as partial:
                shutil.copyfile(source / name, partial)
    files.write_json(folder / RESULT, {**content, "reused_from": str(source)})


def load(workdir: Path) -> keras.Model | TeacherTable:
    """Loads what the stage wrote; call it inside the strategy's scope."""
    folder = workdir / "teacher"
    try:
        content = files.read_json(folder / RESULT)
        if content["kind"] == "table":
            return TeacherTable(np.load(folder / TABLE, allow_pickle=False), name="teacher")
        return saved.load(folder)
    except files.DAMAGE as error:
        raise UserError(
            f"The teacher in {folder} cannot be read ({type(error).__name__}: {error}). "
            "Delete that folder and run the teacher stage again."
        ) from error


def plan(
    *, workdir: Path, num_identities: int, image_size: tuple[int, int], backbone: str = "ResNet50", **arguments: Any
) -> list[str]:
    """Says what the stage would do, with parameters."""
    if arguments.get("reuse"):
        return [f"takes over the teacher in {arguments['reuse']}"]
    if arguments.get("logits"):
        return [f"takes the logits in {arguments['logits']}"]
    size = arguments.get("teacher_image_size") or image_size
    with keras.StatelessScope():
        network = Teacher(
            backbone,
            num_identities,
            image_size=size,
            weights=None,
            last_stride=arguments.get("last_stride"),
            backbone_arguments=arguments.get("backbone_arguments"),
        )
    return [
        f"fine-tunes {backbone} at {size[0]}x{size[1]} for {arguments.get('epochs', 60)} epochs, "
        f"{trainable_parameters(network) / 1e6:.1f} M trainable parameters"
    ]
