"""docs/extending.md, followed to the letter in a copy of the package."""

import json
import re
import shutil
import subprocess
import sys
import textwrap

import pytest

from kdas_tf import genotype
from tests.build_test import ROOT
from tests.readme_test import blocks

NAME = "mix_conv_1x1"


def insert_into_table(text, table, line):
    """Adds a line at the end of a dictionary of a file."""
    start = text.index(f"\n{table}")
    end = text.index("\n}\n", start)
    return f"{text[:end]}\n    {line.strip()}{text[end:]}"


def follow(section, folder):
    """Does what a section says with its blocks, in the file, and the table of this file, that were named last.

    A block of Python is a new file, or comes at the end of a file that exists; a block of text is a line of a table.
    """
    path, table = None, None
    pattern = r"^ *```(python|text)\n(.*?)^ *```$|`(kdas_tf/\S+\.py)`|\]\(\.\./(\S+\.py)\)|`([A-Z_]+)`"
    for match in re.finditer(pattern, section, flags=re.MULTILINE | re.DOTALL):
        language, code, new, existing, name = match.groups()
        path, table = new or existing or path, name or table
        if code:
            file, code = folder / path, textwrap.dedent(code)
            before = file.read_text() if file.exists() else ""
            file.write_text(insert_into_table(before, table, code) if language == "text" else f"{before}\n\n{code}")


def python(folder, *arguments):
    command = [sys.executable, "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_an_operation_added_as_the_document_says_is_searched_trained_judged_and_exported(tmp_path):
    for name in ("kdas_tf", "gin", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    document = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    section = document.split("## An operation\n")[1].split("\n## ")[0]
    follow(section, tmp_path)
    (command,) = blocks(section, "bash")
    assert " passed" in python(tmp_path, *command.split()[2:])

    tiny = "--gin_file=gin/scale/tiny.gin"
    python(tmp_path, "kdas_tf.launch", "--gin_file=gin/search.gin", tiny, "--workdir=searched")
    searched = json.loads((tmp_path / "searched/search/genotype.json").read_text())
    assert searched["primitives"] == [*genotype.PRIMITIVES, NAME]
    assert {len(row) for matrix in searched["alphas"].values() for row in matrix} == {8}

    # Every node has the new operation, at both strides in the reduction cell.
    pairs = [pair for i in range(4) for pair in ((NAME, i), ("sep_conv_3x3", i + 1))]
    derived = {"normal": pairs, "reduce": [(NAME, i % 2) for i in range(8)]}
    (tmp_path / "genotype.json").write_text(json.dumps(derived))
    python(
        *(tmp_path, "kdas_tf.launch", "--gin_file=gin/baseline.gin", tiny, "--workdir=trained"),
        "--gin_param=ARCHITECTURE = 'genotype.json'",
    )
    assert (tmp_path / "trained/evaluate/report.html").exists()
    python(
        *(tmp_path, "kdas_tf.launch", "--gin_file=gin/export.gin", "--workdir=trained"),
        "--gin_param=export.run.runtimes = ('onnx',)",
    )
    assert list(tmp_path.glob("trained/export/*/*/assets.extra/*.onnx"))
