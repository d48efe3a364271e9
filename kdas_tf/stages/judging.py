"""How stages judge a network: features of queries and gallery, ranked."""

from typing import Any

import keras

from kdas_tf.data.pipeline import naming_damaged_images, ordered_batches
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.evaluation.features import extract
from kdas_tf.evaluation.ranking import RankingResult, evaluate_ranking
from kdas_tf.stages.reporting import progress_line


def judge(
    network: keras.Model,
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

    def features(split: tuple[Record, ...], name: str) -> tuple[Any, list[int], list[int]]:
        batches = ordered_batches(split, image_size=image_size, batch_size=batch_size)
        with naming_damaged_images(split):
            values = extract(network, batches, total=len(split), progress=progress_line(f"{title}: {name}"))
        return values, [record.identity for record in split], [record.camera for record in split]

    return evaluate_ranking(*features(data.query, "query"), *features(data.gallery, "gallery"))


def summary(result: RankingResult) -> dict[str, float]:
    """The numbers that people compare, in percent."""
    return {
        name: round(100 * float(value), 2)
        for name, value in (
            ("mAP", result.mAP),
            ("mINP", result.mINP),
            ("rank1", result.rank1),
            ("rank5", result.rank5),
            ("rank10", result.rank10),
        )
    }
