"""Embeddings kept on disk, so that no photograph is embedded twice in the same way.

Each array is a file `NAME-DIGEST.npy`, whose digest is that of all that the embeddings depend on, beside a `.json` that
says what this was and what the array's file must contain.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kdas_tf import files
from kdas_tf.errors import UserError

KEPT = 4
"""Arrays of each name that stay on disk: those that were used last."""


def read(folder: Path, name: str, made_from: Mapping[str, str]) -> npt.NDArray[np.float32] | None:
    """Reads what `keep` wrote with the same arguments.

    Returns:
        `[images, D]`, memory-mapped and read-only. None if there is none, or, with a logged warning, if its files are
        damaged.
    """
    file = _file(folder, name, made_from)
    note = file.with_suffix(".json")
    if not note.exists():
        return None
    try:
        content = files.read_json(note)
        if not isinstance(content, dict) or content.get("sha256") != files.sha256(file):
            raise ValueError("its content is not what was written")
        features = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        logging.warning("%s is damaged (%s); it is made anew.", file, error)
        return None
    with contextlib.suppress(OSError):  # such as a read-only folder, in which nothing is deleted either
        os.utime(note)  # counts as used
    return features


def keep(folder: Path, name: str, made_from: Mapping[str, str], features: npt.NDArray[np.float32]) -> None:
    """Writes embeddings, and deletes all but the last `KEPT` arrays of this name.

    If the disk does not take them (no space, no permission), a warning is logged.

    Args:
        folder: only for embeddings; it is made if there is none.
        name: of the files, for example "gallery".
        made_from: everything that the embeddings depend on, as text: network, photographs, size, flip, precision.
        features: `[images, D]`.
    """
    file = _file(folder, name, made_from)
    try:
        for partial in folder.glob("partial.*"):  # of a process that was killed
            partial.unlink()
        with files.replacing(file) as partial:
            np.save(partial, features, allow_pickle=False)
            digest = files.sha256(partial)
        files.write_json(file.with_suffix(".json"), {"sha256": digest, "made_from": dict(made_from)})
        notes = sorted(folder.glob(f"{name}-*.json"), key=lambda note: note.stat().st_mtime_ns)
        for note in notes[:-KEPT]:
            note.unlink()
            note.with_suffix(".npy").unlink(missing_ok=True)
    except OSError as error:
        logging.warning("The embeddings cannot be kept in %s (%s).", folder, error.strerror)


def _file(folder: Path, name: str, made_from: Mapping[str, str]) -> Path:
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    return folder / f"{name}-{digest[:16]}.npy"


def hash_photographs(paths: Sequence[str]) -> str:
    """SHA-256 of the names, sizes and times of change of photographs, in their order.

    Their content is not read: of 82,161 files of 10 kB that takes 10 s from a cold disk, this 0.8 s. So a photograph
    that is exchanged for another of the same size and time is not noticed. Names are relative to the folder that holds
    all of them, so a data set may be moved if its times are kept. Identities and cameras do not change an embedding.

    Raises:
        UserError: a photograph is missing.
    """
    digest = hashlib.sha256()
    names = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(name) for name in names]) if names else ""
    for name in names:
        try:
            state = os.stat(name)
        except OSError as error:
            raise UserError(
                f"Expected the photograph {name}, but it cannot be read ({error.strerror}). Restore it, or run the "
                "data stage again to leave it out.",
                code="missing",
            ) from error
        digest.update(os.fsencode(name[len(root) :]) + f"\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()
