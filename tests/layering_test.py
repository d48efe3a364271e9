"""Data flows one way: what may import what, as the package map in the README says."""

import sys
from pathlib import Path

import pytest

from tests.build_test import ROOT, imported_names, module_name, python_files

ORDER = (
    "data",
    "space",
    "models",
    "losses",
    "evaluation",
    "drawing",
    "training",
    "serving",
    "client",
    "stages",
    "launcher",
    "launch",
)
BASE = ("candidates", "errors", "files")  # everything may import these
FOUNDATION = ("formats", "genotype", "ranges", "schedules", "settings")
APART = {"data", "space", "losses", "evaluation"}
MAY_IMPORT_TENSORFLOW = {"data", "training", "serving", "launch"}


def violations(file: str, names: set[str]) -> list[str]:
    """The rules that a file of the package breaks by importing these names."""
    group = module_name(file).removeprefix("kdas_tf").lstrip(".").split(".")[0]
    problems = []
    for name in sorted(names):
        first, _, rest = name.partition(".")
        if first == "kdas_tf" and rest:
            problems += _broken_by(group, rest.split(".")[0])
        if group in (*FOUNDATION, *BASE, "") and first not in (*sys.stdlib_module_names, "kdas_tf"):
            problems.append(f"{group or '__init__'} imports {name}; it may import the standard library only")
        if first == "tensorflow" and group not in MAY_IMPORT_TENSORFLOW:
            problems.append(
                f"{group} imports tensorflow; only {sorted(MAY_IMPORT_TENSORFLOW)} may, write it in keras.ops"
            )
        if first == "gin" and module_name(file) not in ("kdas_tf.launcher.bindings", "kdas_tf.launch"):
            problems.append(f"{group} imports {name}; only bindings.py and launch.py know gin")
        if name.startswith("absl.flags") and group != "launch":
            problems.append(f"{group} imports {name}; only launch.py knows flags")
    return [f"{file}: {problem}" for problem in problems]


def _broken_by(group: str, imported: str) -> list[str]:
    if imported in (group, *BASE) or (imported in FOUNDATION and group in ORDER):
        return []
    if imported in FOUNDATION or group not in ORDER:
        return [f"{group or '__init__'} imports {imported}; it may import {' and '.join(BASE)} only"]
    if imported not in ORDER:
        return [f"{group} imports {imported}, which has no place in the order {ORDER}"]
    if ORDER.index(imported) > ORDER.index(group):
        return [f"{group} imports {imported}, which comes after it in the order {ORDER}"]
    if {group, imported} <= APART:
        return [f"{group} imports {imported}; {sorted(APART)} never import one another"]
    return []


@pytest.mark.parametrize("file", [file for file in python_files(ROOT) if file.startswith("kdas_tf/")])
def test_a_file_imports_only_from_groups_above_its_own(file):
    found = violations(file, imported_names(ROOT / file, module_name(file)))
    assert not found, "\n".join(found)


def test_gin_holds_no_python_that_would_shadow_the_library():
    assert not [path for path in (ROOT / "gin").rglob("*") if path.suffix in (".py", ".pyc")]


def test_every_file_has_a_place_in_the_order():
    groups = {Path(file).parts[1].removesuffix(".py") for file in python_files(ROOT) if file.startswith("kdas_tf/")}
    assert groups <= {*ORDER, *FOUNDATION, *BASE, "__init__"}


@pytest.mark.parametrize(
    ("file", "name", "rule"),
    [
        ("kdas_tf/models/cells.py", "kdas_tf.space.mixed", None),
        ("kdas_tf/models/cells.py", "kdas_tf.models.stem", None),
        ("kdas_tf/models/cells.py", "kdas_tf.training.search", "after"),
        ("kdas_tf/losses/triplet.py", "kdas_tf.data.records", "one another"),
        ("kdas_tf/evaluation/ranking.py", "kdas_tf.losses", "one another"),
        ("kdas_tf/evaluation/ranking.py", "kdas_tf.training.features", "after"),
        ("kdas_tf/space/mixed.py", "kdas_tf.genotype.PRIMITIVES", None),
        ("kdas_tf/space/mixed.py", "kdas_tf.helpers", "no place"),
        ("kdas_tf/space/mixed.py", "tensorflow.nn", "keras.ops"),
        ("kdas_tf/stages/search.py", "tensorflow", "keras.ops"),
        ("kdas_tf/training/search.py", "tensorflow", None),
        ("kdas_tf/training/search.py", "gin", "know gin"),
        ("kdas_tf/stages/search.py", "absl.flags", "knows flags"),
        ("kdas_tf/stages/search.py", "absl.logging", None),
        ("kdas_tf/launch.py", "absl.flags", None),
        ("kdas_tf/launch.py", "kdas_tf.stages.search", None),
        ("kdas_tf/genotype.py", "kdas_tf.errors.UserError", None),
        ("kdas_tf/genotype.py", "kdas_tf.schedules", "candidates and errors and files only"),
        ("kdas_tf/genotype.py", "numpy", "standard library"),
        ("kdas_tf/__init__.py", "kdas_tf.data", "candidates and errors and files only"),
    ],
)
def test_the_rules_are_those_of_the_map(file, name, rule):
    found = violations(file, {name})
    assert (rule in found[0]) if rule else not found
