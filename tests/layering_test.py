"""Data flows one way: what may import what, as the package map in the README says."""

import graphlib
import sys

import pytest

from tests.build_test import ROOT, imported_names, module_name, prefixes, python_files

FOUNDATION = ("errors", "files", "formats", "schedules", "settings", "candidates", "genotype")
ROOMS = (
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
    "__main__",
)
ORDER = ("", *FOUNDATION, *ROOMS)  # "" is kdas_tf/__init__.py
APART = {"data", "space", "losses", "evaluation"}
MAY_IMPORT_TENSORFLOW = {"data", "training", "serving", "launch"}


def room_of(module: str) -> str:
    return [*module.split("."), ""][1]


def violations(module: str, names: set[str]) -> list[str]:
    """The rules that a file of the package breaks when it imports these names."""
    room = room_of(module)
    problems = [] if room in ORDER else [f"{room} has no place in the order {ORDER}"]
    for name in sorted(names):
        package = name.split(".")[0]
        if package == "kdas_tf":
            problems += _broken_by(room, room_of(name))
        elif room not in ROOMS and package not in sys.stdlib_module_names:
            problems.append(f"the foundation imports {name}; it may import the standard library only")
        if package == "tensorflow" and room not in MAY_IMPORT_TENSORFLOW:
            problems.append(f"only {sorted(MAY_IMPORT_TENSORFLOW)} may import tensorflow, write it in keras.ops")
        if package == "gin" and module not in ("kdas_tf.launcher.bindings", "kdas_tf.launch"):
            problems.append("only launcher/bindings.py and launch.py know gin")
        if name.startswith("absl.flags") and room != "launch":
            problems.append("only launch.py knows flags")
    return [f"{module}: {problem}" for problem in problems]


def _broken_by(room: str, imported: str) -> list[str]:
    if imported == room or room not in ORDER:
        return []
    if imported not in ORDER:
        return [f"imports {imported}, which has no place in the order {ORDER}"]
    if ORDER.index(imported) > ORDER.index(room):
        return [f"imports {imported}, which comes after {room} in the order {ORDER}"]
    if {room, imported} <= APART:
        return [f"{room} imports {imported}; {sorted(APART)} never import one another"]
    if room == "client" and imported in ROOMS:
        return [f"the client imports {imported}; it may import itself and the foundation only"]
    return []


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import one another in a circle, of {module: names that it imports}; a package is its __init__."""
    graph = {
        module: {part for name in names for part in prefixes(name) if part in imports and part != module}
        for module, names in imports.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@pytest.fixture(scope="module")
def imports():
    """{module: names that it imports} of all files of the package; a name is imported wherever the import stands."""
    files = [file for file in python_files(ROOT) if file.startswith("kdas_tf/")]
    return {module_name(file): imported_names(ROOT / file, module_name(file)) for file in files}


def test_a_file_imports_only_from_rooms_above_its_own(imports):
    problems = [problem for module, names in imports.items() for problem in violations(module, names)]
    assert not problems, "\n".join(problems)


def test_no_files_import_one_another_in_a_circle(imports):
    assert not circle(imports)


@pytest.mark.parametrize(
    ("imports", "modules"),
    [
        ({"k": set(), "k.a": {"k.b.f"}, "k.b": {"k"}}, set()),
        ({"k": set(), "k.a": {"k.b.f"}, "k.b": {"k.c"}, "k.c": {"k.a", "numpy"}}, {"k.a", "k.b", "k.c"}),
        ({"k": {"k.a"}, "k.a": {"k.b"}, "k.b": set()}, {"k", "k.a"}),  # whoever imports k.b imports k first
    ],
)
def test_a_circle_goes_through_packages_too(imports, modules):
    assert set(circle(imports)) == modules


def test_gin_holds_no_python_that_would_shadow_the_library():
    assert not [path for path in (ROOT / "gin").rglob("*") if path.suffix in (".py", ".pyc")]


@pytest.mark.parametrize(
    ("module", "name", "rule"),
    [
        ("models.cells", "kdas_tf.space.mixed", None),
        ("models.cells", "kdas_tf.errors", None),
        ("models.cells", "kdas_tf.training.search", "after"),
        ("losses.triplet", "kdas_tf.data.records", "one another"),
        ("evaluation.ranking", "kdas_tf.losses", "one another"),
        ("evaluation.ranking", "kdas_tf.training.features", "after"),
        ("client.client", "kdas_tf.client.answers", None),
        ("client.client", "kdas_tf.errors.UserError", None),
        ("client.client", "kdas_tf.evaluation.verification", "foundation only"),
        ("space.mixed", "kdas_tf.genotype.PRIMITIVES", None),
        ("space.mixed", "kdas_tf.helpers", "no place"),
        ("helpers", "kdas_tf.errors", "no place"),
        ("space.mixed", "tensorflow.nn", "keras.ops"),
        ("stages.search", "tensorflow", "keras.ops"),
        ("training.search", "tensorflow", None),
        ("training.search", "gin", "know gin"),
        ("stages.search", "absl.flags", "knows flags"),
        ("stages.search", "absl.logging", None),
        ("launch", "absl.flags", None),
        ("launch", "kdas_tf.stages.search", None),
        ("settings", "kdas_tf.schedules", None),
        ("schedules", "kdas_tf.settings", "after"),
        ("genotype", "kdas_tf.data", "after"),
        ("genotype", "numpy", "standard library"),
    ],
)
def test_the_rules_are_those_of_the_map(module, name, rule):
    problems = violations(f"kdas_tf.{module}", {name})
    assert (rule in problems[0]) if rule else not problems


def test_the_package_itself_imports_nothing_of_its_own():
    assert "after" in violations("kdas_tf", {"kdas_tf.errors"})[0]
