"""A stage beside the others: what the networks of Table 1 cost, in parameters and multiply-adds."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files
from kdas_tf.evaluation.printing import millions
from kdas_tf.models import baselines
from kdas_tf.models.costs import multiply_adds
from kdas_tf.models.networks import trainable_parameters
from kdas_tf.settings import Backbone, CellSettings, Job
from kdas_tf.stages import search
from kdas_tf.stages.ablation_rows import PUBLISHED as PAPER
from kdas_tf.stages.stage import stage
from kdas_tf.stages.teacher import make_network

RESULT = "summary.json"
SEARCHED = "searched"

PUBLISHED = {name: PAPER[name][0][-1] for name in baselines.NAMES if name in PAPER} | {"AUTO_REID": 13.1}
"""The Params column of Table 1, in millions; Auto-ReID's is in Table 2."""

NOTES = (
    "paper: the Params columns of Tables 1 and 2, at 751 identities and C = 64.",
    "AUTO_REID: the genotype as published does not give the 13.1 M that its paper reports, but 11.5 M there.",
    "The paper's own networks have 14.3 to 16.4 M (Table 1, dynamic temperature), its teacher more than 25.1 M.",
)


def _searched(workdir: Path) -> Path:
    return workdir / "search" / search.RESULT


@stage(
    "summary",
    result=RESULT,
    identities=lambda job, num_identities, **_: num_identities,
    reads=lambda workdir, arguments: ("search", _searched(workdir)) if _searched(workdir).exists() else (),
    repeatable=True,
    decided_by=(),
)
def run(job: Job, *, network: CellSettings, num_identities: int = 751, backbone: Backbone = Backbone()) -> None:
    """Prints a table of networks and writes it to `summary.json`; needs no data.

    The rows: the baselines, the teacher, and the network that was searched in the same workdir if there is one.

    Args:
        job: what the launcher sets.
        network: image size, and the cells of the networks of cells.
        num_identities: number of training identities; the default is Market-1501's.
        backbone: of the teacher.

    Raises:
        UserError: a network cannot be made with these arguments, or the genotype cannot be read.
    """
    size, teacher_size = network.image_size, backbone.image_size or network.image_size
    rows = []
    with keras.StatelessScope():  # shapes are all that is needed
        for name in baselines.NAMES:
            rows.append(row(name, baselines.make(name, num_identities, **network.arguments()), size))
        teacher = make_network(backbone, num_identities, teacher_size)
        rows.append(row(baselines.TEACHER + backbone.name, teacher, teacher_size))
        if _searched(job.workdir).exists():
            searched = baselines.make(str(_searched(job.workdir)), num_identities, **network.arguments())
            rows.append(row(SEARCHED, searched, size))
    print(f"summary: {num_identities} identities, {size[0]}x{size[1]}, C = {network.channels}, {network.cells} cells")
    for line in table(rows):
        print(f"  {line}")
    with files.replacing(job.workdir / "summary" / RESULT) as partial:
        partial.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def row(name: str, network: keras.Model, image_size: tuple[int, int]) -> dict[str, Any]:
    """What `summary.json` says about a network; `paper_params`, in millions, where the paper has a number."""
    found = {
        "name": name,
        "trainable_params": trainable_parameters(network),
        "multiply_adds": multiply_adds(network, image_size),
        "embedding_size": int(network.head.neck.gamma.shape[0]),
    }
    return {**found, "paper_params": PUBLISHED[name]} if name in PUBLISHED else found


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields the lines that people see."""
    width = max(len(entry["name"]) for entry in rows)
    yield f"{'network':<{width}}  params (M)  paper (M)  multiply-adds (G)  embedding"
    for entry in rows:
        paper = f"{entry['paper_params']:.1f}" if "paper_params" in entry else "-"
        yield (
            f"{entry['name']:<{width}}  {millions(entry['trainable_params']):>10}  {paper:>9}  "
            f"{entry['multiply_adds'] / 1e9:>#17.3g}  {entry['embedding_size']:>9}"
        )
    yield from NOTES
