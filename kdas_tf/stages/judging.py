"""How stages embed photographs and judge a network by them, and how its numbers are written."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kdas_tf.data.pipeline import naming_damaged_images, ordered_batches
from kdas_tf.data.records import Record, ReIDData
from kdas_tf.evaluation import ranking
from kdas_tf.evaluation.distances import FeatureDistances
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.features import Features, Network, extract
from kdas_tf.evaluation.printing import Score
from kdas_tf.evaluation.ranking import RankingResult
from kdas_tf.stages.reporting import progress_line
from kdas_tf.training.inference import inference


def embed(
    network: Network,
    records: Sequence[Record],
    *,
    image_size: tuple[int, int],
    batch_size: int = 64,
    flip: bool = False,
    title: str,
) -> Features:
    """Embeds photographs, with progress under a title: `[photographs, D]`; a Keras model is put in inference mode."""
    if isinstance(network, keras.Model):
        network = inference(network)
    batches = ordered_batches(records, image_size=image_size, batch_size=batch_size)
    with naming_damaged_images(records):
        return extract(network, batches, total=len(records), flip=flip, progress=progress_line(title))


def labelled(features: Features, records: Sequence[Record], split: str) -> Embeddings:
    """Embeddings with the identities and cameras of their photographs; `split` is "query" or "gallery"."""
    identities, cameras = [record.identity for record in records], [record.camera for record in records]
    return Embeddings(features, np.asarray(identities, int), np.asarray(cameras, int), split)


def judge(network: Network, data: ReIDData, *, image_size: tuple[int, int], title: str) -> RankingResult | None:
    """Ranks the gallery for every query; None where no query of the data set has a match."""
    if not data.matched_queries():
        print(f"{title}: not judged, no query of {data.name} has a match from another camera", flush=True)
        return None
    query, gallery = (
        labelled(embed(network, records, image_size=image_size, title=f"{title}: {split}"), records, split)
        for split, records in (("query", data.query), ("gallery", data.gallery))
    )
    return ranking.evaluate(FeatureDistances(query.features, gallery.features), query, gallery)


_NUMBERS = ("mAP", "mINP", "rank1", "rank5", "rank10")


def summary(result: RankingResult) -> dict[str, float]:
    """The numbers that people compare, in percent."""
    return {name: round(100 * float(getattr(result, name)), 2) for name in _NUMBERS}


def as_numbers(result: RankingResult) -> dict[str, Any]:
    """All numbers of a ranking, as fractions from 0 to 1."""
    numbers: dict[str, Any] = {name: float(getattr(result, name)) for name in _NUMBERS}
    return numbers | {"cmc": result.cmc.tolist(), "invalid_queries": result.invalid_queries}


def as_score(name: str, result: RankingResult, parameters: int | None) -> Score:
    """The line of a table."""
    return Score(name, result.mAP, result.rank1, result.rank5, result.rank10, parameters, result.mINP)
