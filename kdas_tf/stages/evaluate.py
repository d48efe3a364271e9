"""Judges a network, an exported model or a file of embeddings: numbers, curves, ranked lists, a page."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdas_tf import files
from kdas_tf.data import market1501
from kdas_tf.data.records import ReIDData
from kdas_tf.errors import UserError
from kdas_tf.evaluation import printing, ranking
from kdas_tf.evaluation.distances import Distances, FeatureDistances, Metric
from kdas_tf.evaluation.ranking import RankingResult, Rules
from kdas_tf.evaluation.rerank import RerankedDistances
from kdas_tf.evaluation.verification import Verification
from kdas_tf.models import saved
from kdas_tf.settings import Job
from kdas_tf.stages import subjects
from kdas_tf.stages.judging import as_numbers, as_row
from kdas_tf.stages.reporting import progress_line
from kdas_tf.stages.showing import Outcome, show
from kdas_tf.stages.stage import Source, stage
from kdas_tf.stages.subjects import Subject

RESULT = "results.json"


def plan(
    job: Job,
    identities: int | None,
    *,
    model: str | None,
    embeddings: str | None,
    data_dir: str | None,
    rerank: bool,
    **_: Any,
) -> list[str]:
    """Says what the stage would do."""
    again = " and re-ranks them" if rerank else ""
    if embeddings is not None:
        return [f"judges the embeddings in {embeddings}{again}"]
    network = model or job.workdir / ("train" if (job.workdir / "train" / saved.INDEX).exists() else "teacher")
    return [f"judges the network in {network} on {data_dir or job.workdir / 'data'}{again}"]


def reads(workdir: Path, arguments: Mapping[str, Any]) -> Sequence[Source] | None:
    """The run's own network and photographs; None where something from elsewhere is judged."""
    if any(arguments[name] is not None for name in ("model", "embeddings", "data_dir")):
        return None
    return "data", next((name for name in subjects.OWN_NETWORKS if (workdir / name / saved.INDEX).exists()), "teacher")


@stage("evaluate", result=RESULT, plan=plan, reads=reads, repeatable=True, decided_by=("precision",))
def run(
    job: Job,
    *,
    model: str | None = None,
    embeddings: str | None = None,
    data_dir: str | None = None,
    reader: Callable[..., ReIDData] = market1501.read,
    image_size: tuple[int, int] | None = None,
    flip: bool = False,
    batch_size: int = 64,
    metric: Metric = "cosine",
    rules: Callable[[], Rules] = Rules,
    rerank: bool = False,
    reranked_distances: Callable[..., RerankedDistances] = RerankedDistances,
    verification: Callable[..., Verification] | None = Verification,
    shown_queries: int = 6,
) -> None:
    """Writes `results.json` last, beside curves, ranked lists, a table per query and `report.html`.

    Args:
        job: what the launcher sets.
        model: folder of a stage that left a network (`train`, `teacher` or `pretrain` of any run), folder
            of a SavedModel, or an exported .onnx or .tflite file; None takes the run's own student, or its teacher.
        embeddings: file of embeddings (`kdas_tf.evaluation.embeddings.load`) to judge instead of a network.
        data_dir: folder of the data set; None takes the run's own data.
        reader: reads that folder.
        image_size: (height, width) in pixels; None is what the network was trained on.
        flip: average the embeddings of every image and its mirror image.
        batch_size: images embedded at a time.
        metric: "cosine" or "euclidean"; re-ranking has its own.
        rules: makes the rules of the ranking.
        rerank: judge the re-ranked distances too.
        reranked_distances: makes them from the features of queries and gallery.
        verification: makes what finds thresholds for "the same person"; None leaves that out.
        shown_queries: number of the worst and of the best queries to show.

    Raises:
        UserError: there is nothing to judge, or it cannot be judged.
    """
    since = time.monotonic()
    workdir, folder, counted = job.workdir, job.workdir / "evaluate", rules()
    if embeddings is not None:
        if model is not None:
            raise UserError("Expected --model or --embeddings, got both. Leave one out.")
        subject = subjects.from_file(embeddings)
    else:
        data = subjects.read_data(workdir, data_dir, reader)
        with job.strategy.scope():
            judged = subjects.open_network(workdir, model, image_size)
        subject = subjects.from_network(judged, data, folder, flip=flip, batch_size=batch_size)
    distances = FeatureDistances(subject.query.features, subject.gallery.features, metric)
    checked = verification(distance=metric) if verification is not None else None
    result = _judge("ranking", distances, subject, counted, checked)
    reranked = None
    if rerank:
        again = reranked_distances(
            subject.query.features, subject.gallery.features, progress=progress_line("evaluate: neighbours")
        )
        reranked = _judge("re-ranking", again, subject, counted)
    conventions = {"distance": metric, **counted.conventions()}
    rows = [as_row(subject.name, result, subject.parameters)]
    if reranked is not None:
        rows.append(as_row(f"{subject.name}, re-ranked", reranked, subject.parameters))
    outcome = Outcome(subject, distances, result, reranked, checked.result() if checked else None, rows, conventions)
    warnings = show(outcome, folder, workdir / "tensorboard" / "evaluate", shown_queries=shown_queries)
    print(printing.format_table(rows, [f"{name.replace('_', ' ')}: {text}" for name, text in conventions.items()]))
    for warning in warnings:
        print(f"note: {warning}")
    files.write_json(folder / RESULT, _content(outcome, seconds=time.monotonic() - since))


def _judge(
    title: str, distances: Distances, subject: Subject, rules: Rules, verification: Verification | None = None
) -> RankingResult:
    return ranking.evaluate(
        distances,
        subject.query,
        subject.gallery,
        rules=rules,
        verification=verification,
        progress=progress_line(f"evaluate: {title}"),
    )


def _content(outcome: Outcome, *, seconds: float) -> dict[str, Any]:
    """What `results.json` holds."""
    subject = outcome.subject
    content: dict[str, Any] = as_numbers(outcome.result) | {
        "conventions": {**outcome.conventions, "unit": "fractions from 0 to 1"}
    }
    if outcome.reranked is not None:
        content["reranked"] = as_numbers(outcome.reranked) | {
            "conventions": {**content["conventions"], "distance": "k-reciprocal"}
        }
    if outcome.verification is not None:
        content["verification"] = [point._asdict() for point in outcome.verification.points]
    return content | {
        "subject": subject.name,
        "data": subject.data,
        "parameters": subject.parameters,
        "queries": len(subject.query),
        "gallery": len(subject.gallery),
        "embedding_size": int(subject.query.features.shape[1]),
        "seconds": round(seconds, 1),
    }
