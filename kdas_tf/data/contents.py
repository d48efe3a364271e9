"""Tells whether photographs are those of before: by what a reader finds, and by the content of their files."""

import concurrent.futures
import dataclasses
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from kdas_tf import files
from kdas_tf.data.records import Progress, ReIDData

FILE = "contents.json"
"""Beside an index: what it was made of."""

_CONTENTS: dict[str, str] = {}  # of this process: a command asks for them several times


@dataclasses.dataclass(frozen=True)
class Photographs:
    """The photographs that a reader finds in a folder.

    Args:
        root: the folder; it may be moved without a change.
        read: reads it, without a change in it.
        kept: a stage's folder, which may hold `FILE` of the same photographs; what has the same size and time is then
            not read again.
        listed_only: whether who is in which split is all that counts, for a reader that makes the files itself.
        progress: told of every file that is read.
    """

    root: Path
    read: Callable[[], ReIDData]
    kept: Path
    listed_only: bool = False
    progress: Progress | None = None

    def __str__(self) -> str:
        return "the content of data_dir"

    def digest(self) -> str:
        """SHA-256 of what is found: splits, names in the folder, identities, cameras, and what is in the files."""
        return self._digests()[1]

    def keep(self) -> None:
        """Writes `FILE`."""
        stamp, content = self._digests()
        files.write_json(
            self.kept / FILE, {"root": files.inside(self.root, self.kept.parent), "stamp": stamp, "content": content}
        )

    def are_where_they_were(self) -> bool:
        """Whether `FILE` is of the same folder."""
        return self._before().get("root") == files.inside(self.root, self.kept.parent)

    def _before(self) -> dict[str, str]:
        try:
            return dict(files.read_json(self.kept / FILE))
        except (OSError, ValueError, TypeError):
            return {}

    def _digests(self) -> tuple[str, str]:
        logger = logging.getLogger()
        logger.disabled, before = True, logger.disabled  # the stage says it when it reads
        try:
            data = self.read()
        finally:
            logger.disabled = before
        lines = list(_lines(data, self.root))
        if self.listed_only:
            stamp = _sha256(lines)
            return stamp, stamp
        paths = [record.path for records in (data.train, data.query, data.gallery) for record in records]
        stamp = _sha256([*lines, *map(_stamp, paths)])
        if stamp not in _CONTENTS:
            before_this = self._before()
            same = before_this.get("stamp") == stamp and "content" in before_this
            _CONTENTS[stamp] = before_this["content"] if same else _sha256([*lines, *self._hashes(paths)])
        return stamp, _CONTENTS[stamp]

    def _hashes(self, paths: list[str]) -> Iterator[str]:
        with concurrent.futures.ThreadPoolExecutor(2 * (os.cpu_count() or 1)) as pool:
            for done, digest in enumerate(pool.map(_hash, paths), start=1):
                if self.progress:
                    self.progress(done, len(paths))
                yield digest


def _lines(data: ReIDData, root: Path) -> Iterator[str]:
    """A line for each photograph; what lies in another folder is told by its name alone."""
    inside = os.path.join(root, "")

    def name(path: str) -> str:
        return path[len(inside) :] if path.startswith(inside) else os.path.basename(path)

    for split in ("train", "query", "gallery"):
        for record in getattr(data, split):
            yield f"{split}\0{name(record.path)}\0{record.identity}\0{record.camera}"
    for path, reason in data.skipped:
        yield f"skipped\0{name(path)}\0{reason}"


def _stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError as error:
        return type(error).__name__
    return f"{status.st_size} {status.st_mtime_ns}"


def _hash(path: str) -> str:
    try:
        return files.sha256(path)
    except OSError as error:
        return type(error).__name__


def _sha256(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
