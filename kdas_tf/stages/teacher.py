"""Stage 2: fine-tunes the teacher with L_c + L_t, or takes over logits that somebody else computed."""

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kdas_tf import files
from kdas_tf.data.logits import read_logits
from kdas_tf.data.pipeline import naming_damaged_images, ordered_batches
from kdas_tf.data.records import ReIDData, relabel
from kdas_tf.errors import UserError
from kdas_tf.evaluation.features import collect
from kdas_tf.evaluation.printing import millions
from kdas_tf.losses.objective import Objective
from kdas_tf.models import saved
from kdas_tf.models.networks import trainable_parameters
from kdas_tf.models.teacher_network import Teacher, TeacherTable
from kdas_tf.schedules import over
from kdas_tf.settings import Backbone, Fitting, Job, Sampling
from kdas_tf.stages import data as data_stage
from kdas_tf.stages.judging import judge, summary
from kdas_tf.stages.reporting import progress_line
from kdas_tf.stages.stage import Source, stage
from kdas_tf.training.devices.workers import run_on_first_worker, writes
from kdas_tf.training.inference import inference
from kdas_tf.training.recipe import Recipe, balanced_source
from kdas_tf.training.steps import TrainingModel

RESULT = "teacher.json"
TABLE = "logits.npy"
VIEWS = ("augmented", "clean")


def make_network(
    backbone: Backbone, num_identities: int, image_size: tuple[int, int], weights: str | None = None
) -> Teacher:
    """Makes the teacher for photographs of a size, by default with new weights; `weights` are as in `Backbone`."""
    return Teacher(
        backbone.name,
        num_identities,
        image_size=backbone.image_size or image_size,
        weights=weights,
        last_stride=backbone.last_stride,
        backbone_arguments=backbone.arguments,
    )


def check(*, view: str, **_: Any) -> None:
    """Refuses a view that does not exist."""
    if view not in VIEWS:
        raise UserError(f"Expected teacher.run.view to be one of {VIEWS}, got {view!r}.", code="choice")


def plan(
    job: Job,
    identities: int | None,
    *,
    image_size: tuple[int, int],
    backbone: Backbone,
    fitting: Fitting,
    logits: str | None,
    reuse: str | None,
    **_: Any,
) -> list[str]:
    """Says what the stage would do, with parameters."""
    if reuse is not None:
        return [f"takes over the teacher in {reuse}"]
    if logits is not None:
        return [f"takes the logits in {logits}"]
    with keras.StatelessScope():
        parameters = trainable_parameters(make_network(backbone, identities or 1, image_size))
    height, width = backbone.image_size or image_size
    return [
        f"fine-tunes {backbone.name} at {height}x{width} for {fitting.epochs} epochs, "
        f"{millions(parameters)} M trainable parameters"
    ]


def reads(workdir: Path, arguments: Mapping[str, Any]) -> Sequence[Source]:
    """What the result depends on."""
    logits, reuse, weights = arguments["logits"], arguments["reuse"], arguments["backbone"].weights
    if reuse is not None:
        return "data", *(Path(reuse) / name for name in (RESULT, TABLE, saved.WEIGHTS))
    if logits is not None:
        return "data", Path(logits)
    return ("data", Path(weights)) if weights not in (None, "imagenet") else ("data",)


def batches(arguments: Mapping[str, Any]) -> Sampling | None:
    """The batches that are trained on; a teacher that is taken from elsewhere has none."""
    taken = arguments["reuse"] is not None or arguments["logits"] is not None
    return None if taken else arguments["sampling"]


@stage(
    "teacher",
    result=RESULT,
    check=check,
    plan=plan,
    reads=reads,
    machines="together",
    sampling=batches,
    serves=("search", "train", "table"),
)
def run(
    job: Job,
    *,
    image_size: tuple[int, int],
    backbone: Backbone,
    sampling: Sampling,
    fitting: Fitting,
    objective: Objective = Objective(),
    logits: str | None = None,
    reuse: str | None = None,
    view: str = "augmented",
) -> None:
    """Writes `teacher.json` beside the weights, or beside a table of logits.

    Args:
        job: what the launcher sets.
        image_size: (height, width) of the photographs in pixels, where the backbone has no size of its own.
        backbone: the network that is fine-tuned.
        sampling: the batches.
        fitting: of the weights.
        objective: of Eq. 9; the temperature is 0, so it is L_c + L_t.
        logits: file of logits per image (`kdas_tf.data.logits.read_logits`); nothing is trained then.
        reuse: folder of another run's teacher stage, of the same training images; it is copied, nothing is trained.
        view: "augmented" runs the teacher on what the student sees, "clean" once on every image as it is.

    Raises:
        UserError: an argument is out of its range, or a file cannot be used.
    """
    recipe = Recipe("teacher", job, fitting)
    check(view=view)
    folder, data = job.workdir / "teacher", data_stage.load(job.workdir)
    identities, photographs = relabel(data.train)[1], photographs_of(data)
    if reuse is not None:
        run_on_first_worker(job.strategy, lambda: _copy(Path(reuse), folder, photographs))
        return
    if logits is not None:
        run_on_first_worker(job.strategy, lambda: _take_logits(logits, folder, data, identities, photographs))
        return

    image_size = backbone.image_size or image_size  # what it sees is read from the files, also while it teaches
    with recipe.making(balanced_source(job, data, image_size=image_size, sampling=sampling, epochs=fitting.epochs)):
        network = make_network(backbone, len(identities), image_size, backbone.weights)
        smoothing = fitting.label_smoothing
        model = TrainingModel(network, None, objective, num_identities=len(identities), label_smoothing=smoothing)
        # keras.applications ships a momentum of 0.99 to 0.999, which lags in runs of a few epochs.
        recipe.compile(model, title=f"{backbone.name}, {len(identities)} identities", momentum=0.9)
    recipe.fit(model, board=recipe.board(), shown=("total", "distillation", "triplet"))
    if not writes(job.strategy):
        return

    result = judge(network, data, image_size=image_size, title="teacher")
    results = summary(result) if result else {}
    if results:
        print("teacher: " + "  ".join(f"{name} {value:.1f}" for name, value in results.items()), flush=True)
    saved.save(network, folder, image_size=image_size)
    content = {"results": results, "parameters": trainable_parameters(network), "photographs": photographs}
    if view == "clean":
        _finish_with_table(folder, clean_logits(network, data, image_size, len(identities)), content)
    else:
        files.write_json(folder / RESULT, {"kind": "network", **content})


def clean_logits(network: keras.Model, data: ReIDData, image_size: tuple[int, int], identities: int) -> np.ndarray:
    """Logits `[training images, identities]` of every training image as it is, not augmented."""
    report = progress_line("teacher: clean view of the training images")
    batches, function = ordered_batches(data.train, image_size=image_size, batch_size=64), inference(network)
    with naming_damaged_images(data.train):
        table = collect(lambda images: function(images).logits, batches, total=len(data.train), progress=report)
    if table.shape[1] != identities:
        raise ValueError(f"Expected logits of {identities} identities, got an array of shape {table.shape}.")
    return table


def _take_logits(file: str, folder: Path, data: ReIDData, identities: Sequence[int], photographs: str) -> None:
    table = read_logits(file, [Path(record.path).name for record in data.train], identities)
    _finish_with_table(folder, table, {"logits": file, "photographs": photographs})


def _finish_with_table(folder: Path, logits: np.ndarray, origin: dict[str, Any]) -> None:
    with files.replacing(folder / TABLE) as partial:
        np.save(partial, logits, allow_pickle=False)
    files.write_json(folder / RESULT, {"kind": "table", **origin})


def _copy(source: Path, folder: Path, photographs: str) -> None:
    """Takes over another run's teacher, the index last."""
    try:
        content = files.read_json(source / RESULT)
        kind, theirs = content["kind"], content.get("photographs")
        needed = [TABLE] if kind == "table" else [saved.WEIGHTS, saved.INDEX]
        for name in needed:
            files.open_file(source / name).close()
    except files.DAMAGE as error:
        raise UserError(
            f"Expected teacher.run.reuse to be the teacher folder of a finished run, but {source} cannot be read "
            f"({type(error).__name__}: {error}).",
            code="damaged",
        ) from error
    if theirs != photographs:
        raise UserError(
            f"The teacher in {source} was made from other training photographs or people than this data set has (by "
            "the names of the files and who is in them). Give a teacher of the same data.",
            code="fit",
        )
    for name in needed:
        with files.replacing(folder / name) as partial:
            shutil.copyfile(source / name, partial)
    files.write_json(folder / RESULT, {**content, "reused_from": str(source)})


def photographs_of(data: ReIDData) -> str:
    """SHA-256 of the training photographs' names in their order, with who is in them."""
    digest = hashlib.sha256()
    for record, label in zip(data.train, relabel(data.train)[0], strict=True):
        digest.update(os.fsencode(Path(record.path).name) + f"\0{label}\n".encode())
    return digest.hexdigest()


def is_used(temperature: Callable[[float], float], fitting: Fitting) -> bool:
    """Whether a search or a training ever looks at the teacher: at T = 0 only the labels count."""
    temperature = over(temperature, fitting.epochs)
    return any(temperature(epoch) > 0 for epoch in range(fitting.epochs))


def size_seen(workdir: Path, temperature: Callable[[float], float], fitting: Fitting) -> tuple[int, int] | None:
    """The (height, width) at which the teacher wants the photographs of a batch; None where it sees none."""
    if not is_used(temperature, fitting) or _content(workdir / "teacher")["kind"] == "table":
        return None
    return saved.describe(workdir / "teacher")["image_size"]


def load_used(
    workdir: Path, data: ReIDData, temperature: Callable[[float], float], fitting: Fitting
) -> keras.Model | TeacherTable | None:
    """As `load`; None where nothing looks at the teacher, which need not be there then."""
    return load(workdir, data) if is_used(temperature, fitting) else None


def load(workdir: Path, data: ReIDData) -> keras.Model | TeacherTable:
    """Loads what the stage wrote; call it inside the strategy's scope.

    Raises:
        UserError: it cannot be read, or its table is of other photographs than those of the workdir's data.
    """
    folder = workdir / "teacher"
    if _content(folder)["kind"] != "table":
        return saved.load(folder)
    table, expected = _read_table(folder), (len(data.train), len(relabel(data.train)[1]))
    if table.shape != expected:
        raise UserError(
            f"Expected {folder / TABLE} to hold logits {list(expected)} of the training images, got "
            f"{list(table.shape)}. Delete that folder and run the teacher stage again.",
            code="fit",
        )
    return TeacherTable(table, name="teacher")


def _content(folder: Path) -> dict[str, Any]:
    try:
        content = dict(files.read_json(folder / RESULT))
        return {**content, "kind": content["kind"]}
    except files.DAMAGE as error:
        raise _unreadable(folder, error) from error


def _read_table(folder: Path) -> np.ndarray:
    try:
        return np.load(folder / TABLE, allow_pickle=False)
    except files.DAMAGE as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"The teacher in {folder} cannot be read ({type(error).__name__}: {error}). Delete that folder and run the "
        "teacher stage again.",
        code="damaged",
    )
