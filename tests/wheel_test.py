"""The installed package, outside of the repository."""

import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile

import pytest

from tests.build_test import ROOT
from tests.dependencies_test import pins

SITE = sysconfig.get_path("purelib")


def run(*command, folder):
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, f"{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A new environment with the wheel, which finds the other packages where this one does; and the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    run(*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}", ROOT, folder=folder)
    for left in (ROOT / "build", ROOT / "kdas_tf.egg-info"):  # the next wheel must not take files from there
        shutil.rmtree(left, ignore_errors=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    run(*pip, f"--python={python}", "install", "--quiet", "--no-deps", "--no-index", wheel, folder=folder)
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder).strip()
    with open(f"{purelib}/others.pth", "w", encoding="utf-8") as file:
        file.write(f"{SITE}\n")
    return folder / "env" / "bin", wheel


@pytest.mark.slow
def test_a_wheel_holds_all_gin_files_and_nothing_beside_the_package(installed):
    with zipfile.ZipFile(installed[1]) as wheel:
        names = wheel.namelist()
    gin = {name.removeprefix("kdas_tf/configs/") for name in names if name.endswith(".gin")}
    assert gin == {path.relative_to(ROOT).as_posix() for path in ROOT.glob("gin/**/*.gin")}
    assert {name.split("/")[0].split("-")[0] for name in names} == {"kdas_tf"}


@pytest.mark.slow
def test_an_installed_package_searches_from_any_folder(installed, tmp_path):
    configs = ("--gin_file=gin/search.gin", "--gin_file=gin/scale/tiny.gin")
    output = run(installed[0] / "python", "-m", "kdas_tf.launch", *configs, "--workdir=run", folder=tmp_path)
    assert "search: finished" in output
    assert (tmp_path / "run" / "search" / "genotype.json").exists()
    for command in ([installed[0] / "kdas_tf"], [installed[0] / "python", "-m", "kdas_tf"]):
        assert "done before" in run(*command, *configs, "--workdir=run", folder=tmp_path)


def test_the_wheel_needs_what_the_pinned_requirements_have_and_nothing_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ranges = dict(re.fullmatch(r"([\w-]+)(>=.+)", each).groups() for each in project["dependencies"])
    imported = (ROOT / "requirements.txt").read_text().split("# Needed by the ones above.")[0]
    assert set(ranges) == set(re.findall(r"^([\w.-]+)==", imported, flags=re.MULTILINE))

    def number(version):
        return tuple(int(part) for part in version.split("."))

    for name, version in pins("requirements.txt").items():
        if name in ranges:
            least, below = re.fullmatch(r">=([\d.]+),<([\d.]+)", ranges[name]).groups()
            assert number(least) <= number(version) < number(below), name
