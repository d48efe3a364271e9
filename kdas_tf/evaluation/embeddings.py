"""Embeddings of photographs with who is shown and by which camera, in memory and in files."""

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError
from kdas_tf.files import replacing

_BLOCK = 4096  # photographs that are checked at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
    """One embedding, one identity and one camera for each photograph.

    Args:
        features: `[images, D]`, floating point; may be memory-mapped.
        identities: `[images]`, integers from 0 on; in a gallery -1 is junk.
        cameras: `[images]`, integers.
        name: "query" or "gallery", for error messages.

    Raises:
        UserError: the shapes do not belong together, identities or cameras are no integers, or a feature is not finite.
    """

    features: npt.NDArray
    identities: npt.NDArray[np.int64]
    cameras: npt.NDArray[np.int64]
    name: str = "query"

    def __post_init__(self):
        for field in ("features", "identities", "cameras"):
            object.__setattr__(self, field, np.asarray(getattr(self, field)))
        if self.features.ndim != 2 or not self.features.shape[1] or self.features.dtype.kind != "f":
            raise UserError(
                f"Expected {self.name} features [images, D] of floating-point numbers, got an array of shape "
                f"{self.features.shape} and type {self.features.dtype}.",
                code="content",
            )
        count = len(self.features)
        for field in ("identities", "cameras"):
            values = getattr(self, field)
            if values.shape != (count,) or (values.dtype.kind not in "iu" and count):
                raise UserError(
                    f"Expected one integer for each of {count} {self.name} features as its {field}, got an array of "
                    f"shape {values.shape} and type {values.dtype}.",
                    code="content",
                )
            object.__setattr__(self, field, values.astype(np.int64))
        for first in range(0, count, _BLOCK):
            bad = np.flatnonzero(~np.isfinite(self.features[first : first + _BLOCK]).all(1))
            if len(bad):
                raise UserError(
                    f"Expected finite {self.name} features, got NaN or infinity in row {first + bad[0]} of {count}. "
                    "The network has diverged, or the file is damaged.",
                    code="content",
                )

    def __len__(self) -> int:
        return len(self.features)


ARRAYS = tuple(f"{split}_{part}" for split in ("query", "gallery") for part in ("features", "pids", "camids"))
"""Names of the arrays in a file of embeddings, as torchreid's users write them."""


def save(query: Embeddings, gallery: Embeddings, path: str | os.PathLike) -> None:
    """Writes a file of embeddings: an `.npz` with the arrays `ARRAYS`, not compressed."""
    parts = [part for split in (query, gallery) for part in (split.features, split.identities, split.cameras)]
    # An open file, since numpy would add .npz to a name that lacks it.
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **dict(zip(ARRAYS, parts, strict=True)))


def load(path: str | os.PathLike) -> tuple[Embeddings, Embeddings]:
    """Reads queries and gallery from a file of embeddings.

    Raises:
        UserError: the file is missing, is no `.npz`, lacks an array, or an array is not what it should be. Pickled
            objects are refused.
    """
    path = Path(path)
    expected = f"Expected an .npz file of embeddings in {path}, with the arrays {', '.join(ARRAYS)}, but"
    if not path.is_file():
        raise UserError(f"{expected} there is {'only a folder' if path.is_dir() else 'no such file'}. Check the path.")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{expected} it is another kind of file, or was cut off. Write it again with numpy.savez.", code="damaged"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file.files]
            arrays = [] if missing else [file[name] for name in ARRAYS]
            held = file.files
    except Exception as error:  # a damaged file may raise anything, from zlib.error to tokenize.TokenError
        raise UserError(
            f"{expected} it cannot be read ({type(error).__name__}: {' '.join(str(error).split())}). "
            "Write it again with numpy.savez, without objects.",
            code="damaged",
        ) from error
    if missing:
        raise UserError(
            f"{expected} it lacks {', '.join(missing)}; it has {', '.join(held[:8]) or 'none'}. Add them.",
            code="content",
        )
    query, gallery = arrays[:3], arrays[3:]
    return Embeddings(*query), Embeddings(gallery[0], gallery[1], gallery[2], "gallery")
