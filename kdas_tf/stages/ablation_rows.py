"""The rows of the ablation: which networks it compares, under which names, and what the paper measured of them."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from kdas_tf.errors import UserError
from kdas_tf.evaluation.comparison import NUMBERS, Numbers
from kdas_tf.models import baselines
from kdas_tf.schedules import LinearTemperature

Temperature = Callable[[float], float]

TEACHER = "teacher"
RANDOM = "random"
TRAINED = "train_"
"""What the names of the second table's rows begin with."""

LABELS: Temperature = LinearTemperature(start=0.0)
CONSTANT: Temperature = LinearTemperature(end=2.0)
SEARCH_TEMPERATURES: Mapping[str, Temperature] = {
    "baseline": LABELS,
    "constant": CONSTANT,
    "dynamic": LinearTemperature(),
}
TRAIN_TEMPERATURES: Mapping[str, Temperature] = {"baseline": LABELS, "constant": CONSTANT}

_TITLES = {
    TEACHER: "Teacher",
    "baseline": "Baseline (L_c + L_t)",
    "constant": "+ distillation, T = 2",
    "dynamic": "+ dynamic temperature",
    "ResNet18": "ResNet-18",
    "ResNet34": "ResNet-34",
    "ResNet50": "ResNet-50",
    "DARTS_V2": "DARTS",
    "GDAS_V1": "GDAS",
    "AUTO_REID": "Auto-ReID's genotype",
}

_TRAINING_TITLES = {"baseline": "L_c + L_t", "constant": "distillation, T = 2", "dynamic": "dynamic temperature"}

PUBLISHED: dict[str, list[tuple[float, ...]]] = {
    TEACHER: [(83.2, 93.7)],
    "baseline": [
        (71.7, 87.9, 95.9, 97.4, 11.2),
        (71.5, 87.0, 95.7, 97.3, 9.8),
        (72.3, 89.0, 96.5, 97.9, 12.0),
        (72.1, 88.6, 96.4, 97.9, 11.4),
    ],
    "constant": [
        (74.7, 89.7, 96.2, 97.6, 16.5),
        (75.8, 91.0, 96.6, 98.0, 15.0),
        (75.3, 89.9, 96.5, 98.1, 14.3),
        (74.9, 89.3, 96.5, 97.7, 12.1),
    ],
    "dynamic": [
        (77.0, 91.1, 97.0, 97.9, 14.3),
        (76.9, 91.1, 96.7, 97.9, 15.7),
        (76.0, 90.0, 96.6, 98.0, 16.4),
        (75.7, 90.1, 96.5, 98.0, 15.4),
    ],
    "ResNet18": [(66.0, 85.2, 94.6, 96.5, 11.6)],
    "ResNet34": [(68.0, 86.7, 94.8, 96.6, 21.7)],
    "ResNet50": [(68.5, 87.2, 95.5, 97.1, 25.1)],
    "DARTS_V2": [(65.2, 85.6, 94.3, 96.4, 9.1)],
    "GDAS_V1": [(66.8, 86.5, 94.7, 96.9, 13.5)],
}
"""mAP, Rank-1, Rank-5, Rank-10, millions of parameters of each run in the paper's Table 1; the teacher's of Table 2."""


class AblationRow(NamedTuple):
    """One row of the ablation: a kind "teacher" is only read, "search" searches and trains, the others only train."""

    name: str  # of its folder, and in commands
    title: str  # in the table
    kind: Literal["teacher", "search", "hand-made", "random", "training"]
    temperature: Temperature | None = None  # of the search, or of a "training"; None is the training's own
    architecture: str | None = None  # of a "hand-made" row, as in `kdas_tf.models.baselines.make`


def make_rows(
    search_temperatures: Mapping[str, Temperature],
    train_temperatures: Mapping[str, Temperature],
    hand_made: Sequence[str],
    chosen: str,
) -> dict[str, AblationRow]:
    """Lists all rows of both tables by name, in their order.

    Args:
        search_temperatures: {name of a row: T of its search as a function of the epoch}.
        train_temperatures: {name: T of the training}; the training's own T is a row besides.
        hand_made: architectures; one from a file is named after it.
        chosen: row whose genotype the second table trains; its name also names the row of the training's own T.

    Raises:
        UserError: two rows have the same name, one is no name for a folder, no row is called `chosen`, or there is no
            such architecture.
    """
    if chosen not in search_temperatures:
        raise UserError(
            f"Expected table.run.chosen to name one of search_temperatures, {', '.join(search_temperatures)}, got "
            f"{chosen!r}.",
            code="choice",
        )
    rows = [AblationRow(TEACHER, _TITLES[TEACHER], "teacher")]
    rows += [AblationRow(name, _TITLES.get(name, name), "search", T) for name, T in search_temperatures.items()]
    for architecture in hand_made:
        baselines.check(architecture)  # refuses an unknown name or a damaged file before hours of searches
        path = Path(architecture)
        name = path.stem if path.suffix == ".json" else architecture.replace(":", "_")
        rows.append(AblationRow(name, _TITLES.get(name, name), "hand-made", architecture=architecture))
    rows.append(AblationRow(RANDOM, f"Random, as large as {chosen}", "random"))
    for name, temperature in [*train_temperatures.items(), (chosen, None)]:
        rows.append(AblationRow(TRAINED + name, _TRAINING_TITLES.get(name, name), "training", temperature))
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Expected rows with different names, got {name!r} twice. Rename one, or take it out.")
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UserError(f"Expected the name of a row to be letters, digits, '_', '-' and '.', got {name!r}.")
    return dict(zip(names, rows, strict=True))


def published(name: str) -> list[Numbers]:
    """What the paper says of a row: the numbers of each run; nothing of a row that it lacks."""
    units = (1, 1, 1, 1, 1e6)
    paper = [[value * unit for value, unit in zip(run, units, strict=False)] for run in PUBLISHED.get(name, [])]
    return [dict(zip(NUMBERS, run, strict=False)) for run in paper]
