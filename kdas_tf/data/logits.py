"""Reads a file of a teacher's logits, one row for each training image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdas_tf.errors import UserError
from kdas_tf.files import DAMAGE


def read_logits(path: str | Path, image_names: Sequence[str], identities: Sequence[int]) -> np.ndarray:
    """Reads a file of logits per image and puts it into the order of the training split.

    The file is an `.npz` with `images` (file names without folder, `[n]`), `logits` (`[n, identities]`, float) and
    `identities` (the identity that each column stands for; ascending if it is missing).

    Args:
        path: the file.
        image_names: file names of the training images, without folder.
        identities: the training identities, ascending.

    Returns:
        float32 `[training images, identities]`.

    Raises:
        UserError: the file cannot be read, lacks images or identities, or holds numbers that are not finite.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            names = [str(name) for name in arrays["images"]]
            logits = np.asarray(arrays["logits"], np.float32)
            columns = [int(i) for i in arrays["identities"]] if "identities" in arrays else sorted(identities)
    except (*DAMAGE, MemoryError) as error:  # a few bytes can claim to hold terabytes
        raise UserError(
            f"Expected {path} to be an .npz file with `images` and `logits`, but it cannot be read: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}",
            code="damaged",
        ) from error
    if logits.shape != (len(names), len(columns)) or not np.isfinite(logits).all():
        raise UserError(
            f"Expected {path} to hold finite logits [{len(names)} images, {len(columns)} identities], "
            f"got shape {logits.shape}{'' if np.isfinite(logits).all() else ' with values that are not finite'}.",
            code="content",
        )
    row, column = {n: i for i, n in enumerate(names)}, {n: i for i, n in enumerate(columns)}
    missing = [name for name in image_names if name not in row]
    missing_identities = [identity for identity in identities if identity not in column]
    if missing or missing_identities:
        raise UserError(
            f"{path} must cover every training image and identity, but lacks {len(missing)} images"
            f"{f', the first {missing[0]}' if missing else ''}, and {len(missing_identities)} identities"
            f"{f', the first {missing_identities[0]}' if missing_identities else ''}.",
            code="fit",
        )
    return logits[[row[name] for name in image_names]][:, [column[identity] for identity in identities]]
