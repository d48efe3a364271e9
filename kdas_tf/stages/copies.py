"""What the export stage does for other runtimes: writes each copy, measures it, and judges it beside its network."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdas_tf.data.records import Record, ReIDData
from kdas_tf.errors import UserError
from kdas_tf.evaluation.features import Network
from kdas_tf.serving import checking
from kdas_tf.serving import runtimes as runtime_files
from kdas_tf.serving.checking import Comparison
from kdas_tf.serving.runtimes import INTEGERS
from kdas_tf.stages import judging
from kdas_tf.stages.loading import LoadedNetwork


def make(
    loaded: LoadedNetwork,
    folder: Path,
    comparison: Comparison,
    data: ReIDData | None,
    *,
    runtimes: Sequence[str],
    calibrated: int,
    judged: int | None,
) -> dict[str, Any]:
    """Writes copies into a SavedModel's folder and says how big, fast and good they are.

    `loaded` is in float32; the other arguments are as in `export.run`.

    Returns:
        By runtime, the fields of `Measured`, and `mAP` and `mAP_drop` as fractions (None where it was not judged);
        where it was, by `judged_on`, what on and the `mAP` of the network.

    Raises:
        UserError: a copy cannot be made, or a float32 copy differs from the network.
    """
    if not runtimes:
        return {}
    people = _people(data, judged)
    if people is None and judged != 0:
        print("export: mAP of the copies not judged, for want of queries and a gallery; --data_dir=FOLDER gives them")

    def mean_average_precision(title: str, network: Network) -> float | None:
        options: dict[str, Any] = {"image_size": loaded.image_size, "title": f"export: {title}"}
        ranking = judging.judge(network, people, **options) if people is not None else None
        return float(ranking.mAP) if ranking is not None else None

    reference = mean_average_precision("the network", loaded.network)
    examples = calibration(data, loaded.image_size, calibrated) if set(INTEGERS) & set(runtimes) else []
    result: dict[str, Any] = {"judged_on": _described(people) | {"mAP": reference} if people is not None else None}
    for runtime in runtimes:
        path = runtime_files.write(loaded.network, folder, runtime, image_size=loaded.image_size, examples=examples)
        measured = runtime_files.measure(path, comparison)
        mean, drop, words = mean_average_precision(runtime, runtime_files.open_file(path)), None, "not judged"
        if reference is not None and mean is not None:
            drop = reference - mean
            words = (
                f"{100 * mean:.2f} %, {abs(100 * drop):.2f} points {'below' if drop >= 0 else 'above'} the network's"
            )
        print(
            f"export: {runtime}, {measured.bytes / 1e6:.1f} MB, {measured.milliseconds:.1f} ms an image here, mAP "
            f"{words}, least cosine to the network's embeddings {measured.cosine:.6f}",
            flush=True,
        )
        result[runtime] = {**measured._asdict(), "mAP": mean, "mAP_drop": drop}
    return result


def few_people(data: ReIDData, number: int | None) -> ReIDData:
    """A data set with the queries of so many people, evenly spread, and the gallery's photographs of them.

    Such a ranking is easier than that of the whole gallery; what a copy loses in it is nearly the same.
    """
    if number is None:
        return data
    identities = sorted({record.identity for record in data.query})
    chosen = {identities[i] for i in np.linspace(0, len(identities) - 1, number).astype(int)} if identities else set()
    query, gallery = (
        tuple(record for record in records if record.identity in chosen) for records in (data.query, data.gallery)
    )
    return dataclasses.replace(data, query=query, gallery=gallery)


def _people(data: ReIDData | None, judged: int | None) -> ReIDData | None:
    """Who the copies are judged on; None where there are no photographs of them, or no longer."""
    people = few_people(data, judged) if data is not None else None
    if people is None or not people.query or not people.gallery:
        return None
    return people if all(Path(record.path).is_file() for record in (*people.query, *people.gallery)) else None


def _described(people: ReIDData) -> dict[str, Any]:
    identities = len({record.identity for record in people.query})
    counts = {"queries": len(people.query), "gallery": len(people.gallery)}
    return {"data": people.name, "identities": identities, **counts}


def calibration(data: ReIDData | None, image_size: tuple[int, int], number: int) -> list[npt.NDArray]:
    """Training photographs, evenly spread, as the network sees them: float32 `[height, width, 3]`, 0..255.

    Raises:
        UserError: there are none.
    """
    records: Sequence[Record] = data.train if data is not None else ()
    contents = checking.readable([record.path for record in records], number)
    if not contents:
        raise UserError(
            "int8 needs training photographs to find the ranges of a network's maps, but "
            f"{'none is left of those of ' + data.name if data is not None else 'the run has none'}. Give --data_dir."
        )
    return checking.decoded(contents, image_size)
