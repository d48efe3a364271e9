"""Remembers what decided a stage's result, so that a changed command never continues or reuses an old one.

What decides a result: the resolved values of the stage's arguments, of the launcher's those that the stage names, and
the identity of what it reads. The identity of an earlier stage's result is what decided that one. What else a command
runs decides nothing.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdas_tf import files
from kdas_tf.data.contents import Photographs
from kdas_tf.errors import UserError
from kdas_tf.stages.stage import Source, Stage

FILE, CONFIG = "settings.json", "config.gin"
FORMAT = 3
"""Of `FILE`; 2 knew no photographs; 1 held bindings without defaults, and a hash over all that was run before."""

Record = dict[str, Any]
"""What `FILE` holds: `arguments`, `launcher` and `reads`, {name: text} each, and whether the stage is repeatable."""


class Step(NamedTuple):
    """A stage of a command."""

    stage: Stage
    arguments: Mapping[str, Any]  # of its `run`, as values
    texts: Mapping[str, str]  # the same as resolved texts


def records_of(steps: Sequence[Step], workdir: Path, launcher: Mapping[str, str]) -> dict[str, Record]:
    """{stage: what decides its result} for the stages of a command in their order, as things are now.

    The launcher's texts are those of "seed", "precision" and "deterministic".

    Raises:
        UserError: a stage reads what an older version wrote.
    """
    records: dict[str, Record] = {}
    for stage, arguments, texts in steps:
        sources = stage.reads(workdir, arguments)
        # A file is told by what is in it, wherever it lies: the argument that gives it decides nothing else.
        given: dict[Source, str | None] = {
            each: _argument_of(each, texts) for each in sources or () if isinstance(each, Path)
        }
        names = {each: _name_of(each, given.get(each), texts, workdir) for each in sources or ()}
        free = (*stage.may_change(arguments), *filter(None, given.values()))
        deciding = {
            name: text
            for name, text in texts.items()
            if not any(name == each or name.startswith(f"{each}.") for each in free)
        }
        records[stage.name] = {
            "format": FORMAT,
            "arguments": deciding,
            "launcher": {name: launcher[name] for name in stage.decided_by},
            "repeatable": stage.repeatable,
            "reads": None if sources is None else {names[each]: _identity(each, workdir, records) for each in sources},
        }
    return records


def _argument_of(path: Path, texts: Mapping[str, str]) -> str | None:
    """The argument that gives a file or its folder, if one does."""
    written = (repr(str(path)), repr(str(path.parent)))
    return next((name for name, text in texts.items() if text in written), None)


def _name_of(source: Source, argument: str | None, texts: Mapping[str, str], workdir: Path) -> str:
    """What a source is called in records and messages."""
    if not isinstance(source, Path):
        return str(source)
    if argument is None:
        return files.inside(source, workdir)
    return argument if texts[argument] == repr(str(source)) else f"{argument}/{source.name}"


def _identity(source: Source, workdir: Path, records: Mapping[str, Record]) -> str:
    if isinstance(source, Path):
        return files.sha256(source) if source.is_file() else "no file"
    if isinstance(source, Photographs):
        return source.digest()
    record = records.get(source) or read(workdir / source)
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def read(folder: Path) -> Record | None:
    """What decided the result in a stage's folder, or None; refuses what an older version wrote."""
    try:
        record = files.read_json(folder / FILE)
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or not record:
        return None
    if record.get("format") != FORMAT:
        raise UserError(
            f"{folder} was begun by an older version of kdas_tf, whose results are not continued. Choose another "
            "--workdir, or delete that folder to do the stage again."
        )
    return record


def check_unchanged(folder: Path, record: Record) -> None:
    """Refuses a result in a stage's folder that something else decided; the message names what."""
    if _is_only_begun(folder):
        return
    before = read(folder)
    changes = [] if before is None else _changes(before, record)
    if changes:
        raise UserError(
            f"{folder} holds a result of other settings: {'; '.join(changes)}. Choose another --workdir, or delete "
            "that folder to do the stage again."
        )


def check_may_be_repeated(folder: Path, record: Record) -> None:
    """Refuses to do a stage again, after a change, from whose result other stages of the workdir were made."""
    before = read(folder)
    changes = [] if before is None else _changes(before, record)
    users = [path.name for path in sorted(folder.parent.iterdir()) if _stands_on(path, folder.name)] if changes else []
    if users:
        raise UserError(
            f"{folder} holds a result of other settings: {'; '.join(changes)}. What is in {', '.join(users)} was made "
            f"from it. Choose another --workdir, or delete {', '.join(users)} in {folder.parent} to do them again."
        )


def _stands_on(folder: Path, stage: str) -> bool:
    """Whether a folder holds what was made from a stage's result, and is not simply made again."""
    if not folder.is_dir() or _is_only_begun(folder):
        return False
    record = read(folder)
    return record is not None and not record["repeatable"] and stage in (record["reads"] or {})


def _is_only_begun(folder: Path) -> bool:
    return folder.is_dir() and {path.name for path in folder.iterdir()} <= {FILE, CONFIG}


def _changes(before: Record, now: Record) -> list[str]:
    changes = []
    for part in ("arguments", "launcher"):
        old, new = before.get(part) or {}, now[part]
        changes += [
            f"{name} was {old.get(name, 'not set')} and is now {new.get(name, 'not set')}"
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]
    old, new = before.get("reads") or {}, now["reads"] or {}
    for name in sorted({*old, *new}):
        if name not in old or name not in new:
            changes.append(f"it {'now reads' if name in new else 'no longer reads'} {name}")
        elif old[name] != new[name]:
            changes.append(f"{name}, which it reads, has changed")
    return changes


def remember(folder: Path, record: Record) -> None:
    """Writes what decides the result that a stage begins to make."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(folder / FILE, record)


def forget(folder: Path) -> None:
    """Removes what `remember` wrote, if nothing came of the stage."""
    if _is_only_begun(folder):
        for name in (FILE, CONFIG):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
