"""Version folders, as a server that polls them expects: `ROOT/NAME/1`, `ROOT/NAME/2`, ..., each whole or not there."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kdas_tf.errors import UserError

_PARTIAL = "partial."


class Version(NamedTuple):
    """A version that is being written."""

    number: int
    folder: Path  # to write to
    final: Path  # where it is published


def published(root: Path, name: str) -> list[int]:
    """Numbers of the versions of a model, ascending."""
    return sorted(int(folder) for folder in _folders(root / name) if re.fullmatch(r"[1-9][0-9]*", folder))


def models(root: Path) -> list[str]:
    """Names of the models that have a version."""
    return sorted(name for name in _folders(root) if not name.startswith(_PARTIAL) and published(root, name))


def _folders(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []


@contextlib.contextmanager
def publishing(root: Path, name: str, version: int | None = None) -> Iterator[Version]:
    """Gives a folder to write to, which becomes `root/name/version` at the end of the block, at once.

    Until then it is no part of the folder that a server looks at. If the block fails, the folder is removed. Without
    `version` it is the number after the highest.

    Raises:
        UserError: a name or number that a server cannot have, a version that exists, or no room to write.
    """
    check_name(name)
    numbers = published(root, name)
    if version is not None and (version < 1 or (root / name / str(version)).exists()):
        raise UserError(
            f"Expected version to be a new number from 1 on, got {version}; {root / name} holds "
            f"{', '.join(map(str, numbers)) or 'none'}. Choose another number, or leave it out."
        )
    number = version if version is not None else max(numbers, default=0) + 1
    partial, final = root / f"{_PARTIAL}{name}.{number}", root / name / str(number)
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir(parents=True)
        yield Version(number, partial, final)
        final.parent.mkdir(exist_ok=True)
        os.rename(partial, final)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())[:200]
        raise UserError(f"{final} cannot be written: {reason}. Mend that, or choose another --workdir.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_name(name: str) -> None:
    """Raises `UserError` for a name that cannot stand in a server's addresses and configuration."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise UserError(f"Expected the name of a model to be of letters, digits, _ and -, got {name!r}. Correct it.")
