"""Up to which distance two photographs show one person: what the evaluate stage measured, `verification.json`."""

import os
from typing import NamedTuple

from kdas_tf import files
from kdas_tf.errors import UserError

DISTANCES = ("cosine", "euclidean")


class Threshold(NamedTuple):
    """The largest distance of two photographs of one person."""

    value: float
    distance: str  # of `DISTANCES`
    source: str  # where the value comes from, for people


def read(path: str | os.PathLike, fpr: float) -> Threshold:
    """Reads the threshold for a false-positive rate: the largest in the file that does not exceed the rate.

    Raises:
        UserError: the file is missing or damaged, its distance is unknown, it was measured as no server embeds, or it
            has no threshold for the rate.
    """
    try:
        content = files.read_json(path)
        if content["format"] != 1:
            raise ValueError(f"format {content['format']!r}, expected 1")
        conditions = dict(content.get("conditions") or {})
        distance, max_fpr, curve = str(content["distance"]), float(content["max_fpr"]), content["curve"]
        measured = [(float(point["fpr"]), float(point["threshold"])) for point in content["points"]]
        measured += [(float(rate), float(value)) for rate, value in zip(curve["fpr"], curve["threshold"], strict=True)]
    except (OSError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise UserError(
            f"Expected thresholds in {path}, written by an evaluation with verification, but they cannot be read "
            f"({type(error).__name__}: {' '.join(str(error).split())}). Evaluate again."
        ) from error
    if distance not in DISTANCES:
        raise UserError(
            f"The thresholds in {path} are for the distance {distance!r}; expected one of {', '.join(DISTANCES)}. "
            "Evaluate without re-ranking."
        )
    if conditions.get("flip"):
        raise UserError(
            f"The thresholds in {path} are for embeddings averaged with those of the mirror images, and a served model "
            "gives others. Evaluate without flip."
        )
    allowed = [value for rate, value in measured if rate <= fpr <= max_fpr]
    if fpr < 0 or not allowed:
        raise UserError(
            f"Expected a false-positive rate from 0 to {max_fpr:g}, for which {path} has thresholds, got {fpr:g}. "
            "Ask for a smaller rate, or evaluate again with a larger max_fpr."
        )
    return Threshold(max(allowed), distance, f"{path} at a rate of {fpr:g}")
