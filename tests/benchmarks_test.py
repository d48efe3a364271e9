"""The benchmarks run, and their last line is JSON."""

import importlib
import json
import math
import subprocess
import sys

import pytest

from kdas_tf.genotype import OPERATIONS, Genotype
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import ResNet
from tests.build_test import ROOT


def benchmark(name, *arguments):
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def without_packages(folder):
    """An interpreter without PyTorch: -I -S sees no packages at all."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S -c "import torch"\n')
    python.chmod(0o755)
    return python


def search_step(*arguments):
    return benchmark("search_step", *arguments)


@pytest.mark.slow
def test_a_search_step_is_timed_and_a_missing_peer_is_said_and_is_no_failure(tmp_path):
    python = without_packages(tmp_path)
    (tmp_path / "peer.py").touch()
    result = search_step(
        "--sizes", "4 64 32 4 2", "--repeats", "1", "--peer", tmp_path / "peer.py", "--peer_python", python
    )
    assert result.returncode == 0, result.stderr
    *table, last = result.stdout.splitlines()
    assert "not measured: no torch" in table[-2]
    assert "GFLOP/s; a large product reaches" in table[-1]
    (measured,) = json.loads(last)["results"]
    assert measured["size"] == "4 64 32 4 2"
    assert measured["peer"] is None
    ours = measured["ours"]
    assert 0 < ours["weight"] < ours["pair"] < ours["first"]
    assert ours["alpha"] > 0 and ours["rss"] > 0.1 and 0 < ours["gflop"] / ours["pair"] < ours["product"]


@pytest.mark.parametrize("size", ["8 64 32 16", "8 64 32 16 x", ""])
def test_a_size_that_is_none_is_refused_with_an_example(size):
    result = search_step("--sizes", size)
    assert result.returncode == 2
    assert 'such as "8 64 32 16 4"' in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_evaluation_is_timed_beside_a_full_sort_that_finds_the_same(tmp_path):
    result = benchmark("evaluation", "--quick", "--plot", tmp_path / "growth.png")
    assert result.returncode == 0, result.stderr
    *table, last = result.stdout.splitlines()
    measured = json.loads(last)["results"]
    assert [each["case"] for each in measured] == ["Market-1501/64", "Market-1501/32", "MSMT17/64"]
    for each in measured:
        assert each["case"] in "\n".join(table)
        assert each["plain"]["mAP"] == pytest.approx(each["all"]["mAP"], abs=1e-6)
        assert 0.001 < each["all"]["mAP"] < 0.2  # random features
        assert each["largest_difference"] < 1e-6
        for kind in ("product", "ranking", "all", "plain"):
            assert each[kind]["cpu"] > 0 and each[kind]["beyond"] >= 0
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_case_is_refused_with_the_known_ones():
    result = benchmark("evaluation", "--cases", "DukeMTMC")
    assert result.returncode == 2
    assert "MSMT17" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_re_ranking_is_timed_beside_a_plain_version_with_the_same_distances():
    result = benchmark("rerank", "--quick")
    assert result.returncode == 0, result.stderr
    for each in json.loads(result.stdout.splitlines()[-1])["results"]:
        assert each["largest_difference"] < 2e-6
        assert 0 < each["ours"]["beyond"] < each["ours"]["peak"]


@pytest.mark.slow
def test_a_search_is_timed_while_its_identities_grow_and_so_does_the_head(tmp_path):
    arguments = ("--quick", "--repeats", "5", "--seconds", "0", "--plot", tmp_path / "scaling.png")
    result = benchmark("scaling", *arguments)
    assert result.returncode == 0, result.stderr
    *table, last = result.stdout.splitlines()
    few, many = json.loads(last)["results"]
    assert (few["identities"], many["identities"]) == (10, 10_000)
    assert table[1].startswith("identities ") and table[2].split()[0] == "10,000"
    # Nothing but the classifier's matrix grows; at the start all identities are equally likely: ln(identities).
    assert many["parameters"] - few["parameters"] == 9_990 * few["width"]
    assert few["loss"] - math.log(10) == pytest.approx(many["loss"] - math.log(10_000), abs=1)
    for each in (few, many):
        assert 0 < each["step"] < each["first"] and 0 < each["head_cpu"] < each["cpu"] < each["first_cpu"]
        assert each["share"] == pytest.approx(each["head_cpu"] / each["cpu"])
    assert few["share"] < many["share"]
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_a_dimension_that_does_not_grow_is_refused_with_those_that_do():
    result = benchmark("scaling", "--only", "epochs")
    assert result.returncode == 2
    assert "invalid choice: 'epochs'" in result.stderr and "identities" in result.stderr


@pytest.mark.slow
def test_inference_is_timed_and_a_missing_runtime_is_said_and_is_no_failure(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text('raise ImportError("there is no ONNX Runtime here")\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = benchmark("inference", "--quick", "--only", "Auto-ReID, Keras", "Auto-ReID, SavedModel, folded", "OSNet")
    assert result.returncode == 0, result.stderr
    *table, last = result.stdout.splitlines()
    keras, folded, osnet = json.loads(last)["results"]
    assert "there is no ONNX Runtime here" in osnet["not_measured"]
    assert any(line.startswith("OSNet x1.0, ONNX Runtime") and "not measured: " in line for line in table)
    assert folded["difference"] < 1e-5
    for each in (keras, folded):
        assert any(line.startswith(each["label"]) for line in table)
        for batch in (1, 16):
            assert 0 < each[f"p50_{batch}"] <= each[f"p95_{batch}"]
            assert each[f"images_per_second_{batch}"] == pytest.approx(batch / each[f"p50_{batch}"])
            assert each[f"cpu_seconds_per_image_{batch}"] > 0


@pytest.mark.slow
def test_what_the_time_goes_into_is_measured_by_kind_of_operation():
    result = benchmark("operations", "--quick", "--only", "OSNet", "--batches", "1")
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout.splitlines()[-1])
    (measured,) = content["results"]
    kinds = measured["kinds"]
    assert kinds["depthwise 3x3"]["number"] == 60  # 1 + 2 + 3 + 4 in each of six blocks
    # A 7x7 convolution of 3 to 64 channels at half of 64x32.
    assert kinds["convolution 7x7"]["multiply_adds"] == 7 * 7 * 3 * 64 * 32 * 16
    assert all(kind["seconds"] > 0 for kind in kinds.values())
    assert content["ceilings"]["convolution"] > 1e8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sizes", "384"], "such as 384x128"),
        (["--sizes", "16x16"], "at least 32"),
        (["--only", "TensorRT"], "OSNet x1.0, ONNX Runtime"),
    ],
)
def test_rows_of_inference_that_there_are_not_are_refused(arguments, message):
    result = benchmark("inference", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def onnx_peers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("onnx_peers")


def test_osnet_has_the_published_number_of_parameters_and_multiply_adds(onnx_peers):
    # Those of osnet_x1_0 in the authors' code (KaiyangZhou/deep-person-reid) at 256x128, which counts the gate that
    # four streams share four times, and the additions of the offsets that stay.
    graph = onnx_peers.osnet((256, 128))
    gates = [(channels, channels // 16) for channels in (64, 64, 96, 96, 128, 128)]
    shared = sum(2 * channels * hidden + hidden + channels for channels, hidden in gates)
    assert graph.parameters + 3 * shared == 2_193_616
    assert graph.multiply_adds + 4 * sum(map(sum, gates)) + 512 == 978_878_352


def test_resnet_50_as_onnx_has_the_published_number_of_parameters_and_multiply_adds(onnx_peers):
    graph = onnx_peers.resnet(ResNet(50, 5, image_size=(32, 32), conv_bias=False), (224, 224))
    # torchvision's resnet50: 25,557,032 parameters and 4.09 G multiply-adds with its classifier; ours has a neck.
    assert graph.parameters == 25_557_032 - 1000 * 2049 + 2048
    assert round(graph.multiply_adds / 1e9, 2) == 4.09


@pytest.mark.slow
def test_resnet_50_as_onnx_gives_the_embeddings_of_the_network():
    result = benchmark("inference", "--quick", "--batches", "1", "--only", "ResNet-50 stride 1")
    assert result.returncode == 0, result.stderr
    (measured,) = json.loads(result.stdout.splitlines()[-1])["results"]
    assert measured["difference"] < 1e-4  # statistics of maps of two pixels: small variances magnify rounding


def test_faults_are_of_stages_that_train():
    result = benchmark("faults", "--stages", "export")
    assert result.returncode == 2
    assert "invalid choice: 'export'" in result.stderr and "pretrain" in result.stderr


@pytest.mark.slow
def test_input_is_timed_and_a_missing_dataloader_is_said_and_is_no_failure(tmp_path):
    result = benchmark("input_pipeline", "--quick", "--no_steps", "--peer_python", without_packages(tmp_path))
    assert result.returncode == 0, result.stderr
    *table, last = result.stdout.splitlines()
    (measured,) = json.loads(last)["results"]
    assert "peer" not in measured
    assert any("DataLoader" in line and "not measured: no torch" in line for line in table)
    for row in ("decode_tensorflow", "decode_pillow", "files", "kept"):
        assert measured[row]["images_per_second"] > 0 and measured[row]["cpu_ms"] > 0


@pytest.mark.slow
def test_a_training_step_is_timed_and_its_operations(tmp_path):
    result = benchmark("train_step", "--quick", "--peer_python", without_packages(tmp_path))
    assert result.returncode == 0, result.stderr
    content = json.loads(result.stdout.splitlines()[-1])
    (measured,) = content["results"]
    assert measured["peer"] is None and "no torch" in measured["peer_not_measured"]
    assert 0 < measured["ours"]["seconds"] < measured["ours"]["first"]
    # 2 cells: a normal one of 6 channels at a quarter of 32x16, a reduction to 12 channels, and its inner edges.
    cases = {tuple(each["case"]) for each in content["operations"]}
    assert {case[1:5] for case in cases} == {(6, 8, 4, 1), (12, 8, 4, 2), (12, 4, 2, 1)}
    assert all(each["forward"] > 0 for each in content["operations"])


def test_a_student_s_weights_are_handed_to_the_peer_each_once(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    arrays = importlib.import_module("student_weights").arrays
    pairs = [(name, source) for name in OPERATIONS for source in (0, 1)]
    student = Student(
        Genotype(tuple(pairs[:8]), tuple(pairs[8:])), 5, image_size=(32, 16), channels=6, cells=2, reductions=(1,)
    )
    # PyTorch's BN neck has an offset, which is not trained.
    numbers = sum(array.size for array in arrays(student)) - student.head.neck.gamma.shape[0]
    assert numbers == sum(weight.value.shape.num_elements() for weight in student.weights)


@pytest.mark.slow
def test_the_teacher_s_part_of_a_step_is_timed():
    result = benchmark("teacher_share", "--quick", "--repeats", "1")
    assert result.returncode == 0, result.stderr
    (measured,) = json.loads(result.stdout.splitlines()[-1])["results"]
    assert set(measured["passes"]) == {"table", "one_pass", "two_passes", "folded", "bfloat16"}
    assert measured["passes"]["two_passes"]["difference"] < 1e-4
    assert measured["step"]["labels"]["seconds"] > 0
