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
from kdas_tf.serving.runtimes import INTEGERS, Measured
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

    Args:
        loaded: the network, in float32.
        folder: of the SavedModel.
        comparison: images and the network's embeddings.
        data: photographs; None for none.
        runtimes: some of `kdas_tf.serving.runtimes.FILES`.
        calibrated: number of training photographs that show `INTEGERS` of these their ranges.
        judged: number of people to judge on; None for all, 0 for none.

    Returns:
        By runtime, the fields of `Measured`, and `mAP` and `mAP_drop` as fractions (None where it was not judged);
        where it was, by `judged_on`, what on and the `mAP` of the network.

    Raises:
        UserError: a copy cannot be made, or a float32 copy differs from the network.
    """
    if not runtimes:
        return {}
    people = _there(few_people(data, judged)) if data is not None else None
    reference = _mean_average_precision("the network", loaded.network, people, loaded.image_size)
    if reference is None and judged != 0:
        print("export: drop in mAP not judged, for want of queries and a gallery; --data_dir=FOLDER gives them")
    examples = calibration(data, loaded.image_size, calibrated) if set(INTEGERS) & set(runtimes) else []
    result: dict[str, Any] = {"judged_on": _described(people, reference)}
    for runtime in runtimes:
        path = runtime_files.write(loaded.network, folder, runtime, image_size=loaded.image_size, examples=examples)
        measured = runtime_files.measure(path, comparison)
        mean = drop = None
        if reference is not None:
            mean = _mean_average_precision(runtime, runtime_files.open_file(path), people, loaded.image_size)
            drop = reference - mean if mean is not None else None
        print(f"export: {runtime}, {_in_words(measured, mean, drop)}", flush=True)
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


def _there(data: ReIDData) -> ReIDData | None:
    """The data set, if its photographs can be judged on: there are some, and they are where they were."""
    paths = [record.path for record in (*data.query, *data.gallery)]
    return data if data.query and data.gallery and all(Path(path).is_file() for path in paths) else None


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


def _mean_average_precision(
    title: str, network: Network, people: ReIDData | None, image_size: tuple[int, int]
) -> float | None:
    if people is None:
        return None
    ranking = judging.judge(network, people, image_size=image_size, title=f"export: {title}")
    return float(ranking.mAP) if ranking is not None else None


def _described(people: ReIDData | None, reference: float | None) -> dict[str, Any] | None:
    if people is None or reference is None:
        return None
    return {
        "data": people.name,
        "identities": len({record.identity for record in people.query}),
        "queries": len(people.query),
        "gallery": len(people.gallery),
        "mAP": reference,
    }


def _in_words(measured: Measured, mean: float | None, drop: float | None) -> str:
    judged = "drop in mAP not judged"
    if mean is not None and drop is not None:
        judged = f"drop in mAP {100 * drop:.2f} to {100 * mean:.2f} %"
    return (
        f"{measured.bytes / 1e6:.1f} MB, {measured.milliseconds:.1f} ms an image here, {judged}, least cosine to the "
        f"network's embeddings {measured.cosine:.6f}"
    )
