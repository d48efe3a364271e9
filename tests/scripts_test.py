"""The shell scripts: they parse, are executable, and say what is missing; nothing here needs a network."""

import os
import shutil
import stat
import subprocess

import pytest

from tests.build_test import ROOT

SCRIPTS = sorted([*(ROOT / "launch").glob("*.sh"), ROOT / ".ci" / "run"])
CHECKS = ["ruff check", "ruff format --check", "mypy"]
PYTEST = "pytest --numprocesses=2 --max-worker-restart=0 --dist=loadfile --no-loadscope-reorder"
# What a working interpreter answers to set-up's questions, and an install that does nothing but be recorded.
INTERPRETER = """#!/bin/bash
case "$*" in
  "-I -m venv "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  "-I -m pip install "*) echo "${@: -1}" >>"$INSTALLS"; [ ! -e "$INSTALLS.fails" ] ;;
  *) echo VERSION ;;
esac
"""


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def clone(tmp_path):
    """The scripts and requirements of a clone whose path holds a space."""
    root = tmp_path / "a clone"
    shutil.copytree(ROOT / "launch", root / "launch")
    for file in ROOT.glob("requirements*.txt"):
        shutil.copy(file, root)
    return root


@pytest.fixture
def run(clone, tmp_path):
    """Runs a script of the clone from another folder, with a Python 3.12 unless another one is given."""
    python = executable(tmp_path / "python", INTERPRETER.replace("VERSION", "3.12"))
    usual = {**os.environ, "PYTHON": str(python), "INSTALLS": str(tmp_path / "installs")}

    def run(script, *arguments, status=0, **environment):
        command, settings = [clone / "launch" / script, *arguments], usual | environment
        done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        return done

    return run


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
def test_setup_names_the_python_it_found_and_those_it_needs(clone, run, tmp_path, version, complaint):
    python = executable(tmp_path / "other", INTERPRETER.replace("VERSION", version))
    errors = run("setup.sh", status=1, PYTHON=str(python)).stderr
    assert "expected Python 3.11, 3.12 or 3.13" in errors and f"{python} {complaint}" in errors
    assert ("apt-get install python3.12-venv" in errors) == ("ensurepip" in version)
    assert not (clone / ".venv").exists()


def test_setup_passes_over_interpreters_that_do_not_run(run, tmp_path):
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("python3.13", "python3"):
        executable(folder / name, "#!/bin/sh\necho 'version not installed' >&2\nexit 127\n")
    shutil.copy(tmp_path / "python", folder / "python3.12")
    # A python3.13 on the real path might run, so that only tools are taken from there.
    for name in ("bash", "cat", "cmp", "cp", "dirname", "env", "mkdir", "rm", "touch"):
        (folder / name).symlink_to(shutil.which(name))
    errors = run("setup.sh", PYTHON="", PATH=str(folder)).stderr
    assert f"with {folder / 'python3.12'} (Python 3.12)" in errors


def test_setup_installs_once_and_again_when_the_requirements_change(clone, run, tmp_path):
    log = tmp_path / "installs"

    def installed(*arguments):
        log.write_text("")
        run("setup.sh", *arguments)
        return [line.removeprefix(f"{clone}/") for line in log.read_text().splitlines()]

    assert installed() == ["requirements.txt"]
    (clone / ".venv" / "kept").touch()
    assert installed() == []
    assert installed("--dev") == ["requirements-dev.txt"]
    assert installed("--dev") == installed() == []
    with (clone / "requirements.txt").open("a") as file:
        file.write("another==1.0\n")
    assert installed() == ["requirements.txt"]
    assert (clone / ".venv" / "kept").exists()


@pytest.mark.parametrize("damage", ["interrupted", "no interpreter"])
def test_setup_makes_a_damaged_environment_anew(clone, run, damage):
    run("setup.sh")
    (clone / ".venv" / "leftover").touch()
    if damage == "interrupted":
        (clone / ".venv" / ".unfinished").touch()
    else:
        (clone / ".venv" / "bin" / "python").unlink()
    run("setup.sh")
    assert not (clone / ".venv" / "leftover").exists()


def test_setup_keeps_the_environment_when_pip_fails(clone, run, tmp_path):
    (tmp_path / "installs.fails").touch()
    assert "pip could not install requirements.txt" in run("setup.sh", status=1).stderr
    (clone / ".venv" / "kept").touch()
    (tmp_path / "installs.fails").unlink()
    run("setup.sh")
    assert (clone / ".venv" / "kept").exists()


def test_quickstart_passes_on_the_launchers_exit_code_and_nothing_more(clone, run):
    run("setup.sh")
    launcher = '#!/bin/bash\ncase "$*" in "-m kdas_tf.launch"*) echo "$@"; exit "$CODE" ;; *) echo 3.12 ;; esac\n'
    (clone / ".venv" / "bin" / "python").write_text(launcher)
    done = run("quickstart.sh", "my run", "--flag=1", status=3, CODE="3")
    command = f"-m kdas_tf.launch --gin_file={clone}/gin/search.gin --workdir=my run --flag=1\n"
    assert (done.stdout, done.stderr) == (command, "")
    output = run("quickstart.sh", CODE="0").stdout
    assert f"--workdir={clone}/runs/quickstart" in output
    assert "genotype.json" in output and "tensorboard" in output


BITS = "deterministic or both_graphs"


@pytest.mark.parametrize(
    ("failing", "status", "arguments", "commands"),
    [
        ("nothing", 0, [], [*CHECKS, f"{PYTEST} -m not slow", f"{PYTEST} -m ({BITS}) and not slow"]),
        ("nothing", 0, ["tests"], [*CHECKS, f"{PYTEST} tests", f"{PYTEST} -m {BITS}"]),
        ("nothing", 0, ["tests", "-k", "a b"], [*CHECKS, f"{PYTEST} tests -k a b"]),
        ("ruff format", 1, [], CHECKS[:2]),
        ("mypy", 2, [], CHECKS),
        ("pytest", 5, ["tests/none"], [*CHECKS, f"{PYTEST} tests/none"]),
    ],
)
def test_the_checks_stop_at_the_first_that_fails(clone, run, failing, status, arguments, commands):
    run("setup.sh", "--dev")
    tools = f'case "$*" in "-m {failing}"*) echo "$@"; exit {status} ;; "-m "*) echo "$@" ;; *) echo 3.12 ;; esac\n'
    (clone / ".venv" / "bin" / "python").write_text(f"#!/bin/bash\n{tools}")
    output = run("test.sh", *arguments, status=status).stdout
    assert [line[3:] for line in output.splitlines() if line.startswith("-m ")] == commands
