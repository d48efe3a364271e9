"""BUILD and the tree must agree. `python -m tests.build_test` writes the deps into BUILD that the imports need."""

import ast
import graphlib
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RULES = ("py_library", "py_binary", "py_test")
# Labels by Bazel's grammar, and what they name: a target of BUILD, or a repository and a package of it.
LABEL = re.compile(r":(?P<target>[\w./+=,@~-]+)|@(?P<hub>[\w.-]+)//(?P<package>[\w./-]+)")
HUBS = {"pypi": "requirements.txt", "pypi_dev": "requirements-dev.txt"}
# Modules whose distribution has another name.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "faiss": "faiss-cpu",
    "gin": "gin-config",
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "tensorflow_serving": "tensorflow-serving-api",
    "yaml": "pyyaml",
}
# Imported where it is used and never installed by us; the extras of pyproject.toml are optional, too.
OPTIONAL = {"tensorflow_datasets"}


@dataclass
class Target:
    """A py_* rule: its files, what it says it needs, and the lines of BUILD, from 0, where it says so."""

    name: str
    rule: str
    srcs: list[str]
    deps: list[str]
    main_module: str | None
    deps_lines: slice


def read_targets(root: Path) -> dict[str, Target]:
    """Reads the py_* rules of BUILD, whose syntax is Python's."""
    targets: dict[str, Target] = {}
    for statement in ast.parse((root / "BUILD").read_text()).body:
        call = getattr(statement, "value", None)
        if not isinstance(call, ast.Call) or getattr(call.func, "id", None) not in RULES:
            continue
        values = {keyword.arg: keyword.value for keyword in call.keywords}
        name = ast.literal_eval(values["name"])
        assert name not in targets, f"BUILD has two targets named {name}"
        deps, end = values.get("deps"), call.end_lineno - 1
        targets[name] = Target(
            name,
            call.func.id,
            _strings(values.get("srcs"), root),
            _strings(deps, root),
            ast.literal_eval(values["main_module"]) if "main_module" in values else None,
            slice(deps.lineno - 1, deps.end_lineno) if deps else slice(end, end),
        )
    return targets


def _strings(node: ast.expr | None, root: Path) -> list[str]:
    """Evaluates a list of strings, a glob of them, or a sum of both."""
    if node is None:
        return []
    if isinstance(node, ast.BinOp):
        return _strings(node.left, root) + _strings(node.right, root)
    if isinstance(node, ast.Call):
        patterns = ast.literal_eval(node.args[0])
        excluded = [ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg == "exclude"]
        unmatched = [pattern for pattern in patterns if not _glob([pattern], root)]  # Bazel refuses these, and so do we
        return sorted(_glob(patterns, root) - _glob(excluded[0] if excluded else [], root)) + unmatched
    return ast.literal_eval(node)


def _glob(patterns: list[str], root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern)}


def python_files(root: Path) -> list[str]:
    return sorted(_glob(["kdas_tf/**/*.py", "tests/**/*.py"], root))


def module_name(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported_names(path: Path, module: str) -> set[str]:
    """Every dotted name a file imports, anywhere in it; `from a import b` counts as a and a.b."""
    names = set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (base, node.module) if part)
            names |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return names


def prefixes(name: str) -> list[str]:
    """The packages around a dotted name, and the name itself."""
    return [name[: match.start()] for match in re.finditer(r"\.|$", name)]


def gin_names(root: Path) -> set[str]:
    """What the .gin files import: gin does it when the launcher reads them."""
    names = set()
    for path in root.glob("gin/**/*.gin"):
        for source, name in re.findall(r"^(?:from\s+(\S+)\s+)?import\s+([\w.]+)", path.read_text(), re.MULTILINE):
            names.add(f"{source}.{name}" if source else name)
    return {name for name in names if not name.startswith("__gin__")}


def _package(requirement: str) -> str:
    """The name that a requirement has in a label."""
    return re.sub(r"[-_.]+", "_", re.match(r"[\w.-]+", requirement)[0]).lower()


def read_requirements(root: Path, file: str) -> set[str]:
    return {_package(line) for line in (root / file).read_text().splitlines() if re.match(r"[A-Za-z0-9]", line)}


def optional_packages(root: Path) -> set[str]:
    """What is imported where it is used, and need not be there."""
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"].get("optional-dependencies", {})
    return OPTIONAL | {_package(line) for lines in extras.values() for line in lines}


def names_of(target: Target, root: Path) -> set[str]:
    """Every dotted name that the files of a target import, and their own."""
    names = {target.main_module} if target.main_module else set()
    for file in target.srcs:
        if (root / file).exists():
            names |= {module_name(file)} | imported_names(root / file, module_name(file))
        if file == "kdas_tf/launch.py":
            names |= gin_names(root)
    return names


def packages_of(target: Target, root: Path) -> set[str]:
    """The packages from elsewhere that the files of a target import."""
    ours = (*sys.stdlib_module_names, "__future__", "kdas_tf", "tests")
    names = [prefixes(name) for name in names_of(target, root)]
    return {
        _package(next((DISTRIBUTIONS[part] for part in parts if part in DISTRIBUTIONS), parts[0]))
        for parts in names
        if parts[0] not in ours
    }


def expected_deps(root: Path, targets: dict[str, Target]) -> dict[str, list[str]]:
    """The deps every target should have: the targets of what its files import, and of the packages they are in."""
    owners = {module_name(file): target.name for target in targets.values() for file in target.srcs}
    hubs = {package: hub for hub, file in reversed(HUBS.items()) for package in read_requirements(root, file)}
    expected = {}
    for target in targets.values():
        names = {part for name in names_of(target, root) for part in prefixes(name)}
        own = {f":{owners[name]}" for name in names & owners.keys()} - {f":{target.name}"}
        packages = {f"@{hubs[package]}//{package}" for package in packages_of(target, root) & hubs.keys()}
        expected[target.name] = sorted(own) + sorted(packages)
    return expected


def disagreements(root: Path) -> list[str]:
    """What is wrong with BUILD, each with what should be there."""
    targets = read_targets(root)
    problems = []
    owners: dict[str, list[str]] = {file: [] for file in python_files(root)}
    required = set().union(*(read_requirements(root, file) for file in HUBS.values()))
    for name, target in targets.items():
        for file in target.srcs:
            if not (root / file).is_file():
                problems.append(f"{name}: {file} does not exist")
            owners.setdefault(file, []).append(name)
        unknown = packages_of(target, root) - required - optional_packages(root)
        problems += [f"{name} imports {package}, which no requirements file has" for package in sorted(unknown)]
        problems += [f"{name}: {label!r} {fault}" for label in target.deps for fault in _faults(label, targets, root)]
    problems += [f"{file} is in {names or 'no target'}" for file, names in owners.items() if len(names) != 1]
    for name, deps in expected_deps(root, targets).items():
        if targets[name].deps != deps:
            problems.append("\n".join([f"{name} should have", *_block(deps)]))
    graph = {name: {dep[1:] for dep in target.deps if dep.startswith(":")} for name, target in targets.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        problems.append(f"the targets import in a circle: {' -> '.join(error.args[1])}")
    return problems


def _faults(label: str, targets: dict[str, Target], root: Path) -> list[str]:
    match = LABEL.fullmatch(label)
    if not match:
        return ["is no label"]
    if match["target"]:
        return [] if match["target"] in targets else ["names no target"]
    file = HUBS.get(match["hub"])
    return [] if file and match["package"] in read_requirements(root, file) else ["names no required package"]


def _block(deps: list[str]) -> list[str]:
    return ["    deps = [", *(f'        "{dep}",' for dep in deps), "    ],"] if deps else []


def write_deps(root: Path) -> None:
    """Writes the deps into BUILD that the imports need."""
    targets, lines = read_targets(root), (root / "BUILD").read_text().splitlines()
    expected = expected_deps(root, targets)
    for target in reversed(targets.values()):  # from the end, so that the lines before keep their numbers
        lines[target.deps_lines] = _block(expected[target.name])
    (root / "BUILD").write_text("\n".join(lines) + "\n")


def test_build_lists_what_the_files_import():
    problems = disagreements(ROOT)
    if problems:
        pytest.fail("python -m tests.build_test mends the deps of BUILD:\n" + "\n".join(problems), pytrace=False)


def test_every_subpackage_has_a_library():
    targets = read_targets(ROOT)
    for folder in sorted({path.parent for path in (ROOT / "kdas_tf").glob("*/*.py")}):
        assert targets[folder.name].rule == "py_library"


@pytest.fixture
def tree(tmp_path):
    """A small project whose BUILD is right."""
    files = {
        "pyproject.toml": '[project]\nname = "x"\n[project.optional-dependencies]\nmilvus = ["pymilvus>=2"]\n',
        "requirements.txt": "# pinned\nnumpy==2.0\nabsl-py==2.1  # flags\n",
        "requirements-dev.txt": "-r requirements.txt\npytest==9.0\nfaiss-cpu==1.9\n",
        "kdas_tf/__init__.py": "",
        "kdas_tf/a/__init__.py": "",
        "kdas_tf/a/one.py": "import json\nimport numpy\ndef f():\n    import pymilvus\n    from absl import flags\n",
        "kdas_tf/b/two.py": "from kdas_tf.a import one\nfrom . import three\ndef f():\n    import faiss\n",
        "kdas_tf/b/three.py": "def f():\n    import tensorflow_datasets.core\n",
        "tests/a/one_test.py": "import pytest\nimport kdas_tf.a.one as one\n",
        "BUILD": """
py_library(
    name = "kdas_tf",
    srcs = ["kdas_tf/__init__.py"],
)
py_library(
    name = "a",
    srcs = glob(["kdas_tf/a/*.py"]),
    deps = [
        ":kdas_tf",
        "@pypi//absl_py",
        "@pypi//numpy",
    ],
)
py_library(
    name = "b",
    srcs = ["kdas_tf/b/two.py"] + glob(["kdas_tf/b/th*.py"]),
    deps = [
        ":a",
        ":kdas_tf",
        "@pypi_dev//faiss_cpu",
    ],
)
py_test(
    name = "a_test",
    srcs = glob(["tests/a/*.py"]),
    deps = [
        ":a",
        ":kdas_tf",
        "@pypi_dev//pytest",
    ],
    main_module = "pytest",
)
""",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def change(path, old, new):
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("BUILD", "", "", None),
        ("BUILD", '        ":a",\n', "", 'b should have\n    deps = [\n        ":a",\n        ":kdas_tf",\n'),
        (
            "kdas_tf/a/one.py",
            "import numpy",
            "",
            'a should have\n    deps = [\n        ":kdas_tf",\n        "@pypi//absl',
        ),
        ("kdas_tf/a/one.py", "json", "scipy", "a imports scipy, which no requirements file has"),
        ("kdas_tf/a/one.py", "import json", "import kdas_tf.b.two", '":b",'),
        ("BUILD", '":a"', '"@missing from the requirements//faiss"', "requirements//faiss' is no label"),
        ("BUILD", "@pypi_dev//faiss_cpu", "@pypi_dev//faiss", "'@pypi_dev//faiss' names no required package"),
        ("BUILD", "@pypi//numpy", "@conda//numpy", "'@conda//numpy' names no required package"),
        ("BUILD", '":a"', '":c"', "':c' names no target"),
        ("BUILD", '(["kdas_tf/b/th*.py"])', '(["kdas_tf/b/*.py"])', "kdas_tf/b/two.py is in ['b', 'b']"),
        ("BUILD", ' + glob(["kdas_tf/b/th*.py"])', "", "kdas_tf/b/three.py is in no target"),
        ("BUILD", "kdas_tf/b/two.py", "kdas_tf/b/gone.py", "b: kdas_tf/b/gone.py does not exist"),
        ("BUILD", "kdas_tf/b/th*.py", "kdas_tf/b/x*.py", "b: kdas_tf/b/x*.py does not exist"),
        ("BUILD", '        ":kdas_tf",\n        "@pypi//absl', '        ":b",\n        "@pypi//absl', "in a circle"),
    ],
)
def test_a_disagreement_is_told_with_what_should_be_there(tree, file, old, new, problem):
    change(tree / file, old, new)
    problems = disagreements(tree)
    assert any(problem in line for line in problems) if problem else not problems


def test_deps_are_written_and_all_else_is_kept(tree):
    right = (tree / "BUILD").read_text()
    change(tree / "BUILD", '        ":kdas_tf",\n        "@pypi//absl_py",\n', '        "@missing//absl",\n')
    change(
        tree / "BUILD",
        '    deps = [\n        ":a",\n        ":kdas_tf",\n        "@pypi_dev//faiss_cpu",\n    ],\n',
        "",
    )
    write_deps(tree)
    assert (tree / "BUILD").read_text() == right
    (tree / "kdas_tf" / "a" / "one.py").write_text("")
    write_deps(tree)
    assert '        ":kdas_tf",\n    ],\n)\npy_library(\n    name = "b"' in (tree / "BUILD").read_text()


if __name__ == "__main__":
    write_deps(ROOT)
