"""Stage 1: finds or renders the photographs, checks every one, and writes their index."""

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdas_tf.data import counts, market1501, records, verify
from kdas_tf.data.contents import Photographs
from kdas_tf.data.embedded import synthetic
from kdas_tf.data.embedded.synthetic import RenderedPeople
from kdas_tf.data.records import ReIDData
from kdas_tf.errors import UserError
from kdas_tf.settings import Job
from kdas_tf.stages.reporting import progress_line
from kdas_tf.stages.stage import Source, stage

RESULT = "dataset.json"


def plan(
    job: Job,
    identities: int | None,
    *,
    data_dir: str | None,
    reader: Callable[..., ReIDData],
    people: RenderedPeople,
) -> list[str]:
    """Says what the stage would do, and how many images there are; none of them is opened."""
    folder = job.workdir / "data"
    if data_dir is not None:
        data = read(reader, Path(data_dir), extract=False, training=True)
        return [f"reads {data_dir}", *_counted(data)]
    if (folder / RESULT).exists():
        return [f"uses {folder / RESULT}", *_counted(load(job.workdir))]
    return [
        f"renders the embedded people into {folder / 'embedded'}: {people.train_identities} to train on, "
        f"{people.test_identities} to judge on"
    ]


def _counted(data: ReIDData) -> list[str]:
    return [*counts.describe(data).splitlines(), counts.verdict(data)]


def count_identities(
    job: Job, *, data_dir: str | None, reader: Callable[..., ReIDData], people: RenderedPeople, **_: Any
) -> int:
    """Number of training identities, for estimates: from the index, the data set, or what is to be rendered."""
    if (job.workdir / "data" / RESULT).exists():
        return len(records.relabel(load(job.workdir).train)[1])
    if data_dir is not None:
        return len(records.relabel(read(reader, Path(data_dir), extract=False, training=True).train)[1])
    return people.train_identities


def _photographs(
    workdir: Path, *, data_dir: str | None, reader: Callable[..., ReIDData], **_: Any
) -> Photographs | None:
    """What the stage reads; None where it renders."""
    if data_dir is None:
        return None
    root = Path(os.path.abspath(os.path.expanduser(data_dir)))
    return Photographs(
        root,
        lambda: read(reader, root, extract=False, training=True),
        workdir / "data",
        listed_only="extract" in inspect.signature(reader).parameters,
        progress=progress_line("data: reading photographs"),
    )


def judged_photographs(workdir: Path) -> Photographs | None:
    """Queries and gallery of the index, which may be replaced behind it; None where there is no index."""
    folder = workdir / "data"
    if not (folder / RESULT).exists():
        return None
    return Photographs(folder, lambda: dataclasses.replace(load(workdir), train=()), workdir / "evaluate")


def reads(workdir: Path, arguments: Mapping[str, Any]) -> Sequence[Source]:
    """The photographs, told by their content."""
    photographs = _photographs(workdir, **arguments)
    return () if photographs is None else (photographs,)


def stands(job: Job, **arguments: Any) -> bool:
    """Whether the photographs of the index lie where they did."""
    photographs = _photographs(job.workdir, **arguments)
    return photographs is None or photographs.are_where_they_were()


@stage(
    "data",
    result=RESULT,
    plan=plan,
    identities=count_identities,
    reads=reads,
    repeatable=True,
    stands=stands,
    may_change=lambda arguments: ("data_dir",) if arguments["data_dir"] is None else ("data_dir", "people"),
    decided_by=(),
)
def run(
    job: Job,
    *,
    data_dir: str | None = None,
    reader: Callable[..., ReIDData] = market1501.read,
    people: RenderedPeople = RenderedPeople(),
) -> None:
    """Writes `dataset.json`, the index of all usable photographs.

    Args:
        job: what the launcher sets.
        data_dir: folder of the data set; None renders the embedded one into the stage's folder.
        reader: reads the folder.
        people: who is rendered without a data set.

    Raises:
        UserError: the folder holds no such data set, or too little of one.
    """
    folder = job.workdir / "data"
    root = Path(data_dir) if data_dir is not None else folder / "embedded"
    if data_dir is None:
        synthetic.write_dataset(root, people, progress=progress_line("data: rendering people"))
    data = verify.drop_damaged(read(reader, root, training=True), progress=progress_line("data: checking images"))
    if not data.train:
        raise UserError(
            f"Expected photographs to learn from in {data.name}, but it only has some to evaluate on. Judge a network "
            "on it with --gin_file=gin/evaluate.gin and --model."
        )
    kept, skipped = verify.keep_trainable(data.train)
    name = root.name if data_dir is not None else "embedded people"
    data = dataclasses.replace(data, name=name, train=kept, skipped=(*data.skipped, *skipped))
    print(*_counted(data), sep="\n", flush=True)
    photographs = _photographs(job.workdir, data_dir=data_dir, reader=reader)
    if photographs is not None:
        photographs.keep()
    records.save(data, folder / RESULT)


def read(reader: Callable[..., ReIDData], root: Path, *, extract: bool = True, training: bool = False) -> ReIDData:
    """Calls a reader with those of the options that it has.

    Args:
        reader: reads the folder.
        root: the folder.
        extract: CUHK03's takes images out of an archive first.
        training: one of one's own photographs keeps some people to train on, which are else all judged.
    """
    options = {"progress": progress_line("data: extracting images"), "extract": extract, "training": training}
    known = inspect.signature(reader).parameters
    data = reader(root, **{name: value for name, value in options.items() if name in known})
    return records.with_small_numbers(data)


def load(workdir: Path) -> ReIDData:
    """Reads what the stage wrote."""
    return records.load(workdir / "data" / RESULT)
