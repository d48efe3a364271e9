"""The harness, the tables that are made of results, and that every benchmark runs."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from kdas_tf.genotype import OPERATIONS, Genotype
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import ResNet
from tests.build_test import ROOT

EXAMPLE = """
import os, pathlib, sys
from benchmarks import harness

COLUMNS = {"name": "", "s": ".2f", "files": "d"}

def measure(name, folder):
    if name == "missing":
        raise harness.NotMeasured("no such thing")
    if name == "broken":
        raise ValueError("this is a mistake")
    number = len(os.listdir(folder))
    pathlib.Path(folder, f"{name}_{os.getpid()}").touch()
    return {"s": {"a": [1.0, 5.0, 2.0], "b": [7.0, 7.0, 7.0]}[name][number // 2], "files": number, "hidden": 1}

def cases(arguments):
    return [{"name": name, "folder": arguments.folder} for name in sys.argv[-1].split(",")]

harness.main("Text.", cases, measure, COLUMNS, options=lambda parser: parser.add_argument("names"))
"""


def benchmark(name, *arguments, **environment):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-m", name, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=500)


def rows_of(result):
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])["rows"]


@pytest.fixture
def example(tmp_path):
    (tmp_path / "example.py").write_text(EXAMPLE)
    return lambda *arguments: benchmark("example", *arguments, PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")


def test_cases_take_turns_in_processes_of_their_own_and_medians_are_shown_and_written(example, tmp_path):
    result = example("--rounds", "3", "--output", tmp_path / "results.json", "a,b,missing")
    rows = rows_of(result)
    # a is measured when there are 0, 2 and 4 files, b when there are 1, 3 and 5.
    assert rows[:2] == [{"name": "a", "s": 2.0, "files": 2}, {"name": "b", "s": 7.0, "files": 3}]
    assert rows[2] == {"name": "missing", "not measured": "no such thing"}
    assert [line.split() for line in result.stdout.splitlines()[1:3]] == [["a", "2.00", "2"], ["b", "7.00", "3"]]
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows


def test_a_case_that_fails_is_shown_and_the_others_are_measured(example):
    result = example("broken,a")
    assert result.returncode == 1
    assert "ValueError: this is a mistake" in result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["rows"][1]["s"] == 1.0


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("steps.search_step", ["--sizes", "8 64 32 16"], 'such as "8 64 32 16 4"'),
        ("steps.search_step", ["--sizes", "8 64 32 16 7"], "expected 8, 6, 5, 4, 3, 2, 1 cells"),
        ("steps.scaling", ["--only", "epochs"], "identities, 10,000"),
        ("steps.in_turn", ["--against", "docs"], "expected a checkout of this project"),
        ("inference.speed", ["--only", "TensorRT"], "OSNet x1.0: ONNX Runtime"),
        ("evaluation.search_quality", ["--workdir", "docs"], "in which gin/search.gin has finished"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_there_is(module, arguments, message):
    result = benchmark(f"benchmarks.{module}", *arguments)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr


def test_the_tables_of_the_documents_are_those_of_the_results():
    tables = importlib.import_module("benchmarks.tables")
    shown = set()
    for path in ROOT.glob("docs/*.md"):
        text = path.read_text(encoding="utf-8")
        assert tables.updated(text) == text, "run python -m benchmarks.tables"
        shown |= {found[1] for found in tables.BLOCK.finditer(text)}
    assert shown == {path.stem for path in tables.RESULTS.glob("*.json")}


def test_the_seconds_of_a_search_are_read_from_what_the_launcher_prints():
    lines = (
        "teacher: first step 8.1 s after the start of the stage",
        "search: first step 11.3 s after the start of the stage",
        "search: epoch 1/4  total 4.940  entropy_normal 1.944  12.8 s  time left 0:13",
        "search: epoch 2/4  total 4.8  2.0 s  time left 0:02",
        "search: epoch 3/4  total 4.7  3.0 s  time left 0:02",
        "search: epoch 4/4  total 4.6  drop 9.0 %  9.0 s  time left 0:00",
    )
    in_turn = importlib.import_module("benchmarks.steps.in_turn")
    found = in_turn.numbers([(float(second), line) for second, line in enumerate(lines)])
    assert found == {"first step s": 11.3, "start s": 1.0, "epoch s": 2.5}


def test_osnet_and_resnet_50_have_the_published_numbers_of_parameters_and_multiply_adds():
    peers = importlib.import_module("benchmarks.inference.onnx_peers")
    # Those of osnet_x1_0 in the authors' code (KaiyangZhou/deep-person-reid) at 256x128, which counts the gate that
    # four streams share four times, and the additions of the offsets that stay.
    osnet = peers.osnet((256, 128))
    gates = [(channels, channels // 16) for channels in (64, 64, 96, 96, 128, 128)]
    shared = sum(2 * channels * hidden + hidden + channels for channels, hidden in gates)
    assert osnet.parameters + 3 * shared == 2_193_616
    assert osnet.multiply_adds + 4 * sum(map(sum, gates)) + 512 == 978_878_352
    # torchvision's resnet50: 25,557,032 parameters and 4.09 G multiply-adds with its classifier; ours has a neck.
    resnet = peers.resnet(ResNet(50, 5, image_size=(32, 32), conv_bias=False), (224, 224))
    assert resnet.parameters == 25_557_032 - 1000 * 2049 + 2048
    assert round(resnet.multiply_adds / 1e9, 2) == 4.09


def test_a_student_s_weights_are_handed_to_the_peer_each_once():
    arrays = importlib.import_module("benchmarks.steps.student_weights").arrays
    pairs = tuple((name, source) for name in OPERATIONS for source in (0, 1))
    network = {"image_size": (32, 16), "channels": 6, "cells": 2, "reductions": (1,)}
    student = Student(Genotype(pairs[:8], pairs[8:]), 5, **network)
    # PyTorch's BN neck has an offset, which is not trained.
    numbers = sum(array.size for array in arrays(student)) - student.head.neck.gamma.shape[0]
    assert numbers == sum(weight.value.shape.num_elements() for weight in student.weights)


BESIDES = ("in_turn", "search_quality")  # which run whole jobs
MODULES = [path for path in sorted(ROOT.glob("benchmarks/*/*.py")) if "COLUMNS = " in path.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in MODULES if path.stem not in BESIDES], ids=lambda path: path.stem)
def test_every_benchmark_runs_and_measures(path):
    for row in rows_of(benchmark(f"benchmarks.{path.parent.name}.{path.stem}", "--quick", "--rounds", "1")):
        numbers = [value for name, value in row.items() if not isinstance(value, str) and name != "longer %"]
        assert "no torch" in row.get("not measured", "no torch") and all(value >= 0 for value in numbers)
        assert "int8" in str(row) or "bfloat16" in str(row) or row.get("difference", 0) < 1e-3
