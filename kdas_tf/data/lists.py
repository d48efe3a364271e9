"""Reads a user's own photographs as tables of text list them: path, identity, camera, split."""

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path

from kdas_tf import files
from kdas_tf.data import counts, layouts, own_people
from kdas_tf.data.own_people import Photograph, Splitting
from kdas_tf.data.records import ReIDData
from kdas_tf.errors import UserError

MISSING = "missing: in the list, but there is no such file"
TWICE = "listed twice: the first line counts"

COLUMNS = {
    "path": ("path", "file", "filename", "image", "img"),
    "identity": ("identity", "person", "pid", "id"),
    "camera": ("camera", "camid", "cam"),
    "split": ("split", "subset"),
}
"""Names of the columns in the first line; camera and split may be missing."""

EXAMPLE = "'path,identity,camera,split' and then lines like 'anna/1.jpg,anna,entrance,train'"


def read(
    root: str | os.PathLike,
    *,
    name: str = "own photographs",
    file: str | None = None,
    judged_share: float = 0.5,
    seed: int = 0,
    training: bool = False,
) -> ReIDData:
    """Reads the photographs that a table lists; its first line names the columns, as in `COLUMNS`.

    Paths are absolute or relative to the table's folder. Identities and cameras are any text. The split is train, test,
    query or gallery; 'test' leaves it to `own_people.arrange` what is searched for, and without the column it splits
    the people too. Columns are separated by commas, semicolons or tabs.

    Args:
        root: the folder of the table.
        name: name of the data set, for people.
        file: name of the table in the folder. None: the only one that ends in .csv; or train.csv with test.csv, or with
            query.csv and gallery.csv, which need no column for the split.
        judged_share: as in `folders.read`; where the table has no split.
        seed: as in `folders.read`.
        training: as in `folders.read`.

    Returns:
        The records, people in the order of their names, with absolute paths; and what was left out, with reasons.

    Raises:
        UserError: there is no such table, it is damaged, no photograph is there, or there is nothing to train on and
            nothing to judge.
    """
    folder = layouts.existing_folder(root)
    photographs: dict[str, Photograph] = {}
    skipped: list[tuple[str, str]] = []
    for table, split in _tables(folder, file):
        for photograph in _lines(table, split):
            if photograph.path in photographs:
                if photographs[photograph.path].person != photograph.person:
                    raise UserError(
                        f"Expected one person for each photograph in {table}, but {photograph.path} is said to show "
                        f"{photographs[photograph.path].person!r} and {photograph.person!r}. Correct one of the lines."
                    )
                skipped.append((photograph.path, TWICE))
            elif os.path.isfile(photograph.path):
                photographs[photograph.path] = photograph
            else:
                skipped.append((photograph.path, MISSING))
    if not photographs:
        first = f"; the first is {skipped[0][0]}" if skipped else ""
        raise UserError(
            f"Expected photographs that the table in {folder} lists, but none of {len(skipped)} is there{first}. Paths "
            "are relative to the table's folder."
        )
    found = sorted(photographs.values(), key=lambda photograph: photograph.person)
    _check_complete(found, folder)
    splitting = Splitting(judged_share, seed, "lists.read")
    data = own_people.arrange(name, found, skipped, training=training, splitting=splitting)
    own_people.check(data, folder, "Correct the column camera, or leave it out when nobody knows the cameras.")
    if found[0].split:
        counts.warn_about_evaluation(data, folder)
    return data


def _tables(folder: Path, file: str | None) -> list[tuple[Path, str | None]]:
    """The tables to read, and the split of each one that is named after it."""
    if file is not None:
        return [(folder / file, None)]
    names = [name for name in layouts.list_folder(folder) if name.lower().endswith(".csv")]
    if len(names) == 1:
        return [(folder / names[0], None)]
    splits = {name: name.lower().removesuffix(".csv") for name in names}
    if names and set(splits.values()) <= set(own_people.SPLITS):
        return [(folder / name, split) for name, split in splits.items()]
    came = f"{len(names)}: {layouts.some_of(names)}" if names else "none"
    raise UserError(
        f"Expected one table of photographs, a file that ends in .csv, in {folder}, but there are {came}. Give its "
        "name: --gin_param=\"lists.read.file='people.csv'\"."
    )


def _lines(table: Path, split: str | None) -> Iterator[Photograph]:
    try:
        text = files.read_text(table)  # Excel begins a table with a BOM
        header = text.partition("\n")[0].strip()
        separator = max(",;\t", key=header.count)
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        lines = [(rows.line_num, cells) for cells in rows if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"Expected a table of photographs, UTF-8, in {table}, but it cannot be read ({type(error).__name__}: "
            f"{error}). Correct lists.read.file, or save it as CSV in UTF-8."
        ) from error
    names = [name.strip().lower() for name in lines[0][1]] if lines else []
    place = {
        column: next((names.index(name) for name in known if name in names), None) for column, known in COLUMNS.items()
    }
    path, identity = place["path"], place["identity"]
    if path is None or identity is None:
        raise UserError(f"Expected the first line of {table} to be {EXAMPLE}, but it is {header[:80]!r}. Correct it.")
    for number, cells in lines[1:]:

        def cell(column: str, cells: list[str] = cells) -> str:
            at = place[column]
            return cells[at].strip() if at is not None and at < len(cells) else ""

        said = cell("split").lower() or split or ""
        if not cell("path") or not cell("identity") or said not in ("", *own_people.SPLITS):
            raise UserError(
                f"Expected {EXAMPLE} in {table}, with a split of {', '.join(own_people.SPLITS)}, but line {number} is "
                f"{separator.join(cells)[:80]!r}. Correct it."
            )
        whole = os.path.normpath(os.path.join(table.parent, os.path.expanduser(cell("path"))))
        yield Photograph(whole, cell("identity"), cell("camera") or None, said or None)


def _check_complete(photographs: list[Photograph], folder: Path) -> None:
    """A column that only some lines fill in would be read as something else than it says."""
    for column in ("camera", "split"):
        without = [photograph for photograph in photographs if getattr(photograph, column) is None]
        if without and len(without) < len(photographs):
            raise UserError(
                f"Expected a {column} in every line of the table in {folder}, or in none, but {len(without)} of "
                f"{len(photographs)} have none, the first {without[0].path}. Fill them in, or leave the column out."
            )
