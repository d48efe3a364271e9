"""BUILD and the tree must agree; when they do not, the failure prints the lists that BUILD should have."""

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
# Modules whose distribution has another name; the others are found by their own.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "cv2": "opencv-python",
    "gin": "gin-config",
    "google.cloud.aiplatform": "google-cloud-aiplatform",
    "google.cloud.storage": "google-cloud-storage",
    "google.protobuf": "protobuf",
    "grpc": "grpcio",
    "sklearn": "scikit-learn",
    "tensorflow_serving": "tensorflow-serving-api",
    "yaml": "pyyaml",
}


@dataclass
class Target:
    """A py_* rule: its files and what it says it needs."""

    name: str
    rule: str
    srcs: list[str]
    deps: list[str]
    main_module: str | None = None


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
        targets[name] = Target(
            name,
            call.func.id,
            _strings(values.get("srcs"), root),
            _strings(values.get("deps"), root),
            ast.literal_eval(values["main_module"]) if "main_module" in values else None,
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


def gin_names(root: Path) -> set[str]:
    """What the .gin files import: gin does it when the launcher reads them."""
    names = set()
    for path in root.glob("gin/**/*.gin"):
        for source, name in re.findall(r"^(?:from\s+(\S+)\s+)?import\s+([\w.]+)", path.read_text(), re.MULTILINE):
            names.add(f"{source}.{name}" if source else name)
    return {name for name in names if not name.startswith("__gin__")}


def read_requirements(root: Path, file: str) -> set[str]:
    lines = (root / file).read_text().splitlines() if (root / file).exists() else []
    names = (re.match(r"[A-Za-z0-9][\w.-]*", line) for line in lines)
    return {_label(name[0]) for name in names if name}


def optional_packages(root: Path) -> set[str]:
    """The extras of pyproject.toml: imported where they are used, and no part of the Bazel build."""
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"].get("optional-dependencies", {})
    return {_label(re.match(r"[\w.-]+", line)[0]) for lines in extras.values() for line in lines}


def _label(distribution: str) -> str:
    return re.sub(r"[-_.]+", "_", distribution).lower()


def expected_deps(root: Path, targets: dict[str, Target]) -> dict[str, list[str]]:
    """The deps every target should have: the targets of what its files import, and of the packages they are in."""
    owners = {module_name(file): target.name for target in targets.values() for file in target.srcs}
    hubs = dict.fromkeys(read_requirements(root, "requirements-dev.txt"), "pypi_dev")
    hubs |= dict.fromkeys(read_requirements(root, "requirements.txt"), "pypi")
    optional = optional_packages(root)
    expected = {}
    for target in targets.values():
        names = {target.main_module} if target.main_module else set()
        for file in target.srcs:
            if (root / file).exists():
                names |= {module_name(file)} | imported_names(root / file, module_name(file))
            if file == "kdas_tf/launch.py":
                names |= gin_names(root)
        deps = set()
        for name in names:
            prefixes = [name[: match.start()] for match in re.finditer(r"\.|$", name)]
            if prefixes[0] in ("kdas_tf", "tests"):
                deps |= {f":{owners[prefix]}" for prefix in prefixes if prefix in owners}
            elif prefixes[0] not in sys.stdlib_module_names and prefixes[0] != "__future__":
                known = [DISTRIBUTIONS[prefix] for prefix in prefixes if prefix in DISTRIBUTIONS]
                package = _label(known[-1] if known else prefixes[0])
                if package in hubs or package not in optional:
                    deps.add(f"@{hubs.get(package, 'missing from the requirements')}//{package}")
        expected[target.name] = sorted(deps - {f":{target.name}"}, key=lambda dep: (dep[0] == "@", dep))
    return expected


def disagreements(root: Path) -> list[str]:
    """What is wrong with BUILD, each with what should be there."""
    targets = read_targets(root)
    problems = []
    owners: dict[str, list[str]] = {file: [] for file in python_files(root)}
    for target in targets.values():
        for file in target.srcs:
            if not (root / file).is_file():
                problems.append(f"{target.name}: {file} does not exist")
            owners.setdefault(file, []).append(target.name)
    problems += [f"{file} is in {names or 'no target'}" for file, names in owners.items() if len(names) != 1]
    for name, deps in expected_deps(root, targets).items():
        if targets[name].deps != deps:
            wanted = "".join(f'        "{dep}",\n' for dep in deps)
            problems.append(f"{name} should have\n    deps = [\n{wanted}    ],")
    graph = {name: {dep[1:] for dep in target.deps if dep.startswith(":")} for name, target in targets.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        problems.append(f"the targets import in a circle: {' -> '.join(error.args[1])}")
    return problems


def test_build_lists_what_the_files_import():
    problems = disagreements(ROOT)
    if problems:
        pytest.fail("BUILD and the tree disagree:\n" + "\n".join(problems), pytrace=False)


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
        "requirements-dev.txt": "-r requirements.txt\npytest==9.0\n",
        "kdas_tf/__init__.py": "",
        "kdas_tf/a/__init__.py": "",
        "kdas_tf/a/one.py": "import json\nimport numpy\ndef f():\n    import pymilvus\n    from absl import flags\n",
        "kdas_tf/b/two.py": "from kdas_tf.a import one\nfrom . import three\n",
        "kdas_tf/b/three.py": "",
        "tests/a/one_test.py": "import pytest\nimport kdas_tf.a.one as one\n",
        "BUILD": """
py_library(name = "kdas_tf", srcs = ["kdas_tf/__init__.py"])
py_library(name = "a", srcs = glob(["kdas_tf/a/*.py"]), deps = [":kdas_tf", "@pypi//absl_py", "@pypi//numpy"])
py_library(name = "b", srcs = ["kdas_tf/b/two.py"] + glob(["kdas_tf/b/th*.py"]), deps = [":a", ":kdas_tf"])
py_test(
    name = "a_test",
    srcs = glob(["tests/a/*.py"]),
    main_module = "pytest",
    deps = [":a", ":kdas_tf", "@pypi_dev//pytest"],
)
""",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "problem"),
    [
        ("BUILD", "", "", None),
        (
            "BUILD",
            ':a", ":kdas_tf"])',
            ':kdas_tf"])',
            'b should have\n    deps = [\n        ":a",\n        ":kdas_tf",\n',
        ),
        (
            "kdas_tf/a/one.py",
            "import numpy",
            "",
            'a should have\n    deps = [\n        ":kdas_tf",\n        "@pypi//absl',
        ),
        ("kdas_tf/a/one.py", "json", "scipy", '"@missing from the requirements//scipy"'),
        ("kdas_tf/a/one.py", "import json", "import kdas_tf.b.two", '":b",'),
        ("BUILD", '(["kdas_tf/b/th*.py"])', '(["kdas_tf/b/*.py"])', "kdas_tf/b/two.py is in ['b', 'b']"),
        ("BUILD", ' + glob(["kdas_tf/b/th*.py"])', "", "kdas_tf/b/three.py is in no target"),
        ("BUILD", "kdas_tf/b/two.py", "kdas_tf/b/gone.py", "b: kdas_tf/b/gone.py does not exist"),
        ("BUILD", "kdas_tf/b/th*.py", "kdas_tf/b/x*.py", "b: kdas_tf/b/x*.py does not exist"),
        ("BUILD", '[":kdas_tf", "@pypi//absl', '[":b", ":kdas_tf", "@pypi//absl', "in a circle"),
    ],
)
def test_a_disagreement_is_found_and_says_what_should_be_there(tree, file, old, new, problem):
    (tree / file).write_text((tree / file).read_text().replace(old, new, 1))
    problems = disagreements(tree)
    assert any(problem in line for line in problems) if problem else not problems
