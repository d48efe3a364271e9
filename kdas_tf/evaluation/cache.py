"""Embeddings kept on disk, together with what they were made from, so that nothing is embedded twice."""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kdas_tf import files
from kdas_tf.errors import UserError

FORMAT = 1
MEMORY_MAP_ABOVE = 64 << 20
"""Bytes; a larger array is mapped instead of read."""


def hash_weights(weights: Iterable[Any]) -> str:
    """SHA-256 of variables or arrays: of their order, types, shapes and values, not of their names.

    The weights do not say all of what a network does: what they are the weights of (its configuration, its precision)
    belongs into `made_from` too.
    """
    digest = hashlib.sha256()
    for weight in weights:
        values = np.asarray(weight)
        digest.update(f"{values.dtype} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def hash_files(path: str | os.PathLike) -> str:
    """SHA-256 of a file, or of all files of a folder (an exported model) with their names.

    Raises:
        UserError: there is no such file or folder, or it cannot be read.
    """
    path = Path(path)
    try:
        found = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        digest = hashlib.sha256()
        for file in found:
            digest.update(os.fsencode(file.relative_to(path)) + f"\0{files.sha256(file)}\n".encode())
    except OSError as error:
        raise UserError(
            f"Expected a file or a folder at {path}, but it cannot be read ({error.strerror}). Correct the path."
        ) from error
    return digest.hexdigest()


def hash_photographs(paths: Sequence[str]) -> str:
    """SHA-256 of the names, sizes and times of change of photographs, in their order.

    Their content is not read: of 82,161 files of 10 kB that takes 10 s from a cold disk, this 0.8 s. So a photograph
    that is exchanged for one of the same size and time is not noticed. Names are relative to the folder that holds all
    of them, so a data set may be moved if its times are kept. Identities and cameras do not change an embedding.

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
                "data stage again to leave it out."
            ) from error
        digest.update(os.fsencode(name[len(root) :]) + f"\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class EmbeddingCache:
    """A folder of embeddings, each a `NAME.npy` with a `NAME.json` that says what it was made from.

    Example:
        cache = EmbeddingCache(workdir / "evaluate" / "embeddings")
        made_from = {"weights": hash_weights(network.weights), "photographs": hash_photographs(paths), "flip": "no"}
        features = cache.get("gallery", made_from, lambda out: extract(network, batches, total=len(paths), out=out))
        cache.prune()

    Args:
        folder: of this cache only; it is made if there is none.
        memory_map_above: bytes; larger arrays are memory-mapped read-only.
    """

    def __init__(self, folder: str | os.PathLike, *, memory_map_above: int = MEMORY_MAP_ABOVE):
        self.folder = Path(folder)
        self.memory_map_above = memory_map_above
        self._used: set[str] = set()

    def get(
        self,
        name: str,
        made_from: Mapping[str, str],
        make: Callable[[Callable[[tuple[int, int]], npt.NDArray[np.float32]]], npt.NDArray[np.float32]],
    ) -> npt.NDArray[np.float32]:
        """Reads embeddings, or makes and keeps them.

        They are made if there are none, if they were made from something else, or, with a logged warning, if the files
        are damaged. If they cannot be kept (no space, no permission), a warning is logged and they stay in memory.

        Args:
            name: of the files, for example "gallery"; there is one set of embeddings of each name.
            made_from: everything the embeddings depend on, as text: hashes of weights and photographs, size, flip,
                preprocessing, precision.
            make: called with a function (shape) -> array to write into; returns that array once it is full. If it
                returns another one, that is not kept.

        Returns:
            `[images, D]`, float32, not to be written to.
        """
        self._used.add(name)
        features = self._read(name, made_from)
        return self._make(name, made_from, make) if features is None else features

    def prune(self) -> None:
        """Deletes the embeddings in the folder that this object was not asked for, and what stopped runs have left."""
        for note in self.folder.glob("*.json"):
            if note.stem not in self._used and _read_note(note) is not None:
                note.unlink()
                note.with_suffix(".npy").unlink(missing_ok=True)
        for partial in (*self.folder.glob("partial.*.npy"), *self.folder.glob("partial.*.json")):
            partial.unlink()

    def _read(self, name: str, made_from: Mapping[str, str]) -> npt.NDArray[np.float32] | None:
        file, note = self.folder / f"{name}.npy", self.folder / f"{name}.json"
        if not note.exists():
            return None
        content = _read_note(note)
        if content is not None and content["made_from"] != dict(made_from):
            before = content["made_from"]
            changed = sorted(key for key in {*before, *made_from} if before.get(key) != made_from.get(key))
            logging.info("%s was made from other %s; it is made anew.", file, ", ".join(changed))
            return None
        try:
            if content is None:
                raise ValueError(f"{note.name} does not say what it was made from")
            if files.sha256(file) != content["sha256"]:
                raise ValueError("its content is not what was written")
            return self._open(file)
        except (OSError, ValueError) as error:
            logging.warning("%s is damaged (%s); it is made anew.", file, error)
            return None

    def _open(self, file: Path) -> npt.NDArray[np.float32]:
        mapped = file.stat().st_size > self.memory_map_above
        features = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
        features.flags.writeable = False
        return features

    def _make(self, name: str, made_from: Mapping[str, str], make: Callable) -> npt.NDArray[np.float32]:
        file = self.folder / f"{name}.npy"
        partial = file.with_name(f"partial.{file.name}")
        mapped: list[np.memmap] = []

        def allocate(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
            try:
                mapped.append(_allocate(partial, shape))
            except OSError as error:
                logging.warning("The embeddings cannot be kept in %s (%s).", self.folder, error.strerror)
                with contextlib.suppress(OSError):
                    partial.unlink()
                return np.empty(shape, np.float32)
            return mapped[0]

        features = make(allocate)
        if not mapped or features is not mapped[0]:
            return features
        mapped[0].flush()
        digest = files.sha256(partial)
        partial.replace(file)
        content = {"format": FORMAT, "shape": features.shape, "sha256": digest, "made_from": dict(made_from)}
        files.write_json(file.with_name(f"{name}.json"), content)
        return self._open(file)


def _allocate(path: Path, shape: tuple[int, int]) -> np.memmap:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        # Without this, writing to a map on a full disk kills the process (SIGBUS) instead of raising an error.
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def _read_note(path: Path) -> dict[str, Any] | None:
    """What stands in a note of this cache; None if it is not one."""
    try:
        content = files.read_json(path)
        valid = content["format"] == FORMAT and isinstance(content["sha256"], str)
        return content if valid and isinstance(content["made_from"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
