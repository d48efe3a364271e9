"""Writes files so that whoever reads one sees all of it or none."""

import contextlib
import errno
import hashlib
import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdas_tf.errors import UserError

DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, OverflowError, EOFError),
    *(RuntimeError, zipfile.BadZipFile, zlib.error),
)
"""What may come out of reading a file of JSON, NumPy or HDF5 that is damaged, or holds other things than expected.

No AttributeError: that is a mistake in the program. Read the file in the `try`, use its content outside.
"""


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path beside `path` to write to, which takes its place at the end of the block.

    Its name ends like that of `path`, for writers that look at the suffix. If the block fails, it is removed, and what
    `path` held before is kept. The folder is made if there is none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial.{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def open_file(path: str | os.PathLike) -> io.BufferedReader:
    """Opens a file to read bytes from; refuses a pipe, a socket or a device, which might never give any.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    kind = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(kind):
        os.close(descriptor)
        came = "a folder" if stat.S_ISDIR(kind) else "no regular file but a pipe or a device"
        raise OSError(errno.EINVAL, came, os.fspath(path))
    return open(descriptor, "rb")


def read_text(path: str | os.PathLike) -> str:
    """Reads a text of UTF-8, with or without a byte order mark.

    Raises:
        OSError: as `open_file`.
        UnicodeDecodeError: it is another encoding.
    """
    with open_file(path) as file:
        return file.read().decode("utf-8-sig")


def flush(path: str | os.PathLike) -> None:
    """Forces a file, or the names in a folder, onto the disk: a rename alone does not survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(path: str | os.PathLike) -> str:
    """SHA-256 of a file, or of all files of a folder (an exported model) with their names.

    Raises:
        UserError: there is no such file or folder, or it cannot be read.
    """
    path = Path(path)
    try:
        parts = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        digest = hashlib.sha256()
        for file in parts:
            digest.update(os.fsencode(file.relative_to(path)) + f"\0{sha256(file)}\n".encode())
    except OSError as error:
        raise UserError(
            f"Expected a file or a folder at {path}, but it cannot be read ({error.strerror}). Correct the path.",
            code="missing",
        ) from error
    return digest.hexdigest()


def inside(path: str | os.PathLike, folder: Path) -> str:
    """A path as it is kept by a file of a folder that may be moved: relative to the folder if it lies in it."""
    path = Path(path).absolute()
    return path.relative_to(folder.absolute()).as_posix() if path.is_relative_to(folder.absolute()) else str(path)


def read_json(path: str | os.PathLike, *, max_bytes: int = 100_000_000) -> Any:
    """Reads JSON.

    Args:
        path: the file.
        max_bytes: of a larger file nothing is read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or no JSON, or nested so deeply that only a trap can be.
    """
    with open_file(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"expected at most {max_bytes:,} bytes, this file has more")
    try:
        return json.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
