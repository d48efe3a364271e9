"""Stage 3: searches the architecture and leaves it as data and as pictures."""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import genotype, schedules
from kdas_tf.data.image_cache import ImageCache
from kdas_tf.data.pipeline import WHOLE, Dataset, Share, naming_damaged_images, paired_batches
from kdas_tf.data.records import relabel
from kdas_tf.data.sampler import steps_per_epoch
from kdas_tf.data.splits import half_split
from kdas_tf.data.transforms import Augmentation
from kdas_tf.drawing import pictures
from kdas_tf.errors import UserError
from kdas_tf.losses.objective import Objective
from kdas_tf.models.costs import derived_parameters
from kdas_tf.models.memory import search_bytes, search_step_bytes
from kdas_tf.models.networks import PAPER_REDUCTIONS, Supernet, trainable_parameters
from kdas_tf.stages import data as data_stage
from kdas_tf.stages import teacher as teacher_stage
from kdas_tf.training.batch_norm import configure_batch_norm
from kdas_tf.training.board import ArchitectureLog, Board
from kdas_tf.training.checkpoints import Checkpoints
from kdas_tf.training.devices.replicas import Strategy, replicas
from kdas_tf.training.devices.workers import share_of, writes
from kdas_tf.training.discretization import DiscretizationLog
from kdas_tf.training.fitting import fit
from kdas_tf.training.optimizers import adam, momentum_sgd
from kdas_tf.training.stabilizers import AlphaPenalty, AlphaWarmup
from kdas_tf.training.steps import SearchModel

RESULT = "genotype.json"
TOGETHER = True
CELLS = True


def run(
    *,
    workdir: Path,
    seed: int,
    strategy: Strategy,
    image_size: tuple[int, int],
    channels: int = 32,
    cells: int = 8,
    reductions: Sequence[int] = PAPER_REDUCTIONS,
    stem: str = "inet4",
    student_channels: int = 64,
    epochs: int = 200,
    identities_per_batch: int = 8,
    images_per_identity: int = 2,
    learning_rate: float = 0.1,
    final_learning_rate: float = 0.001,
    weight_optimizer: Callable[..., keras.optimizers.Optimizer] = momentum_sgd,
    alpha_learning_rate: float = 0.02,
    alpha_optimizer: Callable[..., keras.optimizers.Optimizer] = adam,
    temperature: Callable[[float], float] = schedules.linear_temperature,
    augmentation: Callable[[], Augmentation] = Augmentation,
    objective: Callable[[], Objective] = Objective,
    picture_every: int = 10,
    measured_batches: int = 4,
    alpha_warmup_epochs: int = 0,
    beta_weight: float = 0.0,
    beta_growth: bool = True,
    max_skip: int | None = None,
    partial_channels: int = 1,
    parameter_budget: float | None = None,
    budget_weight: float = 10.0,
    rematerialize: bool = False,
    synchronized_batch_norm: bool = True,
    keep_checkpoints: int = 3,
    image_cache_gb: float = 1.0,
) -> None:
    """Writes `genotype.json`, and pictures of it and of the alphas.

    The arguments from `alpha_warmup_epochs` to `budget_weight` stabilise a search; by default all are off, as in the
    paper.

    Args:
        workdir: folder of the run.
        seed: of weights, the split, batches and augmentation.
        strategy: devices.
        image_size: (height, width) in pixels.
        channels: C of the supernet.
        cells: number of cells.
        reductions: positions of the reduction cells, counted from 0.
        stem: one of `kdas_tf.models.stem.STEMS`.
        student_channels: C of the network whose parameters are logged.
        epochs: of the search.
        identities_per_batch: P.
        images_per_identity: K.
        learning_rate: of the weights at the start.
        final_learning_rate: of the weights at the end of a cosine.
        weight_optimizer: makes the weights' optimizer from a learning rate.
        alpha_learning_rate: of the architecture parameters.
        alpha_optimizer: makes their optimizer from a learning rate.
        temperature: T as a function of the epoch.
        augmentation: makes the augmentation.
        objective: makes the objective of Eq. 9.
        picture_every: epochs between two pictures in TensorBoard, and between two measurements of the drop from the
            supernet to the derived network.
        measured_batches: of D_val, on which it is measured.
        alpha_warmup_epochs: epochs at the start in which the alphas rest.
        beta_weight: of the beta-DARTS regulariser of the alphas.
        beta_growth: its weight grows linearly from 0; constant otherwise.
        max_skip: cap on the skip connections of the derived normal cell.
        partial_channels: K of PC-DARTS: one K-th of the channels goes through the mixed operations.
        parameter_budget: trainable parameters that the derived network should have at most.
        budget_weight: of the share by which the expected parameters exceed the budget.
        rematerialize: whether the maps inside the cells are made twice instead of kept: the same numbers with less
            memory, in more time.
        synchronized_batch_norm: several devices normalise by the whole batch; otherwise each by its own part of it.
        keep_checkpoints: how many of the last checkpoints are kept.
        image_cache_gb: decoded training images are kept in memory if all of them fit; 10^9 bytes.

    Raises:
        UserError: an argument is out of its range, or an earlier stage's result cannot be used.
    """
    if picture_every < 1 or measured_batches < 1:
        raise UserError(
            f"Expected picture_every and measured_batches of at least 1, got {picture_every} and {measured_batches}."
        )
    since = time.monotonic()
    folder, data = workdir / "search", data_stage.load(workdir)
    labels, identities = relabel(data.train)
    halves = dict(zip(("train", "val"), half_split(labels, seed), strict=True))
    network_arguments: dict[str, Any] = {
        "image_size": image_size,
        "cells": cells,
        "reductions": reductions,
        "stem": stem,
    }
    student = {"num_identities": len(identities), "channels": student_channels, **network_arguments}
    warmup = AlphaWarmup(alpha_warmup_epochs, of=epochs)

    cache = ImageCache(data.train, image_size, limit=image_cache_gb * 1e9)

    def batches(epoch: int, step: int = 0, share: Share = WHOLE) -> Dataset:
        return paired_batches(
            {name: (half, 2 * seed + number) for number, (name, half) in enumerate(halves.items())},
            records=data.train,
            labels=labels,
            image_size=image_size,
            identities_per_batch=identities_per_batch,
            images_per_identity=images_per_identity,
            augmentation=augmentation(),
            start_epoch=epoch,
            start_step=step,
            epochs=epochs,
            cache=cache,
            share=share,
        )

    batches(epochs, 0, share_of(strategy))  # refuses what does not fit before networks are made
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        supernet = Supernet(
            len(identities),
            channels=channels,
            partial_channels=partial_channels,
            rematerialize=rematerialize,
            name="supernet",
            **network_arguments,
        )
        configure_batch_norm(supernet, replicas=replicas(), synchronized=synchronized_batch_norm)
        penalty = AlphaPenalty(
            epochs=epochs,
            student=student,
            beta_weight=beta_weight,
            beta_growth=beta_growth,
            parameter_budget=parameter_budget,
            budget_weight=budget_weight,
        )
        model = SearchModel(
            supernet,
            teacher_stage.load(workdir),
            objective(),
            num_identities=len(identities),
            penalty=penalty if penalty.is_on else None,
        )
        model.compile(
            weight_optimizer(learning_rate=learning_rate),
            alpha_optimizer(learning_rate=alpha_learning_rate),
            jit_compile=False,
        )
    print(f"search: supernet of {cells} cells, {trainable_parameters(supernet) / 1e6:.2f} M parameters", flush=True)

    with naming_damaged_images(data.train):
        first = list(itertools.islice(batches(0), measured_batches))
    board = Board(workdir / "tensorboard" / "search", first[0]["train"], strategy=strategy)
    log = ArchitectureLog(supernet, board, student, picture_every=picture_every, max_skip=max_skip)
    drop = DiscretizationLog(
        supernet,
        log.derived,
        [pair["val"] for pair in first],
        strategy=strategy,
        every=picture_every,
        epochs=epochs,
    )
    with naming_damaged_images(data.train):
        fit(
            model,
            batches,
            stage="search",
            workdir=workdir,
            epochs=epochs,
            steps_per_epoch=min(
                steps_per_epoch(len(half), identities_per_batch * images_per_identity) for half in halves.values()
            ),
            checkpoints=Checkpoints(
                folder / "checkpoints",
                {
                    "network": supernet,
                    "weight_optimizer": model.optimizer,
                    "alpha_optimizer": model.alpha_optimizer,
                    "temperature": model.temperature,
                },
                keep=keep_checkpoints,
                strategy=strategy,
            ),
            board=board,
            temperature=temperature,
            learning_rate=lambda epoch: schedules.cosine(
                epoch, start=learning_rate, end=final_learning_rate, epochs=epochs
            ),
            callbacks=[warmup, penalty, log, drop],
            shown=("total", "val_total", "temperature", "entropy_normal", "entropy_reduce"),
            since=since,
        )
    if not writes(strategy):
        return
    origin: dict[str, Any] = {
        "data": data.name,
        "identities": len(identities),
        "seed": seed,
        "epochs": epochs,
        "channels": channels,
    }
    origin |= {"cells": cells, "reductions": list(reductions), "stem": stem, "image_size": list(image_size)}
    if max_skip is not None:
        origin["max_skip"] = max_skip
    _leave(folder, log, origin)


def _leave(folder: Path, log: ArchitectureLog, origin: dict[str, Any]) -> None:
    """Derives the genotype and writes pictures and, last, the file."""
    alphas, found, student = log.alphas(), log.derived(), log.student
    parameters = derived_parameters(found, **student)
    for name, alpha in alphas.items():
        pictures.save(pictures.alpha_heatmap(alpha, name), folder / f"{name}.png")
    pictures.save(pictures.draw_genotype(found, "Derived genotype"), folder / "genotype.png")
    genotype.save(folder / RESULT, found, **alphas, derived_from={**origin, "derived_parameters": parameters})
    for cell in ("normal", "reduce"):
        print(f"search: {cell} cell  " + " | ".join(" + ".join(f"{o} {s}" for o, s in n) for n in found.nodes(cell)))
    print(f"search: {parameters / 1e6:.2f} M trainable parameters at C = {student['channels']}", flush=True)


def plan(
    *,
    workdir: Path,
    num_identities: int,
    image_size: tuple[int, int],
    channels: int = 32,
    cells: int = 8,
    reductions: Sequence[int] = PAPER_REDUCTIONS,
    stem: str = "inet4",
    partial_channels: int = 1,
    rematerialize: bool = False,
    **arguments: Any,
) -> list[str]:
    """Says what the stage would do, with parameters and memory."""
    network: dict[str, Any] = {
        "image_size": image_size,
        "channels": channels,
        "cells": cells,
        "reductions": reductions,
        "stem": stem,
        "partial_channels": partial_channels,
        "rematerialize": rematerialize,
    }
    with keras.StatelessScope():
        supernet = Supernet(num_identities, **network)
    batch = arguments.get("identities_per_batch", 8) * arguments.get("images_per_identity", 2)
    parameters = trainable_parameters(supernet)
    memory, activations = search_bytes(batch, parameters, **network), search_step_bytes(batch, **network)
    return [
        f"supernet of {cells} cells, C = {channels}, {parameters / 1e6:.2f} M parameters, at "
        f"{image_size[0]}x{image_size[1]}",
        f"{arguments.get('epochs', 200)} epochs of batches of {batch}",
        f"memory: about {memory / 1e9:.1f} GB, {activations / 1e9:.2f} GB of it activations",
    ]
