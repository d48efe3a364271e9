"""Remembers with which settings a stage was run, so that a changed command never continues an old result."""

from collections.abc import Mapping
from pathlib import Path

from kdas_tf import files
from kdas_tf.errors import UserError

FILE = "settings.json"


def check_unchanged(folder: Path, settings: Mapping[str, str]) -> None:
    """Compares a stage's settings with those it was begun with.

    Args:
        folder: of the stage.
        settings: {name: value as text}.

    Raises:
        UserError: they differ; the message names what did.
    """
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {FILE}:
        return  # begun, but nothing came of it
    try:
        before = dict(files.read_json(folder / FILE))
    except (OSError, ValueError, TypeError):
        return
    changes = [
        f"{name} was {before.get(name, 'not set')} and is now {settings.get(name, 'not set')}"
        for name in sorted(set(before) | set(settings))
        if before.get(name) != settings.get(name) and name != "before"
    ]
    if not changes and before.get("before") != settings.get("before"):
        changes = ["the settings of an earlier stage, the seed or the precision have changed"]
    if changes:
        raise UserError(
            f"{folder} holds a result of other settings: {'; '.join(changes)}. Choose another --workdir, or delete "
            "that folder to do the stage again."
        )


def remember(folder: Path, settings: Mapping[str, str]) -> None:
    """Writes the settings a stage is begun with."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / FILE, settings)


def forget(folder: Path) -> None:
    """Removes what `remember` wrote, where nothing came of the stage."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {FILE}:
        (folder / FILE).unlink(missing_ok=True)
        folder.rmdir()
