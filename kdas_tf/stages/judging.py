"""How stages judge a network while they train it, and how its numbers are written."""

from typing import Any

import numpy as np

from kdas_tf.data.pipeline import naming_damaged_images, ordered_batches
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.evaluation import ranking
from kdas_tf.evaluation.distances import FeatureDistances
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.features import Network, extract
from kdas_tf.evaluation.printing import Row
from kdas_tf.evaluation.ranking import RankingResult
from kdas_tf.stages.reporting import progress_line


def judge(
    network: Network,
    data: ReIDData,
    *,
    image_size: tuple[int, int],
    batch_size: int = 64,
    title: str = "evaluation",
) -> RankingResult | None:
    """Ranks the gallery for every query; None where the data set has no queries or no gallery."""
    if not data.query or not data.gallery:
        print(f"{title}: skipped, {data.name} has no query or no gallery images", flush=True)
        return None

    def embed(records: tuple[Record, ...], split: str) -> Embeddings:
        batches = ordered_batches(records, image_size=image_size, batch_size=batch_size)
        with naming_damaged_images(records):
            values = extract(network, batches, total=len(records), progress=progress_line(f"{title}: {split}"))
        identities, cameras = [r.identity for r in records], [r.camera for r in records]
        return Embeddings(values, np.asarray(identities), np.asarray(cameras), split)

    query, gallery = embed(data.query, "query"), embed(data.gallery, "gallery")
    return ranking.evaluate(FeatureDistances(query.features, gallery.features), query, gallery)


def summary(result: RankingResult) -> dict[str, float]:
    """The numbers that people compare, in percent."""
    names = ("mAP", "mINP", "rank1", "rank5", "rank10")
    return {name: round(100 * float(getattr(result, name)), 2) for name in names}


def as_numbers(result: RankingResult) -> dict[str, Any]:
    """All numbers of a ranking, as fractions from 0 to 1."""
    names = ("mAP", "mINP", "rank1", "rank5", "rank10")
    numbers: dict[str, Any] = {name: float(getattr(result, name)) for name in names}
    return numbers | {"cmc": [float(value) for value in result.cmc], "invalid_queries": int(result.invalid_queries)}


def as_row(name: str, result: RankingResult, parameters: int | None) -> Row:
    """The line of a table."""
    return Row(name, result.mAP, result.rank1, result.rank5, result.rank10, parameters, result.mINP)
