"""What people look at after an evaluation: curves, ranked lists, a table per query, TensorBoard and one page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdas_tf.drawing import curves, pictures, report
from kdas_tf.drawing.ranked_lists import RankedQuery, Shown, ranked_list, worst_and_best
from kdas_tf.evaluation import printing, ranking
from kdas_tf.evaluation.distances import Distances
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.printing import Score
from kdas_tf.evaluation.ranking import RankingResult
from kdas_tf.evaluation.verification import VerificationResult
from kdas_tf.stages.loading import EmbeddedData
from kdas_tf.training.board import Board


class Outcome(NamedTuple):
    """All results of an evaluation."""

    embedded: EmbeddedData  # what was judged
    distances: Distances  # by which the gallery was ranked
    result: RankingResult
    reranked: RankingResult | None
    verification: VerificationResult | None  # thresholds for "the same person"
    scores: Sequence[Score]  # lines of the table
    conventions: Mapping[str, str]  # how the numbers were made, in short texts

    def sentences(self) -> list[str]:
        """The conventions as people read them."""
        return [f"{name.replace('_', ' ')}: {text}" for name, text in self.conventions.items()]


def show(outcome: Outcome, folder: Path, board_folder: Path, *, shown_queries: int) -> list[str]:
    """Writes everything but `results.json` into the stage's folder, and the pictures to TensorBoard.

    Returns:
        What a reader must know before believing the numbers.
    """
    for name in ("verification.json", "roc.png", "worst_queries.png", "best_queries.png"):
        (folder / name).unlink(missing_ok=True)  # of an evaluation before, which may not be written this time
    embedded, verification = outcome.embedded, outcome.verification
    cmc = {"ranking": outcome.result.cmc} | ({} if outcome.reranked is None else {"re-ranked": outcome.reranked.cmc})
    drawn = {"cmc": curves.cmc_curve(cmc)}
    if verification is not None:
        conditions = embedded.conditions._asdict() if embedded.conditions is not None else None
        verification.save(folder / "verification.json", conditions=conditions)
        fpr, tpr = [point.fpr for point in verification.curve], [point.tpr for point in verification.curve]
        points = [(point.fpr, point.tpr) for point in verification.points]
        drawn["roc"] = curves.roc_curve(embedded.name, fpr, tpr, points)
    queries = embedded.photographs[0] if embedded.photographs else range(len(embedded.query))
    printing.write_per_query_csv(folder / "per_query.csv", queries, embedded.query, outcome.result)
    lists = _ranked_lists(outcome, shown_queries)
    sheets = {f"{kind}_queries": ranked_list(some, f"The {kind} queries") for kind, some in lists.items() if some}
    board = Board(board_folder)
    for name, figure in {**drawn, **sheets}.items():
        pictures.save(figure, folder / f"{name}.png")
        board.picture(name, figure, 0)
    board.on_train_end()
    warnings, left_out = list(embedded.notes), outcome.result.invalid_queries
    if left_out:
        all_queries = f"{len(embedded.query):,} queries"
        warnings.append(f"{left_out:,} of {all_queries} have no match in the gallery from another camera.")
    descriptions = {
        "cmc": "Share of queries with a match among the first k images, for every k",
        "roc": "Share of pairs of one person that are accepted, over the share of pairs of different people",
    }
    page = report.render(
        f"{embedded.name} on {embedded.data}",
        outcome.scores,
        facts={
            "Data set": embedded.data,
            "Queries": f"{len(embedded.query):,} of {len(np.unique(embedded.query.identities)):,} people",
            "Gallery": f"{len(embedded.gallery):,} images",
            "Embedding": f"{embedded.query.features.shape[1]} numbers",
        },
        warnings=warnings,
        conventions=outcome.sentences(),
        curves={descriptions[name]: pictures.to_png(figure) for name, figure in drawn.items()},
        verification=verification.points if verification is not None else (),
        ranked_lists={f"The {kind} queries": some for kind, some in lists.items()},
    )
    report.write(folder / "report.html", page)
    return warnings


def _ranked_lists(outcome: Outcome, count: int) -> dict[str, list[RankedQuery]]:
    """The worst and the best queries, with the images nearest to them; empty without photographs."""
    embedded, result = outcome.embedded, outcome.result
    if embedded.photographs is None or not count:
        return {}
    queries, gallery = embedded.photographs

    def shown(paths: list[str], images: Embeddings, position: int, distance: float = math.nan, correct=False) -> Shown:
        identity = int(images.identities[position])
        camera = int(images.cameras[position]) if embedded.cameras_known else None
        return Shown(paths[position], identity, camera, float(distance), bool(correct))

    def ranked(position: int) -> RankedQuery:
        images, correct = ranking.nearest(outcome.distances, position, embedded.query, embedded.gallery)
        distances = outcome.distances.exact(position, images)
        return RankedQuery(
            shown(queries, embedded.query, position),
            [shown(gallery, embedded.gallery, *image) for image in zip(images, distances, correct, strict=True)],
            float(result.average_precisions[position]),
            int(result.first_ranks[position]) or None,
        )

    worst, best = worst_and_best(result.average_precisions, embedded.query.identities, count)
    return {"worst": [ranked(position) for position in worst], "best": [ranked(position) for position in best]}
