"""Exports a network as TensorFlow Serving loads it, with its checks and papers."""

import dataclasses
import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

import kdas_tf
from kdas_tf import files
from kdas_tf.data import counts, market1501
from kdas_tf.data.records import ReIDData
from kdas_tf.errors import UserError
from kdas_tf.formats import MAX_PIXELS
from kdas_tf.models import saved
from kdas_tf.serving import checking, embedder, model_card, server_config, versions, warmup
from kdas_tf.serving import runtimes as runtime_files
from kdas_tf.serving.checking import Comparison
from kdas_tf.serving.versions import Version
from kdas_tf.settings import Job
from kdas_tf.stages import copies, evaluate, loading
from kdas_tf.stages import data as data_stage
from kdas_tf.stages.loading import Conditions, LoadedNetwork
from kdas_tf.stages.stage import stage

RESULT = "export.json"
NOTE = "assets.extra/export.json"
"""What a version says of itself; a server does not read it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Server:
    """What the server is configured with.

    Args:
        batch_sizes: ascending; sizes of batches that the server makes, each tried before it serves a version.
        base_path: where the server sees the stage's folder.
        tells_errors: the model tells what is wrong with each image, in an output of its own; otherwise a wrong image
            fails all of a request, and of the server's batch, as in exports before version 0.2.
    """

    batch_sizes: Sequence[int] = (1, 2, 4, 8, 16)
    base_path: str = "/models"
    tells_errors: bool = True

    def __post_init__(self):
        server_config.check_batch_sizes(self.batch_sizes)


def plan(job: Job, identities: int | None, **arguments: Any) -> list[str]:
    """Says what the stage would do."""
    root, name = job.workdir / "export", arguments["name"]
    number = arguments["version"] or max(versions.published(root, name), default=0) + 1
    return [f"exports {_network_folder(job.workdir, arguments['model'])} as {root / name / str(number)}"]


def check(
    *, name: str, runtimes: Sequence[str], max_pixels: int, compared: int, calibrated: int, judged: int | None, **_: Any
) -> None:
    """Refuses wrong arguments before anything is done."""
    versions.check_name(name)
    runtime_files.check(runtimes)
    if min(max_pixels, compared, calibrated) < 1 or (judged or 0) < 0:
        raise UserError(
            "Expected export.run.max_pixels, compared and calibrated to be at least 1 and judged at least 0, or None, "
            f"got {max_pixels}, {compared}, {calibrated} and {judged}.",
            code="range",
        )


@stage(
    "export",
    result=RESULT,
    check=check,
    plan=plan,
    reads=lambda workdir, arguments: None,  # a run exports as often as it is told to; the stage looks what is there
    repeatable=True,
    grows=True,
    decided_by=(),
)
def run(
    job: Job,
    *,
    model: str | None = None,
    name: str = "kdas_reid",
    version: int | None = None,
    data_dir: str | None = None,
    reader: Callable[..., ReIDData] = market1501.read,
    max_pixels: int = MAX_PIXELS,
    server: Server = Server(),
    compared: int = 16,
    runtimes: Sequence[str] = (),
    calibrated: int = 100,
    judged: int | None = 100,
) -> None:
    """Writes `NAME/VERSION/`, `models.config`, `batching.config` and `monitoring.config`, and `export.json` last.

    The exported model is float32, in whatever precision the network was trained. What was exported last with the same
    arguments is not exported again, unless `version` asks for it.

    Args:
        job: the run.
        model: folder of a stage that left a network; None takes the run's own student, or its teacher.
        name: of the model on the server.
        version: its number; None is the one after the highest.
        data_dir: folder of photographs to compare the embeddings on; None takes those of the run, or random images.
        reader: reads that folder.
        max_pixels: height times width of an encoded image at most; the server refuses a larger one.
        server: its configuration.
        compared: number of images to compare the embeddings on.
        runtimes: other runtimes to add files for, of `kdas_tf.serving.runtimes.FILES`.
        calibrated: number of training photographs that show an int8 copy the ranges of the network's maps.
        judged: number of people who judge the copies for other runtimes; None for the gallery, 0 for no judgement.

    Raises:
        UserError: there is nothing to export, it cannot be exported, or it does not give the same embeddings.
    """
    since, root = time.monotonic(), job.workdir / "export"
    check(name=name, runtimes=runtimes, max_pixels=max_pixels, compared=compared, calibrated=calibrated, judged=judged)
    folder = _network_folder(job.workdir, model)
    asked: dict[str, Any] = {"runtimes": list(runtimes), "calibrated": calibrated, "judged": judged}
    content: dict[str, Any] = {"name": name, "max_pixels": max_pixels, "batch_sizes": list(server.batch_sizes)}
    content |= {"tells_errors": server.tells_errors, "asked_copies": asked}
    content |= {"weights": files.hash_files(folder / saved.WEIGHTS)}
    if _is_there(root, content, version, server):
        return
    loaded = _open(folder)
    data = loading.read_data(_run_of(folder), data_dir, reader, title="export")
    images, kind = _compared_images(loaded, data, compared, max_pixels)
    with versions.publishing(root, name, version) as new:
        _embedder(loaded, content).save(new.folder)
        comparison = checking.compare(new.folder, loaded.network, images, image_size=loaded.image_size)
        content |= {"image_size": list(loaded.image_size), **_numbers(new, comparison, kind)}
        content["copies"] = copies.make(loaded, new.folder, comparison, data, **asked)
        content["warmup_requests"] = _warm_up(new, content)
        model_card.write(new.folder, _facts(content, loaded, folder, job.workdir))
        content["seconds"] = round(time.monotonic() - since, 1)
        files.write_json(new.folder / NOTE, content)
    _finish(root, content, server)
    _tell(content)


def _embedder(loaded: LoadedNetwork, content: Mapping[str, Any]) -> embedder.Embedder:
    limits: dict[str, Any] = {name: content[name] for name in ("max_pixels", "tells_errors")}
    return embedder.Embedder(loaded.network, image_size=loaded.image_size, **limits)


def _network_folder(workdir: Path, model: str | None) -> Path:
    candidates = [Path(model)] if model is not None else [workdir / stage for stage in loading.OWN_NETWORKS]
    for folder in candidates:
        if (folder / saved.INDEX).exists() and (folder / saved.WEIGHTS).exists():
            return folder
    if model is not None and (candidates[0] / loading.SAVED_MODEL).exists():
        raise UserError(f"{model} is exported already. Give the folder of the stage that left its network instead.")
    raise UserError(
        f"Nothing to export: {model or workdir} holds no trained network. Give --model=FOLDER of a stage, such as "
        "runs/search/train, or the --workdir of a finished run.",
        code="missing",
    )


def _run_of(folder: Path) -> Path:
    """The run that a network was trained in; `best` is a folder inside a stage's."""
    return next((run for run in folder.parents[:2] if (run / "data" / data_stage.RESULT).exists()), folder.parent)


def _finish(root: Path, content: dict[str, Any], server: Server) -> None:
    """Writes what a server and people read of a version that is published."""
    server_config.write(root, versions.models(root), base_path=server.base_path, batch_sizes=server.batch_sizes)
    folder = root / content["name"] / str(content["version"])
    content |= {"path": str(folder), "sha256": files.hash_files(folder)}
    content["bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    files.write_json(root / RESULT, content)


def _is_there(root: Path, wanted: Mapping[str, Any], version: int | None, server: Server) -> bool:
    """Whether the last export is of the same network and arguments; it may have more copies."""
    last = _read(root / RESULT)
    if not _is_same(last, wanted, version):
        # A process that was killed after it had published a version has left only the note inside.
        newest, told = max(versions.published(root, wanted["name"]), default=0), last.get("version")
        last = _read(root / wanted["name"] / str(newest) / NOTE)
        if newest == told or not _is_same(last, wanted, version):
            return False
        _finish(root, last, server)
    folder = root / last["name"] / str(last["version"])  # the workdir may have been moved
    there = folder.is_dir() and files.hash_files(folder) == last["sha256"]
    if there:
        print(f"export: done before, {folder}", flush=True)
    return there


def _is_same(last: Mapping[str, Any], wanted: Mapping[str, Any], version: int | None) -> bool:
    copies_then, copies_now = last.get("asked_copies", {}), wanted["asked_copies"]
    has_copies = set(copies_now["runtimes"]) <= set(copies_then.get("runtimes", ()))
    alike = not copies_now["runtimes"] or {**copies_then, "runtimes": 0} == {**copies_now, "runtimes": 0}
    same = all(last.get(key) == value for key, value in wanted.items() if key != "asked_copies")
    return same and has_copies and alike and version in (None, last.get("version"))


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of another stage; empty where it is missing or damaged."""
    try:
        content = files.read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _open(folder: Path) -> LoadedNetwork:
    """Loads the network in float32, since that is what is exported."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return loading.open_network(folder, str(folder), None)
    finally:
        keras.config.set_dtype_policy(before)


def _compared_images(
    loaded: LoadedNetwork, data: ReIDData | None, number: int, max_pixels: int
) -> tuple[list[bytes], str]:
    """Encoded images to compare the embeddings on, and what they are; random where the run has no photographs left."""
    photographs = [record.path for record in (*data.query, *data.gallery) or data.train] if data is not None else []
    contents = checking.readable(photographs, number, max_pixels=max_pixels)
    if contents:
        return contents, "photographs"
    return checking.random_images(number, loaded.image_size, max_pixels=max_pixels), "random images"


def _numbers(new: Version, comparison: Comparison, kind: str) -> dict[str, Any]:
    numbers = {"embedding_size": comparison.embedding_size, "difference": comparison.difference}
    left = embedder.normalizations_left(new.folder)
    return {**numbers, "version": new.number, "compared_on": f"{comparison.images} {kind}", "normalizations": left}


def _tell(content: Mapping[str, Any]) -> None:
    text = (
        "export: {path}, {megabytes:.1f} MB, embeddings of {embedding_size} numbers, at most {difference:.1e} from the "
    )
    print((text + "network's on {compared_on}").format(megabytes=content["bytes"] / 1e6, **content), flush=True)


def _warm_up(new: Version, content: Mapping[str, Any]) -> int:
    if not warmup.available():
        print(f"export: without warm-up requests, for which {warmup.PACKAGE} is needed: pip install '.[serving]'")
        return 0
    return warmup.write(new.folder, **{name: content[name] for name in ("name", "image_size", "batch_sizes")})


def _facts(content: Mapping[str, Any], loaded: LoadedNetwork, folder: Path, workdir: Path) -> model_card.Facts:
    run, described = _run_of(folder), saved.describe(folder)
    index = run / "data" / data_stage.RESULT
    trained_on = data_stage.load(run) if index.exists() else None
    metrics, thresholds, not_judged = _evaluation({workdir, run}, loaded)
    return model_card.Facts(
        name=content["name"],
        version=content["version"],
        kind=described["kind"],
        config=described["config"],
        parameters=loaded.parameters,
        image_size=loaded.image_size,
        embedding_size=content["embedding_size"],
        data=(trained_on.name, counts.describe(trained_on)) if trained_on is not None else None,
        training=_read(folder / f"{folder.name}.json"),
        settings=_read(folder / "settings.json").get("arguments", {}),
        metrics=metrics,
        thresholds=thresholds,
        not_judged=not_judged,
        made={
            "weights, SHA-256": content["weights"],
            "index of the data, SHA-256": files.hash_files(index) if index.exists() else "not known",
            "largest difference to the network": f"{content['difference']:.1e} on {content['compared_on']}",
            "batch normalisations left": content["normalizations"],
            "largest encoded image": f"{content['max_pixels']:,} pixels",
            "kdas_tf": kdas_tf.__version__,
            **{package: importlib.metadata.version(package) for package in ("tensorflow", "keras")},
        },
    )


def _evaluation(runs: set[Path], loaded: LoadedNetwork) -> tuple[dict[str, Any] | None, dict[str, Any] | None, str]:
    """What the evaluate stage of a run has measured of this very network as it is served, and its thresholds.

    Or else why there is nothing.
    """
    height, width = loaded.image_size
    served = Conditions((height, width), flip=False, precision="float32")
    why = "This network was not judged by the evaluate stage before it was exported."
    for run in sorted(runs):
        results = _read(run / "evaluate" / evaluate.RESULT)
        if results.get("network") != loaded.identity or "mAP" not in results:
            continue
        judged = Conditions.read(results.get("conditions"))
        if judged == served:
            return results, _read(run / "evaluate" / "verification.json") or None, ""
        way = judged or "another version of kdas_tf"
        why = (
            f"The evaluate stage judged this network in another way ({way}) than it is served ({served}), so its "
            "numbers and thresholds are not this model's. Evaluate it so, and export again."
        )
    return None, None, why
