"""Exports a network as TensorFlow Serving loads it, with its checks and papers."""

import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

import kdas_tf
from kdas_tf import files
from kdas_tf.data import counts, market1501, verify
from kdas_tf.data.records import ReIDData
from kdas_tf.errors import UserError
from kdas_tf.evaluation.cache import hash_files
from kdas_tf.models import saved
from kdas_tf.serving import checking, embedder, images, model_card, server_config, versions, warmup
from kdas_tf.serving import runtimes as runtime_files
from kdas_tf.serving.checking import Comparison
from kdas_tf.serving.versions import Version
from kdas_tf.settings import Job
from kdas_tf.stages import copies, evaluate, subjects
from kdas_tf.stages import data as data_stage
from kdas_tf.stages.reporting import progress_line
from kdas_tf.stages.stage import stage
from kdas_tf.stages.subjects import Judged

RESULT = "export.json"


def plan(job: Job, identities: int | None, *, model: str | None, name: str, version: int | None, **_: Any) -> list[str]:
    """Says what the stage would do."""
    root = job.workdir / "export"
    number = version or max(versions.published(root, name), default=0) + 1
    return [f"exports {_network_folder(job.workdir, model)} as {root / name / str(number)}"]


@stage(
    "export",
    result=RESULT,
    plan=plan,
    reads=lambda workdir, arguments: None,  # a run exports as often as it is told to; the stage looks what is there
    repeatable=True,
    decided_by=(),
)
def run(
    job: Job,
    *,
    model: str | None = None,
    name: str = "kdas_reid",
    version: int | None = None,
    data_dir: str | None = None,
    reader: Callable[[Path], ReIDData] = market1501.read,
    batch_sizes: Sequence[int] = (1, 2, 4, 8, 16),
    max_pixels: int = images.MAX_PIXELS,
    base_path: str = "/models",
    compared: int = 16,
    runtimes: Sequence[str] = (),
    calibrated: int = 100,
    judged: int | None = 100,
) -> None:
    """Writes `NAME/VERSION/`, `models.config`, `batching.config` and `monitoring.config`, and `export.json` last.

    The exported model is float32, whatever precision the network was trained in. Nothing is exported if this network
    was exported last, with the same arguments, unless `version` asks for it.

    Args:
        job: what the launcher sets.
        model: folder of a stage that left a network; None takes the run's own student, or its teacher.
        name: of the model on the server.
        version: its number; None is the one after the highest.
        data_dir: folder of photographs to compare the embeddings on; None takes those of the run, or random images.
        reader: reads that folder.
        batch_sizes: ascending; sizes of batches that the server makes, each tried before it serves a version.
        max_pixels: height times width of an encoded image at most; a larger one is refused.
        base_path: where the server sees the stage's folder.
        compared: number of images to compare the embeddings on.
        runtimes: other runtimes to add files for, of `kdas_tf.serving.runtimes.FILES`.
        calibrated: number of training photographs that show an int8 copy the ranges of the network's maps.
        judged: number of people whose queries judge the copies for other runtimes, each among all these people's
            photographs in the gallery; None for the whole gallery, 0 for no judgement.

    Raises:
        UserError: there is nothing to export, it cannot be exported, or it does not give the same embeddings.
    """
    workdir = job.workdir
    since, root = time.monotonic(), workdir / "export"
    versions.check_name(name)
    server_config.check_batch_sizes(batch_sizes)
    runtime_files.check(runtimes)
    if min(compared, max_pixels, calibrated) < 1 or (judged or 0) < 0:
        raise UserError(
            "Expected compared, max_pixels and calibrated of at least 1 and judged of at least 0, "
            f"got {compared}, {max_pixels}, {calibrated} and {judged}.",
            code="range",
        )
    folder = _network_folder(workdir, model)
    content: dict[str, Any] = {"name": name, "weights": hash_files(folder / saved.WEIGHTS), "max_pixels": max_pixels}
    content |= {"batch_sizes": list(batch_sizes)}
    content["asked_copies"] = {"runtimes": list(runtimes), "calibrated": calibrated, "judged": judged}
    if _is_there(root, content, version):
        return
    data = _data(_run_of(folder), data_dir, reader)
    opened = _open(workdir, folder)
    with versions.publishing(root, name, version) as new:
        exported = embedder.Embedder(opened.network, image_size=opened.image_size, max_pixels=max_pixels)
        exported.save(new.folder)
        comparison, kind = _compare(new, opened, data, compared, max_pixels)
        content |= _numbers(new, opened, comparison, kind)
        content["copies"] = copies.make(
            opened, new.folder, runtimes, comparison, data, calibrated=calibrated, judged_identities=judged
        )
        content["warmup_requests"] = _warm_up(new, content)
        model_card.write(new.folder, _facts(content, opened, folder, workdir))
    server_config.write(root, versions.models(root), base_path=base_path, batch_sizes=batch_sizes)
    content |= {"path": str(new.final), "sha256": hash_files(new.final)}
    content["bytes"] = sum(path.stat().st_size for path in new.final.rglob("*") if path.is_file())
    print(
        f"export: {new.final}, {content['bytes'] / 1e6:.1f} MB, embeddings of {content['embedding_size']} numbers, at "
        f"most {content['difference']:.1e} from the network's on {content['compared_on']}",
        flush=True,
    )
    files.write_json(root / RESULT, {**content, "seconds": round(time.monotonic() - since, 1)})


def _network_folder(workdir: Path, model: str | None) -> Path:
    candidates = [Path(model)] if model is not None else [workdir / stage for stage in subjects.OWN_NETWORKS]
    for folder in candidates:
        if (folder / saved.INDEX).exists() and (folder / saved.WEIGHTS).exists():
            return folder
    if model is not None and (candidates[0] / subjects.SAVED_MODEL).exists():
        raise UserError(f"{model} is exported already. Give the folder of the stage that left its network instead.")
    raise UserError(
        f"Nothing to export: {model or workdir} holds no trained network. Give --model=FOLDER of a stage, such as "
        "runs/search/train, or the --workdir of a finished run."
    )


def _run_of(folder: Path) -> Path:
    """The run that a network was trained in; `best` is a folder inside a stage's."""
    return next((run for run in folder.parents[:2] if (run / "data" / data_stage.RESULT).exists()), folder.parent)


def _is_there(root: Path, wanted: Mapping[str, Any], version: int | None) -> bool:
    last = _read(root / RESULT)
    same = all(last.get(key) == value for key, value in wanted.items()) and version in (None, last.get("version"))
    there = same and Path(last["path"]).is_dir() and hash_files(last["path"]) == last["sha256"]
    if there:
        print(f"export: done before, {last['path']}", flush=True)
    return there


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of another stage; nothing where it is missing or damaged."""
    try:
        return dict(files.read_json(path))
    except (OSError, ValueError, TypeError):
        return {}


def _data(run: Path, data_dir: str | None, reader: Callable[[Path], ReIDData]) -> ReIDData | None:
    if data_dir is not None:
        return verify.drop_damaged(reader(Path(data_dir)), progress=progress_line("export: checking images"))
    return data_stage.load(run) if (run / "data" / data_stage.RESULT).exists() else None


def _open(workdir: Path, folder: Path) -> Judged:
    """Loads the network in float32, since that is what is exported."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return subjects.open_network(workdir, str(folder), None)
    finally:
        keras.config.set_dtype_policy(before)


def _compare(
    new: Version, judged: Judged, data: ReIDData | None, number: int, max_pixels: int
) -> tuple[Comparison, str]:
    """Compares the embeddings; on random images where the run has no photographs left."""
    photographs = [record.path for record in (*data.query, *data.gallery) or data.train] if data is not None else []
    contents = checking.readable(photographs, number, max_pixels=max_pixels)
    kind = "photographs" if contents else "random images"
    contents = contents or checking.random_images(number, judged.image_size, max_pixels=max_pixels)
    return checking.compare(new.folder, judged.network, contents, image_size=judged.image_size), kind


def _numbers(new: Version, judged: Judged, comparison: Comparison, kind: str) -> dict[str, Any]:
    return {
        "version": new.number,
        "image_size": list(judged.image_size),
        "embedding_size": comparison.embedding_size,
        "difference": comparison.difference,
        "compared_on": f"{comparison.images} {kind}",
        "normalizations": embedder.normalizations_left(new.folder),
    }


def _warm_up(new: Version, content: Mapping[str, Any]) -> int:
    if not warmup.available():
        print(f"export: without warm-up requests, for which {warmup.PACKAGE} is needed: pip install '.[serving]'")
        return 0
    batch_sizes, image_size = content["batch_sizes"], content["image_size"]
    return warmup.write(new.folder, name=content["name"], image_size=image_size, batch_sizes=batch_sizes)


def _facts(content: Mapping[str, Any], judged: Judged, folder: Path, workdir: Path) -> model_card.Facts:
    run, described = _run_of(folder), saved.describe(folder)
    index = run / "data" / data_stage.RESULT
    trained_on = data_stage.load(run) if index.exists() else None
    metrics, thresholds = _evaluation({workdir, run}, judged)
    packages = {package: importlib.metadata.version(package) for package in ("tensorflow", "keras")}
    return model_card.Facts(
        name=content["name"],
        version=content["version"],
        kind=described["kind"],
        config=described["config"],
        parameters=judged.parameters,
        image_size=judged.image_size,
        embedding_size=content["embedding_size"],
        data=(trained_on.name, counts.describe(trained_on)) if trained_on is not None else None,
        training=_read(folder / f"{folder.name}.json"),
        settings=_read(folder / "settings.json").get("arguments", {}),
        metrics=metrics,
        thresholds=thresholds,
        made={
            "weights, SHA-256": content["weights"],
            "index of the data, SHA-256": hash_files(index) if index.exists() else "not known",
            "largest difference to the network": f"{content['difference']:.1e} on {content['compared_on']}",
            "batch normalisations left": content["normalizations"],
            "largest encoded image": f"{content['max_pixels']:,} pixels",
            "kdas_tf": kdas_tf.__version__,
            **packages,
        },
    )


def _evaluation(runs: set[Path], judged: Judged) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What the evaluate stage of a run has measured of this very network, and its thresholds."""
    for run in sorted(runs):
        folder = run / "evaluate"
        note = _read(folder / "embeddings" / "query.json").get("made_from", {})
        results = _read(folder / evaluate.RESULT)
        if results and note.get("network") == judged.made_from and results.get("subject") == judged.name:
            return results, _read(folder / "verification.json") or None
    return None, None
