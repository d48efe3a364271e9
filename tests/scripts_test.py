"""The shell scripts: they parse, are executable, and say what is missing; nothing here needs a network."""

import os
import re
import shutil
import stat
import subprocess

import pytest

from tests.build_test import ROOT

SCRIPTS = sorted([*(ROOT / "launch").glob("*.sh"), ROOT / ".ci" / "run"])
PYTEST = "pytest --numprocesses=2 --max-worker-restart=0 --dist=loadfile --no-loadscope-reorder"
# What a working interpreter answers to set-up's questions, and an install that does nothing but be recorded.
INTERPRETER = """#!/bin/bash
case "$*" in
  "-I -m venv "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  "-I -m pip install "*) echo "${@: -1}" >>"$INSTALLS"; [ ! -e "$INSTALLS.fails" ] ;;
  *) echo VERSION ;;
esac
"""


@pytest.fixture
def clone(tmp_path):
    """The scripts and requirements of a clone whose path holds a space."""
    root = tmp_path / "a clone"
    shutil.copytree(ROOT / "launch", root / "launch")
    for file in ROOT.glob("requirements*.txt"):
        shutil.copy(file, root)
    return root


def interpreter(path, version):
    path.write_text(INTERPRETER.replace("VERSION", version))
    path.chmod(0o755)
    return path


def run(script, *arguments, cwd, **environment):
    """Runs a script from another folder than its own."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    return subprocess.run(
        [script, *arguments], cwd=cwd, env=clean | environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_parses_is_executable_and_stops_at_errors(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text


@pytest.mark.parametrize(
    ("version", "complaint"),
    [
        ("3.9", "is Python 3.9"),
        ("3.14", "is Python 3.14"),
        ("3.12 ensurepip", "is Python 3.12, but its ensurepip module is missing"),
        ("", "is Python of an unknown version"),
    ],
)
def test_setup_names_the_python_it_found_and_those_it_needs(clone, tmp_path, version, complaint):
    python = interpreter(tmp_path / "python", version)
    result = run(clone / "launch" / "setup.sh", cwd=tmp_path, PYTHON=str(python))
    assert result.returncode == 1
    assert "expected Python 3.11, 3.12 or 3.13" in result.stderr
    assert f"{python} {complaint}" in result.stderr
    assert ("apt-get install python3.12-venv" in result.stderr) == ("ensurepip" in version)
    assert not (clone / ".venv").exists()


def test_setup_passes_over_interpreters_that_do_not_run(clone, tmp_path):
    folder = tmp_path / "shims"
    folder.mkdir()
    for name in ("python3.13", "python3"):
        (folder / name).write_text("#!/bin/sh\necho 'version not installed' >&2\nexit 127\n")
        (folder / name).chmod(0o755)
    interpreter(folder / "python3.12", "3.12")
    path = f"{folder}:{os.environ['PATH']}"
    # Every python3.13 on the real path might run, so the search is cut short after the shims.
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "cat", "cmp", "cp", "dirname", "env", "mkdir", "rm", "touch"):
        (tools / name).symlink_to(shutil.which(name, path=path))
    result = run(clone / "launch" / "setup.sh", cwd=tmp_path, PATH=f"{folder}:{tools}", INSTALLS=str(tmp_path / "log"))
    assert result.returncode == 0, result.stderr
    assert f"with {folder / 'python3.12'} (Python 3.12)" in result.stderr


def test_setup_installs_once_and_again_when_the_requirements_change(clone, tmp_path):
    log = tmp_path / "installs"
    environment = {"PYTHON": str(interpreter(tmp_path / "python", "3.12")), "INSTALLS": str(log)}

    def installed(*arguments):
        log.write_text("")
        result = run(clone / "launch" / "setup.sh", *arguments, cwd=tmp_path, **environment)
        assert result.returncode == 0, result.stderr
        return [line.removeprefix(f"{clone}/") for line in log.read_text().splitlines()]

    assert installed() == ["requirements.txt"]
    kept = clone / ".venv" / "kept"
    kept.touch()
    assert installed() == []
    assert installed("--dev") == ["requirements-dev.txt"]
    assert installed("--dev") == installed() == []
    with (clone / "requirements.txt").open("a") as file:
        file.write("another==1.0\n")
    assert installed() == ["requirements.txt"]
    assert kept.exists()


@pytest.mark.parametrize("damage", ["interrupted", "no interpreter"])
def test_setup_makes_a_damaged_environment_anew(clone, tmp_path, damage):
    environment = {"PYTHON": str(interpreter(tmp_path / "python", "3.12")), "INSTALLS": str(tmp_path / "installs")}
    setup = clone / "launch" / "setup.sh"
    assert run(setup, cwd=tmp_path, **environment).returncode == 0
    (clone / ".venv" / "leftover").touch()
    if damage == "interrupted":
        (clone / ".venv" / ".unfinished").touch()
    else:
        (clone / ".venv" / "bin" / "python").unlink()
    assert run(setup, cwd=tmp_path, **environment).returncode == 0
    assert not (clone / ".venv" / "leftover").exists()


def test_setup_keeps_the_environment_when_pip_fails(clone, tmp_path):
    log = tmp_path / "installs"
    environment = {"PYTHON": str(interpreter(tmp_path / "python", "3.12")), "INSTALLS": str(log)}
    setup = clone / "launch" / "setup.sh"
    (tmp_path / "installs.fails").touch()
    result = run(setup, cwd=tmp_path, **environment)
    assert result.returncode == 1
    assert "pip could not install requirements.txt" in result.stderr
    (clone / ".venv" / "kept").touch()
    (tmp_path / "installs.fails").unlink()
    assert run(setup, cwd=tmp_path, **environment).returncode == 0
    assert (clone / ".venv" / "kept").exists()


def test_quickstart_passes_on_the_launchers_exit_code_and_nothing_more(clone, tmp_path):
    environment = {"PYTHON": str(interpreter(tmp_path / "python", "3.12")), "INSTALLS": str(tmp_path / "installs")}
    assert run(clone / "launch" / "setup.sh", cwd=tmp_path, **environment).returncode == 0
    launcher = '#!/bin/bash\ncase "$*" in "-m kdas_tf.launch"*) echo "$@"; exit "$CODE" ;; *) echo 3.12 ;; esac\n'
    (clone / ".venv" / "bin" / "python").write_text(launcher)
    quickstart = clone / "launch" / "quickstart.sh"
    result = run(quickstart, "my run", "--flag=1", cwd=tmp_path, CODE="3", **environment)
    assert result.returncode == 3
    command = f"-m kdas_tf.launch --gin_file={clone}/gin/search.gin --workdir=my run --flag=1\n"
    assert (result.stdout, result.stderr) == (command, "")
    result = run(quickstart, cwd=tmp_path, CODE="0", **environment)
    assert result.returncode == 0
    assert f"--workdir={clone}/runs/quickstart" in result.stdout
    assert "genotype.json" in result.stdout and "tensorboard" in result.stdout


def test_every_requirement_has_an_exact_version():
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            assert re.fullmatch(r"|#.*|-r requirements\.txt|[\w.-]+==[\w.]+", line), f"{name}: {line}"


@pytest.mark.parametrize(
    ("failing", "status", "arguments", "commands"),
    [
        ("nothing", 0, [], ["ruff check", "ruff format --check", "mypy", f"{PYTEST} -m not slow"]),
        ("nothing", 0, ["tests", "-k", "a b"], ["ruff check", "ruff format --check", "mypy", f"{PYTEST} tests -k a b"]),
        ("ruff format", 1, [], ["ruff check", "ruff format --check"]),
        ("mypy", 2, [], ["ruff check", "ruff format --check", "mypy"]),
        ("pytest", 5, ["tests/none"], ["ruff check", "ruff format --check", "mypy", f"{PYTEST} tests/none"]),
    ],
)
def test_the_checks_stop_at_the_first_that_fails(clone, tmp_path, failing, status, arguments, commands):
    environment = {"PYTHON": str(interpreter(tmp_path / "python", "3.12")), "INSTALLS": str(tmp_path / "installs")}
    assert run(clone / "launch" / "setup.sh", "--dev", cwd=tmp_path, **environment).returncode == 0
    tools = f'case "$*" in "-m {failing}"*) echo "$@"; exit {status} ;; "-m "*) echo "$@" ;; *) echo 3.12 ;; esac\n'
    (clone / ".venv" / "bin" / "python").write_text(f"#!/bin/bash\n{tools}")
    result = run(clone / "launch" / "test.sh", *arguments, cwd=tmp_path, **environment)
    assert result.returncode == status
    assert [line[3:] for line in result.stdout.splitlines() if line.startswith("-m ")] == commands
