"""A stage beside the others: what the networks of Table 1 cost, in parameters and multiply-adds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files
from kdas_tf.models import baselines
from kdas_tf.models.costs import multiply_adds
from kdas_tf.models.networks import PAPER_REDUCTIONS, trainable_parameters
from kdas_tf.stages import search

RESULT = "summary.json"
SEARCHED = "searched"

PAPER: Mapping[str, float] = {
    "ResNet18": 11.6,
    "ResNet34": 21.7,
    "ResNet50": 25.1,
    "DARTS_V2": 9.1,
    "GDAS_V1": 13.5,
    "AUTO_REID": 13.1,
}
"""The Params column of Table 1, in millions; Auto-ReID's is in Table 2."""

NOTES = (
    "paper: the Params columns of Tables 1 and 2, at 751 identities and C = 64.",
    "AUTO_REID: the genotype as published does not give the 13.1 M that its paper reports, but 11.5 M there.",
    "The paper's own networks have 14.3 to 16.4 M (Table 1, dynamic temperature), its teacher more than 25.1 M.",
)


def run(
    *,
    workdir: Path,
    image_size: tuple[int, int] = (384, 128),
    num_identities: int = 751,
    channels: int = 64,
    cells: int = 8,
    reductions: Sequence[int] = PAPER_REDUCTIONS,
    stem: str = "inet4",
    backbone: str = "ResNet50",
    backbone_arguments: dict[str, Any] | None = None,
    teacher_image_size: tuple[int, int] | None = None,
) -> None:
    """Prints a table of networks and writes it to `summary.json`; needs no data.

    The rows: the baselines, the teacher, and the network that was searched in the same workdir if there is one.

    Args:
        workdir: folder of the run.
        image_size: (height, width) in pixels.
        num_identities: number of training identities; the default is Market-1501's.
        channels: C of the networks of cells.
        cells: number of cells.
        reductions: positions of the reduction cells, counted from 0.
        stem: of networks of cells, one of `kdas_tf.models.stem.STEMS`.
        backbone: of the teacher, a name in keras.applications.
        backbone_arguments: more arguments of the backbone.
        teacher_image_size: what the backbone sees, if it is not `image_size`.

    Raises:
        UserError: a network cannot be made with these arguments, or the genotype cannot be read.
    """
    architectures = {name: name for name in baselines.NAMES}
    teacher = baselines.TEACHER + backbone
    architectures[teacher] = teacher
    searched = workdir / "search" / search.RESULT
    if searched.exists():
        architectures[SEARCHED] = str(searched)
    rows = []
    for name, architecture in architectures.items():
        size = teacher_image_size or image_size if name == teacher else image_size
        with keras.StatelessScope():  # shapes are all that is needed
            network = baselines.make(
                architecture,
                num_identities,
                image_size=size,
                channels=channels,
                cells=cells,
                reductions=reductions,
                stem=stem,
                backbone_arguments=backbone_arguments,
            )
        rows.append(row(name, network, size))
    print(f"summary: {num_identities} identities, {image_size[0]}x{image_size[1]}, C = {channels}, {cells} cells")
    for line in table(rows):
        print(f"  {line}")
    with files.replacing(workdir / "summary" / RESULT) as partial:
        partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def row(name: str, network: keras.Model, image_size: tuple[int, int]) -> dict[str, Any]:
    """What `summary.json` says about a network; `paper_params`, in millions, where the paper has a number."""
    found = {
        "name": name,
        "trainable_params": trainable_parameters(network),
        "multiply_adds": multiply_adds(network, image_size),
        "embedding_size": int(network.head.neck.gamma.shape[0]),
    }
    return {**found, "paper_params": PAPER[name]} if name in PAPER else found


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields the lines that people see."""
    width = max(len(entry["name"]) for entry in rows)
    yield f"{'network':<{width}}  params (M)  paper (M)  multiply-adds (G)  embedding"
    for entry in rows:
        paper = f"{entry['paper_params']:.1f}" if "paper_params" in entry else "-"
        yield (
            f"{entry['name']:<{width}}  {entry['trainable_params'] / 1e6:>10.2f}  {paper:>9}  "
            f"{entry['multiply_adds'] / 1e9:>#17.3g}  {entry['embedding_size']:>9}"
        )
    yield from NOTES


def count_identities(*, num_identities: int = 751, **arguments: Any) -> int:
    """Number of identities that the networks are made for."""
    return num_identities
