"""Embeddings of photographs with who is shown and by which camera, in memory and in files."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError

_BLOCK = 1 << 14


@dataclasses.dataclass(frozen=True, eq=False)
class Embeddings:
    """One embedding, one identity and one camera for each photograph.

    Args:
        features: `[images, D]`, floating point; may be memory-mapped.
        identities: `[images]`, integers; in a gallery 0 is a distractor and -1 junk.
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
            object.__setattr__(self, field, np.asanyarray(getattr(self, field)))
        if self.features.ndim != 2 or not self.features.shape[1] or self.features.dtype.kind != "f":
            raise UserError(
                f"Expected {self.name} features [images, D] of floating-point numbers, got an array of shape "
                f"{self.features.shape} and type {self.features.dtype}."
            )
        count = len(self.features)
        for field in ("identities", "cameras"):
            values = getattr(self, field)
            if values.shape != (count,) or (values.dtype.kind not in "iu" and count):
                raise UserError(
                    f"Expected one integer for each of {count} {self.name} features as its {field}, got an array of "
                    f"shape {values.shape} and type {values.dtype}."
                )
            object.__setattr__(self, field, values.astype(np.int64))
        for first in range(0, count, _BLOCK):
            bad = np.flatnonzero(~np.isfinite(self.features[first : first + _BLOCK]).all(1))
            if len(bad):
                raise UserError(
                    f"Expected finite {self.name} features, got NaN or infinity in row {first + bad[0]} of {count}. "
                    "The network has diverged, or the file is damaged."
                )

    def __len__(self) -> int:
        return len(self.features)


ARRAYS = tuple(f"{split}_{part}" for split in ("query", "gallery") for part in ("features", "pids", "camids"))
"""Names of the arrays in a file of embeddings, as torchreid's users write them."""


def save(query: Embeddings, gallery: Embeddings, path: str | os.PathLike) -> None:
    """Writes a file of embeddings: an `.npz` with the arrays `ARRAYS`, not compressed."""
    parts = [part for split in (query, gallery) for part in (split.features, split.identities, split.cameras)]
    np.savez(path, allow_pickle=False, **dict(zip(ARRAYS, parts, strict=True)))


def load(path: str | os.PathLike) -> tuple[Embeddings, Embeddings]:
    """Reads queries and gallery from a file of embeddings.

    Raises:
        UserError: the file is missing, is no `.npz`, lacks an array, or its arrays do not belong together. Pickled
            objects are refused.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            missing = sorted(set(ARRAYS) - set(file.files))
            if missing:
                raise UserError(
                    f"Expected the arrays {', '.join(ARRAYS)} in {path}, but {', '.join(missing)} "
                    f"{'is' if len(missing) == 1 else 'are'} missing; it has {', '.join(file.files[:8]) or 'none'}."
                )
            arrays = [file[name] for name in ARRAYS]
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise UserError(
            f"Expected an .npz file of embeddings in {path}, with the arrays {', '.join(ARRAYS)}, but it cannot be "
            f"read ({type(error).__name__}: {' '.join(str(error).split())})."
        ) from error
    query, gallery = Embeddings(*arrays[:3], name="query"), Embeddings(*arrays[3:], name="gallery")
    if query.features.shape[1] != gallery.features.shape[1]:
        raise UserError(
            f"Expected query and gallery features of the same width, got {query.features.shape[1]} and "
            f"{gallery.features.shape[1]}. Extract both with the same network."
        )
    return query, gallery
