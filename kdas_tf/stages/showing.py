"""What people look at after an evaluation: curves, ranked lists, a table per query, TensorBoard and one page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdas_tf.drawing import curves, pictures, report
from kdas_tf.drawing.ranked_lists import RankedRow, Shown, ranked_list, worst_and_best
from kdas_tf.evaluation import printing, ranking
from kdas_tf.evaluation.distances import Distances
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.printing import Row
from kdas_tf.evaluation.ranking import RankingResult
from kdas_tf.evaluation.verification import VerificationResult
from kdas_tf.stages.subjects import Subject
from kdas_tf.training.board import Board


class Outcome(NamedTuple):
    """All that an evaluation found.

    Attributes:
        subject: what was judged.
        distances: by which the gallery was ranked.
        result: of that ranking.
        reranked: of the re-ranked one.
        verification: thresholds for "the same person".
        rows: lines of the table.
        conventions: how the numbers were made, in short texts.
    """

    subject: Subject
    distances: Distances
    result: RankingResult
    reranked: RankingResult | None
    verification: VerificationResult | None
    rows: Sequence[Row]
    conventions: Mapping[str, str]


def show(outcome: Outcome, folder: Path, board_folder: Path, *, shown_queries: int) -> list[str]:
    """Writes everything but `results.json` into the stage's folder, and the pictures to TensorBoard.

    Returns:
        What a reader must know before believing the numbers.
    """
    drawn = {"cmc": curves.cmc_curve(_cmc_curves(outcome))}
    if outcome.verification is not None:
        outcome.verification.save(folder / "verification.json")
        curve, points = outcome.verification.curve, outcome.verification.points
        rates = np.array([point.fpr for point in curve]), np.array([point.tpr for point in curve])
        marked = {outcome.subject.name: [(point.fpr, point.tpr) for point in points]}
        drawn["roc"] = curves.roc_curve({outcome.subject.name: rates}, marked)
    _write_queries(outcome, folder / "per_query.csv")
    lists = _ranked_lists(outcome, shown_queries)
    sheets = {f"{kind}_queries": ranked_list(rows, f"The {kind} queries") for kind, rows in lists.items() if rows}
    board = Board(board_folder)
    for name, figure in {**drawn, **sheets}.items():
        pictures.save(figure, folder / f"{name}.png")
        board.picture(name, figure, 0)
    board.on_train_end()
    warnings = _warnings(outcome)
    descriptions = {
        "cmc": "Share of queries with a match among the first k images, for every k",
        "roc": "Share of pairs of one person that are accepted, over the share of pairs of different people",
    }
    page = report.render(
        f"{outcome.subject.name} on {outcome.subject.data}",
        outcome.rows,
        facts=_facts(outcome),
        warnings=warnings,
        conventions=[f"{name.replace('_', ' ')}: {text}" for name, text in outcome.conventions.items()],
        curves=[report.Curve(pictures.to_png(figure), descriptions[name]) for name, figure in drawn.items()],
        verification={outcome.subject.name: outcome.verification.points} if outcome.verification else {},
        ranked_lists={f"The {kind} queries": rows for kind, rows in lists.items()},
    )
    report.write(folder / "report.html", page)
    return warnings


def _cmc_curves(outcome: Outcome) -> dict[str, np.ndarray]:
    curves = {"ranking": outcome.result.cmc}
    return curves if outcome.reranked is None else {**curves, "re-ranked": outcome.reranked.cmc}


def _write_queries(outcome: Outcome, path: Path) -> None:
    query, result = outcome.subject.query, outcome.result
    photographs = outcome.subject.photographs
    printing.write_per_query_csv(
        path,
        queries=photographs[0] if photographs else range(len(query)),
        identities=query.identities,
        cameras=query.cameras,
        average_precisions=result.average_precisions,
        first_match_ranks=result.first_ranks,
        inverse_negative_penalties=result.inverse_negative_penalties,
        matches=result.matches,
    )


def _ranked_lists(outcome: Outcome, count: int) -> dict[str, list[RankedRow]]:
    """The worst and the best queries, with what was found for them; empty without photographs."""
    subject = outcome.subject
    if subject.photographs is None or not count:
        return {}
    queries, gallery = subject.photographs

    def shown(paths: list[str], images: Embeddings, position: int, distance: float = math.nan, correct=False) -> Shown:
        identity, camera = int(images.identities[position]), int(images.cameras[position])
        return Shown(paths[position], identity, camera, float(distance), bool(correct))

    def row(position: int) -> RankedRow:
        found, correct = ranking.nearest(outcome.distances, position, subject.query, subject.gallery)
        far = outcome.distances.exact(position, found)
        return RankedRow(
            shown(queries, subject.query, position),
            [shown(gallery, subject.gallery, *one) for one in zip(found, far, correct, strict=True)],
            float(outcome.result.average_precisions[position]),
            int(outcome.result.first_ranks[position]) or None,
        )

    chosen = worst_and_best(outcome.result.average_precisions, count, identities=subject.query.identities)
    return {kind: [row(position) for position in part] for kind, part in zip(("worst", "best"), chosen, strict=True)}


def _facts(outcome: Outcome) -> dict[str, str]:
    subject = outcome.subject
    return {
        "Data set": subject.data,
        "Queries": f"{len(subject.query):,} of {len(np.unique(subject.query.identities)):,} people",
        "Gallery": f"{len(subject.gallery):,} images",
        "Embedding": f"{subject.query.features.shape[1]} numbers",
    }


def _warnings(outcome: Outcome) -> list[str]:
    left_out = outcome.result.invalid_queries
    if not left_out:
        return []
    return [f"{left_out:,} of {len(outcome.subject.query):,} queries have no match in the gallery from another camera."]
