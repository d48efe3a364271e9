"""Stage 4: trains the network that was searched, or any other one, with the objective at dynamic temperature."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files
from kdas_tf.data.records import ReIDData, relabel
from kdas_tf.errors import UserError
from kdas_tf.evaluation.printing import millions
from kdas_tf.losses.objective import Objective
from kdas_tf.models import baselines, saved
from kdas_tf.models.networks import trainable_parameters
from kdas_tf.models.transfer import start_from
from kdas_tf.schedules import LinearTemperature
from kdas_tf.settings import CellSettings, Fitting, Job, Sampling
from kdas_tf.stages import data as data_stage
from kdas_tf.stages import search as search_stage
from kdas_tf.stages import teacher as teacher_stage
from kdas_tf.stages.judging import judge, summary
from kdas_tf.stages.stage import Source, stage
from kdas_tf.training.best import BestNetwork
from kdas_tf.training.callbacks import OnFirstWorker, Scheduled
from kdas_tf.training.devices.workers import writes
from kdas_tf.training.recipe import Recipe, balanced_source
from kdas_tf.training.steps import TrainingModel

RESULT = "train.json"


def architecture_of(workdir: Path, architecture: str | None) -> str:
    """What is trained: the architecture that was given, or the file of this run's search."""
    return architecture if architecture is not None else str(workdir / "search" / search_stage.RESULT)


def read_by_architecture(architecture: str | None) -> list[Source]:
    """What has to be read to make the network: this run's search, a file, or nothing for a name."""
    if architecture is None:
        return ["search"]
    return [] if architecture in baselines.NAMES else [Path(architecture)]


def check(*, architecture: str | None, drop_path: float, judge_every: int, **_: Any) -> None:
    """Refuses what would end the stage after hours of the stages before it."""
    if architecture is not None:
        baselines.check(architecture)
    if judge_every < 1 or not 0 <= drop_path < 1:
        raise UserError(
            "Expected train.run.judge_every of at least 1 and train.run.drop_path from 0 to below 1, got "
            f"{judge_every} and {drop_path}.",
            code="range",
        )


def plan(
    job: Job, identities: int | None, *, architecture: str | None, network: CellSettings, fitting: Fitting, **_: Any
) -> list[str]:
    """Says what the stage would do, with parameters where the architecture is known."""
    name = architecture_of(job.workdir, architecture)
    if architecture is None and not Path(name).exists():
        return [f"trains the network that the search will find, C = {network.channels}, {fitting.epochs} epochs"]
    with keras.StatelessScope():
        parameters = trainable_parameters(baselines.make(name, identities or 1, **network.arguments()))
    return [f"trains {name}, {millions(parameters)} M trainable parameters, {fitting.epochs} epochs"]


def reads(workdir: Path, arguments: Mapping[str, Any]) -> Sequence[Source]:
    """What the result depends on: the teacher only where it is looked at, the search only where it is trained."""
    sources: list[Source] = ["data"]
    if teacher_stage.is_used(arguments["temperature"], arguments["fitting"]):
        sources.append("teacher")
    sources += read_by_architecture(arguments["architecture"])
    if arguments["pretrained"] is not None:
        sources.append(Path(arguments["pretrained"]) / saved.WEIGHTS)
    return sources


@stage(
    "train",
    result=RESULT,
    check=check,
    plan=plan,
    reads=reads,
    machines="together",
    trains_cells=True,
    may_change=lambda arguments: ("judge_every",),
)
def run(
    job: Job,
    *,
    network: CellSettings,
    sampling: Sampling,
    fitting: Fitting,
    architecture: str | None = None,
    drop_path: float = 0.0,
    pretrained: str | None = None,
    temperature: Callable[[float], float] = LinearTemperature(),
    objective: Objective = Objective(),
    judge_every: int = 20,
) -> None:
    """Writes `train.json` last, beside the network after the last epoch and the best one in `best`.

    Args:
        job: what the launcher sets.
        network: image size, and the cells of a network of cells.
        sampling: the batches; the paper has 8 x 4, and 16 x 4 with pre-trained weights.
        fitting: of the weights.
        architecture: as in `kdas_tf.models.baselines.make`; None is the genotype that this run's search has derived.
        drop_path: probability towards which it grows linearly from 0 over the epochs (DARTS).
        pretrained: folder of a pretrain stage to start from.
        temperature: T as a function of the epoch; where it is 0 from the start, no teacher is needed.
        objective: of Eq. 9.
        judge_every: epochs between two evaluations; the last epoch is always judged.

    Raises:
        UserError: an argument is out of its range, or an earlier stage's result cannot be used.
    """
    recipe = Recipe("train", job, fitting)
    check(architecture=architecture, drop_path=drop_path, judge_every=judge_every)
    data = data_stage.load(job.workdir)
    num_identities, image_size = len(relabel(data.train)[1]), network.image_size
    name, folder = architecture_of(job.workdir, architecture), job.workdir / "train"

    common: dict[str, Any] = {"image_size": image_size, "epochs": fitting.epochs}
    seen = teacher_stage.size_seen(job.workdir, temperature, fitting)
    with recipe.making(balanced_source(job, data, sampling=sampling, teacher_size=seen, **common)):
        student = baselines.make(name, num_identities, drop_path=drop_path, **network.arguments())
        if pretrained is not None:
            print(f"train: {start_from(student, Path(pretrained))} weights taken from {pretrained}", flush=True)
        teacher = teacher_stage.load_used(job.workdir, data, temperature, fitting)
        sizes: dict[str, Any] = {"num_identities": num_identities, "label_smoothing": fitting.label_smoothing}
        model = TrainingModel(student, teacher, objective, **sizes)
        recipe.compile(model)

    judged = GalleryJudge(data, student, folder=folder, every=judge_every, **common)
    recipe.fit(
        model,
        board=recipe.board(),
        temperature=temperature,
        callbacks=[*_drop_path(student, drop_path, fitting.epochs), judged],
        shown=("total", "distillation", "triplet", "temperature", "mAP", "rank1"),
    )
    if not writes(job.strategy):
        return
    saved.save(student, folder, image_size=image_size)
    content = {"results": judged.final(), "best": judged.best, "parameters": trainable_parameters(student)}
    files.write_json(folder / RESULT, {**content, "epochs": fitting.epochs, "seed": job.seed})


def _drop_path(network: keras.Model, final: float, epochs: int) -> list[keras.callbacks.Callback]:
    paths = getattr(network, "drop_path", None)  # only networks of cells have it, and only if it is on
    return [] if paths is None else [Scheduled(paths.rate, lambda epoch: final * epoch / epochs)]


class GalleryJudge(BestNetwork, OnFirstWorker):
    """Ranks the gallery now and then, logs mAP and ranks in percent, and keeps the network of the highest mAP.

    Without queries and a gallery nothing is judged. The settings are those of `BestNetwork`.
    """

    BY = "mAP"

    def __init__(self, data: ReIDData, network: keras.Model, **settings: Any):
        super().__init__(network, **settings)
        self.data = data

    def judge(self) -> dict[str, float]:
        """Numbers of the network as it is now, in percent; empty where there is nothing to judge on."""
        result = judge(self.network, self.data, image_size=self.image_size, title="train")
        return summary(result) if result else {}
