"""Stage 3: searches the architecture and leaves it as data and as pictures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import genotype
from kdas_tf.data.pipeline import BatchShard, Dataset, TrainingImages, paired_batches
from kdas_tf.data.records import ReIDData, relabel
from kdas_tf.data.sampler import steps_per_epoch
from kdas_tf.data.splits import half_split
from kdas_tf.drawing import pictures
from kdas_tf.evaluation.printing import millions
from kdas_tf.losses.objective import Objective
from kdas_tf.models.memory import search_bytes, search_step_bytes
from kdas_tf.models.networks import Supernet, trainable_parameters
from kdas_tf.schedules import LinearTemperature
from kdas_tf.settings import CellSettings, Fitting, Job, Monitoring, Sampling, Stabilizers
from kdas_tf.stages import data as data_stage
from kdas_tf.stages import teacher as teacher_stage
from kdas_tf.stages.stage import stage
from kdas_tf.training.board import ArchitectureLog
from kdas_tf.training.derivation import Derivation
from kdas_tf.training.devices.workers import writes
from kdas_tf.training.discretization import DiscretizationLog
from kdas_tf.training.recipe import BatchSource, Recipe
from kdas_tf.training.stabilizers import AlphaPenalty, AlphaWarmup
from kdas_tf.training.steps import SearchModel

RESULT = "genotype.json"


def plan(
    job: Job,
    identities: int | None,
    *,
    network: CellSettings,
    sampling: Sampling,
    fitting: Fitting,
    stabilizers: Stabilizers,
    rematerialize: bool,
    **_: Any,
) -> list[str]:
    """Says what the stage would do, with parameters and the memory on each device."""
    with keras.StatelessScope():  # shapes are all that is needed
        parameters = trainable_parameters(_make_supernet(identities or 1, network, stabilizers, rematerialize))
    devices, half = job.strategy.num_replicas_in_sync, "16" in keras.config.dtype_policy().compute_dtype
    sizes: dict[str, Any] = {"bytes_per_number": 2 if half else 4, **network.arguments()}
    sizes |= {"partial_channels": stabilizers.partial_channels, "rematerialize": rematerialize}
    batch = -(-sampling.batch_size // devices)
    memory, activations = search_bytes(batch, parameters, **sizes), search_step_bytes(batch, **sizes)
    height, width = network.image_size
    return [
        f"supernet of {network.cells} cells, C = {network.channels}, {millions(parameters)} M parameters, at "
        f"{height}x{width}",
        f"{fitting.epochs} epochs of batches of {sampling.batch_size}",
        f"memory: about {memory / 1e9:.1f} GB{f' on each of {devices} devices' if devices > 1 else ''}, "
        f"{activations / 1e9:.2f} GB of it activations",
    ]


def _may_change(arguments: Mapping[str, Any]) -> Sequence[str]:
    # The student's size is logged; only a budget of parameters makes the search depend on it.
    budget = arguments["stabilizers"].parameter_budget is not None
    return ("monitoring",) if budget else ("monitoring", "student")


def check(*, fitting: Fitting, stabilizers: Stabilizers, **_: Any) -> None:
    """Refuses a search whose alphas would never move."""
    AlphaWarmup(stabilizers.alpha_warmup_epochs, of=fitting.epochs)


def reads(workdir: Path, arguments: Mapping[str, Any]) -> Sequence[str]:
    """What the result depends on: the teacher only where it is looked at."""
    return ("data", "teacher") if teacher_stage.is_used(arguments["temperature"], arguments["fitting"]) else ("data",)


@stage(
    "search",
    result=RESULT,
    check=check,
    plan=plan,
    reads=reads,
    machines="together",
    trains_cells=True,
    may_change=_may_change,
)
def run(
    job: Job,
    *,
    network: CellSettings,
    student: CellSettings,
    sampling: Sampling,
    fitting: Fitting,
    alpha_optimizer: Callable[..., keras.optimizers.Optimizer],
    alpha_learning_rate: float = 0.02,
    temperature: Callable[[float], float] = LinearTemperature(),
    objective: Objective = Objective(),
    stabilizers: Stabilizers = Stabilizers(),
    monitoring: Monitoring = Monitoring(),
    rematerialize: bool = False,
) -> None:
    """Writes `genotype.json`, and pictures of it and of the alphas.

    Args:
        job: what the launcher sets.
        network: the supernet.
        student: the network that will be derived, whose parameters are logged.
        sampling: batches of D_train, and of D_val.
        fitting: of the supernet's weights.
        alpha_optimizer: makes the optimizer of the architecture parameters from a learning rate.
        alpha_learning_rate: of the architecture parameters, constant.
        temperature: T as a function of the epoch; where it is 0 from the start, no teacher is needed.
        objective: of Eq. 9.
        stabilizers: options that the paper does not have.
        monitoring: what is drawn and measured.
        rematerialize: whether maps inside the cells are made twice instead of kept: less memory, more time.

    Raises:
        UserError: an earlier stage's result cannot be used.
    """
    recipe, data = Recipe("search", job, fitting), data_stage.load(job.workdir)
    num_identities = len(relabel(data.train)[1])
    derived = {"num_identities": num_identities, **student.arguments()}

    with recipe.making(_both_halves(job, data, network.image_size, sampling, fitting, temperature)):
        supernet = _make_supernet(num_identities, network, stabilizers, rematerialize)
        penalty = AlphaPenalty(stabilizers, epochs=fitting.epochs, student=derived)
        teacher = teacher_stage.load_used(job.workdir, data, temperature, fitting)
        added = penalty if penalty.is_on else None
        model = SearchModel(supernet, teacher, objective, num_identities=num_identities, penalty=added)
        alphas = alpha_optimizer(learning_rate=alpha_learning_rate)
        recipe.compile(model, alphas, title=f"supernet of {network.cells} cells")

    derivation = Derivation(supernet, derived, stabilizers.max_skip)
    log, drop = _logs(recipe, derivation, monitoring)
    recipe.fit(
        model,
        board=log.board,
        temperature=temperature,
        parts={"alpha_optimizer": model.alpha_optimizer, "temperature": model.temperature},
        callbacks=[AlphaWarmup(stabilizers.alpha_warmup_epochs, of=fitting.epochs), penalty, log, drop],
        shown=("total", "val_total", "temperature", "entropy_normal", "entropy_reduce"),
    )
    if writes(job.strategy):
        origin = {"data": data.name, "identities": num_identities, "seed": job.seed, "epochs": fitting.epochs}
        _write_result(job.workdir / "search", derivation, {**origin, **network.arguments()})


def _logs(recipe: Recipe, derivation: Derivation, monitoring: Monitoring) -> tuple[ArchitectureLog, DiscretizationLog]:
    """What is watched beside the objective."""
    first, every = recipe.first_batches(monitoring.measured_batches), monitoring.picture_every
    log = ArchitectureLog(derivation, recipe.board(first[0]["train"]), picture_every=every)
    validation, epochs = [pair["val"] for pair in first], recipe.fitting.epochs
    return log, DiscretizationLog(derivation, validation, every=every, epochs=epochs)


def _make_supernet(identities: int, network: CellSettings, stabilizers: Stabilizers, rematerialize: bool) -> Supernet:
    options: dict[str, Any] = {"partial_channels": stabilizers.partial_channels, "rematerialize": rematerialize}
    return Supernet(identities, name="supernet", **options, **network.arguments())


def _both_halves(
    job: Job,
    data: ReIDData,
    image_size: tuple[int, int],
    sampling: Sampling,
    fitting: Fitting,
    temperature: Callable[[float], float],
) -> BatchSource:
    """Batches of D_train and D_val side by side: the training photographs, split in half for each identity."""
    seen = teacher_stage.size_seen(job.workdir, temperature, fitting)
    images = TrainingImages(data.train, image_size, cache_bytes=job.image_cache_bytes, teacher_size=seen)
    train, val = half_split(images.labels, job.seed)

    def make(epoch: int, step: int, shard: BatchShard) -> Dataset:
        halves = {"train": (train, 2 * job.seed), "val": (val, 2 * job.seed + 1)}
        place: dict[str, Any] = {"start_epoch": epoch, "start_step": step, "epochs": fitting.epochs, "shard": shard}
        return paired_batches(images, halves, sampling=sampling, **place)

    steps = min(steps_per_epoch(len(half), sampling.batch_size) for half in (train, val))
    return BatchSource(make, steps, data.train)


def _write_result(folder: Path, derivation: Derivation, origin: dict[str, Any]) -> None:
    """Derives the genotype and writes pictures and, last, the file."""
    if derivation.max_skip is not None:
        origin["max_skip"] = derivation.max_skip
    alphas, derived, parameters = derivation.alphas(), derivation.genotype(), derivation.parameters()
    for name, alpha in alphas.items():
        pictures.save(pictures.alpha_heatmap(alpha, name), folder / f"{name}.png")
    pictures.save(pictures.draw_genotype(derived, "Derived genotype"), folder / "genotype.png")
    genotype.save(folder / RESULT, derived, **alphas, derived_from={**origin, "derived_parameters": parameters})
    for cell in ("normal", "reduce"):
        nodes = (" + ".join(f"{operation} {source}" for operation, source in node) for node in derived.nodes(cell))
        print(f"search: {cell} cell  " + " | ".join(nodes))
    print(f"search: {millions(parameters)} M trainable parameters at C = {derivation.student['channels']}", flush=True)
