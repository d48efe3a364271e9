"""The benchmarks run, and their last line is JSON."""

import json
import subprocess
import sys

import pytest

from tests.build_test import ROOT

SEARCH_STEP = ROOT / "benchmarks" / "search_step.py"


def search_step(*arguments):
    return subprocess.run([sys.executable, SEARCH_STEP, *arguments], capture_output=True, text=True, timeout=300)


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
