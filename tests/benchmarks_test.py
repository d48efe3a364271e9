"""The benchmarks run, and their last line is JSON."""

import json
import subprocess
import sys

import pytest

from tests.build_test import ROOT


def benchmark(name, *arguments):
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def search_step(*arguments):
    return benchmark("search_step", *arguments)


@pytest.mark.slow
def test_a_search_step_is_timed_and_a_missing_peer_is_said_and_is_no_failure(tmp_path):
    # Two cells, and an interpreter without PyTorch: -I -S sees no packages at all.
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S -c "import torch"\n')
    python.chmod(0o755)
    (tmp_path / "peer.py").touch()
    result = search_step(
        "--sizes", "4 64 32 4 2", "--repeats", "1", "--peer", tmp_path / "peer.py", "--peer_python", python
    )
    assert result.returncode == 0, result.stderr
    *table, last = result.stdout.splitlines()
    assert "not measured: no PyTorch" in table[-1]
    (measured,) = json.loads(last)["results"]
    assert measured["size"] == "4 64 32 4 2"
    assert measured["peer"] is None
    ours = measured["ours"]
    assert 0 < ours["weight"] < ours["pair"] < ours["first"]
    assert ours["alpha"] > 0 and ours["rss"] > 0.1


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
