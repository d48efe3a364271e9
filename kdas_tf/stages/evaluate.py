"""Judges a network, an exported model or a file of embeddings: numbers, curves, ranked lists, a page."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdas_tf import files
from kdas_tf.data import counts, market1501
from kdas_tf.data.records import ReIDData
from kdas_tf.errors import UserError
from kdas_tf.evaluation import distances, printing, ranking
from kdas_tf.evaluation.distances import Distances, FeatureDistances, Metric
from kdas_tf.evaluation.embeddings import load
from kdas_tf.evaluation.ranking import RankingResult, Rules
from kdas_tf.evaluation.rerank import RerankedDistances, Reranking
from kdas_tf.evaluation.verification import Verification, VerificationSettings
from kdas_tf.models import saved
from kdas_tf.settings import Job
from kdas_tf.stages import data as data_stage
from kdas_tf.stages import loading
from kdas_tf.stages.judging import as_numbers, as_score
from kdas_tf.stages.loading import EmbeddedData
from kdas_tf.stages.reporting import progress_line
from kdas_tf.stages.showing import Outcome, show
from kdas_tf.stages.stage import Source, stage

RESULT = "results.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """How embeddings are judged; the re-ranking is for when it is asked for, None measures no thresholds."""

    rules: Rules = dataclasses.field(default_factory=Rules)
    reranking: Reranking = dataclasses.field(default_factory=Reranking)
    verification: VerificationSettings | None = dataclasses.field(default_factory=VerificationSettings)


def check(
    *,
    model: str | None,
    embeddings: str | None,
    image_size: tuple[int, int] | None,
    metric: Metric,
    batch_size: int,
    shown_queries: int,
    **_: Any,
) -> None:
    """Refuses wrong arguments before anything is done."""
    distances.check_metric(metric)
    if model is not None and embeddings is not None:
        raise UserError("Expected --model or --embeddings, got both. Leave one out.")
    if image_size is not None and min(image_size) < 1:
        raise UserError(f"Expected evaluate.run.image_size of at least (1, 1), got {image_size}.", code="range")
    if batch_size < 1 or shown_queries < 0:
        raise UserError(
            "Expected evaluate.run.batch_size of at least 1 and evaluate.run.shown_queries of at least 0, got "
            f"{batch_size} and {shown_queries}.",
            code="range",
        )


def plan(job: Job, identities: int | None, **arguments: Any) -> list[str]:
    """Says what the stage would do."""
    again = " and re-ranks them" if arguments["rerank"] else ""
    if arguments["embeddings"] is not None:
        return [f"judges the embeddings in {arguments['embeddings']}{again}"]
    model = arguments["model"]
    network = f"the network in {model}" if model else "this run's student, or else its teacher,"
    return [f"judges {network} on {arguments['data_dir'] or job.workdir / 'data'}{again}"]


def reads(workdir: Path, arguments: Mapping[str, Any]) -> Sequence[Source] | None:
    """The run's data and the stage whose network is judged; None if anything is from elsewhere."""
    if any(arguments[name] is not None for name in ("model", "embeddings", "data_dir")):
        return None
    network = loading.own_network(workdir)
    own: tuple[Source, ...] = ("data", network, workdir / network / saved.WEIGHTS)
    return (*own, photographs) if (photographs := data_stage.judged_photographs(workdir)) else own


@stage("evaluate", result=RESULT, check=check, plan=plan, reads=reads, repeatable=True, decided_by=("precision",))
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
    judgement: Judgement = Judgement(),
    rerank: bool = False,
    shown_queries: int = 6,
) -> None:
    """Writes `results.json` last, beside curves, ranked lists, a table per query and `report.html`.

    Args:
        job: the run.
        model: folder of a stage that left a network (`train`, `teacher` or `pretrain` of any run), folder
            of a SavedModel, or an exported .onnx or .tflite file; None takes the run's own student, or its teacher.
        embeddings: file of embeddings (`kdas_tf.evaluation.embeddings.load`) to judge instead of a network.
        data_dir: folder of the data set; None takes the run's own data.
        reader: reads that folder.
        image_size: (height, width) in pixels; None is what the network was trained on.
        flip: average the embeddings of every image and its mirror image.
        batch_size: images embedded at a time.
        metric: "cosine" or "euclidean"; re-ranking has its own.
        judgement: how the embeddings are judged.
        rerank: judge the re-ranked distances too, where there are photographs enough for k1 and k2.
        shown_queries: number of the worst and of the best queries to show.

    Raises:
        UserError: there is nothing to judge, or it cannot be judged.
    """
    since, folder = time.monotonic(), job.workdir / "evaluate"
    given: dict[str, Any] = {"model": model, "embeddings": embeddings, "image_size": image_size}
    check(**given, metric=metric, batch_size=batch_size, shown_queries=shown_queries)
    if embeddings is None:
        data = loading.data_to_judge(job.workdir, data_dir, reader, model)
        with job.strategy.scope():
            loaded = loading.open_network(job.workdir, model, image_size)
        if not data.matched_queries() and model is None:  # the last of a command's stages: the others have done well
            print(f"evaluate: not judged: {counts.why_unjudged(data)}", flush=True)
            files.write_json(folder / RESULT, {"data": data.name, "not_judged": counts.why_unjudged(data)})
            return
        embedded = loading.embed(loaded, data, folder / "embeddings", flip=flip, batch_size=batch_size)
    else:
        embedded = EmbeddedData(Path(embeddings).name, "a file of embeddings", *load(embeddings))
    outcome = _judge(embedded, judgement, metric, rerank)
    warnings = show(outcome, folder, job.workdir / "tensorboard" / "evaluate", shown_queries=shown_queries)
    print(printing.format_table(outcome.scores, outcome.sentences()))
    for warning in warnings:
        print(f"note: {warning}")
    files.write_json(folder / RESULT, _content(outcome, seconds=time.monotonic() - since))


def _judge(embedded: EmbeddedData, judgement: Judgement, metric: Metric, rerank: bool) -> Outcome:
    """Ranks the gallery by the distances of the features, and if asked for by re-ranked distances."""

    def rank(title: str, distances: Distances, pairs: Verification | None = None) -> RankingResult:
        query, gallery, progress = embedded.query, embedded.gallery, progress_line(f"evaluate: {title}")
        return ranking.evaluate(distances, query, gallery, rules=judgement.rules, verification=pairs, progress=progress)

    photographs, least = len(embedded.query) + len(embedded.gallery), judgement.reranking.least_photographs
    if rerank and photographs < least:  # the rest can be judged all the same
        largest = f"rerank.Reranking.k1 of at most {photographs - 1} and k2 of at most {photographs}"
        note = (
            f"not re-ranked: k1 {judgement.reranking.k1} and k2 {judgement.reranking.k2} need at least {least} "
            f"photographs in queries and gallery together, here are {photographs}. Give {largest}."
        )
        embedded, rerank = embedded._replace(notes=(*embedded.notes, note)), False
    features = embedded.query.features, embedded.gallery.features
    plain = FeatureDistances(*features, metric)
    pairs = Verification(judgement.verification, metric) if judgement.verification is not None else None
    result, reranked = rank("ranking", plain, pairs), None
    name = embedded.name if embedded.cameras_known else f"{embedded.name}, near-copies count"
    scores = [as_score(name, result, embedded.parameters)]
    if rerank:
        progress = progress_line("evaluate: neighbours")
        reranked = rank("re-ranking", RerankedDistances(*features, judgement.reranking, progress=progress))
        scores.append(as_score(f"{name}, re-ranked", reranked, embedded.parameters))
    conventions = {"distance": metric, **judgement.rules.conventions()}
    if embedded.conditions is not None:
        conventions = {"images": str(embedded.conditions), **conventions}
    if not embedded.cameras_known:
        conventions["left_out"] = "nothing: the cameras are not known, so near-copies of the query count as matches"
    return Outcome(embedded, plain, result, reranked, pairs.result() if pairs else None, scores, conventions)


def _content(outcome: Outcome, *, seconds: float) -> dict[str, Any]:
    """What `results.json` holds."""
    embedded = outcome.embedded
    conventions = {**outcome.conventions, "unit": "fractions from 0 to 1"}
    content: dict[str, Any] = {**as_numbers(outcome.result), "conventions": conventions}
    if outcome.reranked is not None:
        reranked = {**conventions, "distance": "k-reciprocal"}
        content["reranked"] = {**as_numbers(outcome.reranked), "conventions": reranked}
    if outcome.verification is not None:
        content["verification"] = [point._asdict() for point in outcome.verification.points]
    return content | {
        "subject": embedded.name,
        "network": embedded.network,
        "data": embedded.data,
        "conditions": embedded.conditions._asdict() if embedded.conditions is not None else None,
        "parameters": embedded.parameters,
        "queries": len(embedded.query),
        "gallery": len(embedded.gallery),
        "cameras_known": embedded.cameras_known,
        "notes": list(embedded.notes),
        "embedding_size": int(embedded.query.features.shape[1]),
        "seconds": round(seconds, 1),
    }
