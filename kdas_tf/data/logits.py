"""Reads a file of a teacher's logits, one row for each training image."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kdas_tf import files
from kdas_tf.errors import UserError

# What NumPy raises for a damaged file; a few bytes can claim to hold terabytes.
_DAMAGE = (OSError, ValueError, LookupError, RuntimeError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)


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
        with files.open_file(path) as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            names, logits = arrays["images"], arrays["logits"]
            columns = arrays.get("identities", np.sort(identities))
    except _DAMAGE as error:
        raise UserError(
            f"Expected {path} to be an .npz file with `images` and `logits`, but it cannot be read: "
            f"{' '.join(str(error).split()) or type(error).__name__}",
            code="damaged",
        ) from error
    if names.dtype.kind != "U" or columns.dtype.kind not in "iu" or logits.dtype.kind not in "fiu":
        raise UserError(
            f"Expected {path} to hold text as `images`, whole numbers as `identities` and numbers as `logits`, got "
            f"{names.dtype}, {columns.dtype} and {logits.dtype}.",
            code="content",
        )
    finite = np.isfinite(logits).all()
    if names.ndim != 1 or columns.ndim != 1 or logits.shape != (len(names), len(columns)) or not finite:
        raise UserError(
            f"Expected {path} to hold finite logits [{names.size} images, {columns.size} identities], got shape "
            f"{logits.shape}{'' if finite else ' with values that are not finite'}.",
            code="content",
        )
    row, column = ({value: place for place, value in enumerate(values.tolist())} for values in (names, columns))
    missing = [name for name in image_names if name not in row]
    missing_identities = [identity for identity in identities if identity not in column]
    if missing or missing_identities:
        raise UserError(
            f"{path} must cover every training image and identity, but lacks {len(missing)} images"
            f"{f', the first {missing[0]}' if missing else ''}, and {len(missing_identities)} identities"
            f"{f', the first {missing_identities[0]}' if missing_identities else ''}.",
            code="fit",
        )
    return logits.astype(np.float32)[[row[name] for name in image_names]][
        :, [column[identity] for identity in identities]
    ]
