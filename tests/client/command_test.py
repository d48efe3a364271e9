"""The client's command line, in this process."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.client import command
from tests.serving import networks

pytest.importorskip("tensorflow_serving.apis")


@pytest.fixture
def server(ports, served):
    return f"--server=grpc://localhost:{ports[1]['grpc']}"


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Names of files in the current folder."""
    monkeypatch.chdir(tmp_path)
    for i, image in enumerate(networks.photographs(3)):
        (tmp_path / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
    return ["0.png", "1.png", "2.png"]


@pytest.fixture
def expected(network):
    """Cosine distances of the photographs, a pair at a time."""
    rows = networks.embeddings(network, networks.photographs(3)).astype(np.float64)
    return np.array([[1 - a @ b if i != j else 0 for j, b in enumerate(rows)] for i, a in enumerate(rows)])


def run(capsys, *arguments):
    code = command.main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_distances_are_printed_for_people(server, photographs, expected, capsys):
    code, out, err = run(capsys, server, *photographs)
    assert (code, err) == (0, "")
    head, _, header, *rows = out.splitlines()
    assert "3 embeddings of 96 numbers from kdas_reid" in head
    assert header.split() == ["1", "2", "3"]
    for i, row in enumerate(rows):
        number, name, *cells = row.split()
        assert (number, name) == (str(i + 1), photographs[i])
        np.testing.assert_allclose([float(cell) for cell in cells], expected[i], atol=1e-4)
    assert len({len(line) for line in (header, *rows)}) == 1  # the columns stand below one another


def test_of_many_photographs_each_ones_nearest_is_printed(server, photographs, expected, capsys):
    code, out, _ = run(capsys, server, "--batch_size=4", *photographs, *photographs[:1] * 10)
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("1.png")]
    assert float(line.split()[1]) == pytest.approx(np.delete(expected[1], 1).min(), abs=1e-4)
    assert "distances of all 13" in out


def test_programs_get_json_and_a_file(server, photographs, expected, network, capsys):
    code, out, _ = run(capsys, server, *photographs, "--json", "--output=new/rows.npz", "--threshold=0")
    content = json.loads(out)
    assert code == 0
    np.testing.assert_allclose(content["distances"], expected, atol=1e-5)
    assert content["images"] == photographs
    assert content["same_person"] == np.eye(3, dtype=bool).tolist()
    with np.load("new/rows.npz", allow_pickle=False) as file:
        np.testing.assert_allclose(file["embeddings"], networks.embeddings(network, networks.photographs(3)), atol=1e-5)
        assert file["images"].tolist() == photographs


def test_pairs_up_to_a_threshold_are_marked(server, photographs, expected, capsys):
    nearest = np.sort(expected[np.triu_indices(3, 1)])
    _, out, _ = run(capsys, server, *photographs, f"--threshold={nearest[:2].mean()}")
    assert "1 pair is taken for one person" in out
    assert out.count("*") == 2 + 1  # on both sides of the diagonal, and in the line that says so
    _, out, _ = run(capsys, server, *photographs, "--distance=euclidean", "--threshold=2.1")
    assert "3 pairs are taken for one person" in out


def test_thresholds_of_an_evaluation_are_used(server, photographs, expected, capsys):
    nearest = np.sort(np.sqrt(2 * expected)[np.triu_indices(3, 1)])[:2].mean()
    content = {"format": 1, "distance": "euclidean", "max_fpr": 1.0, "points": []}
    content["curve"] = {"fpr": [0.0, 0.3], "threshold": [0.0, nearest]}
    pathlib.Path("verification.json").write_text(json.dumps(content))
    code, out, err = run(capsys, server, *photographs, "--verification=verification.json", "--fpr=0.4")
    assert (code, err) == (0, "")
    assert "euclidean distances" in out and "1 pair is taken for one person" in out
    assert "at a rate of 0.4" in out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["no.png"], "there is no no.png"),
        (["0.png", "--model=doors"], "serves no model 'doors'"),
        (["0.png", "--width=2048"], "Expected embeddings of 2048 numbers"),
        (["0.png", "--threshold=nan"], "--threshold to be a number"),
        (["0.png", "--threshold=1", "--fpr=0.1"], "got both"),
        (["0.png", "--fpr=0.1"], "give --verification"),
        (["0.png", "--verification=text.png"], "thresholds in text.png"),
        (["0.png", "--output=rows.csv"], "to end in .npz"),
        (["0.png", "--output=0.png/rows.npz"], "cannot be written"),
        (["0.png", "--distanse=cosine"], "--distanse=cosine"),
        (["0.png", "--timeout=soon"], "--timeout"),
        ([], "FILE"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(server, photographs, capsys, arguments, reason):
    pathlib.Path("text.png").write_text("no photograph")
    code, out, err = run(capsys, server, *arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch("error: .*\n", err) and reason in err


def test_a_fault_of_the_server_is_one_line_and_code_3(photographs, capsys):
    code, out, err = run(capsys, "--server=grpc://localhost:1", "--retries=1", *photographs)
    assert (code, out) == (3, "")
    assert re.fullmatch("server error: .*refused.*tried 2 times.*\n", err)


def test_ctrl_c_stops_a_request_at_once(server, served, photographs):
    served.delay = 30.0
    command = [sys.executable, "-m", "kdas_tf.client", server, "--timeout=25", *photographs]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
    before_tests = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    signal.signal(signal.SIGINT, before_tests)
    before = len(served.requests)
    while len(served.requests) == before and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    since = time.monotonic()
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - since < 5
    assert (process.returncode, out, err) == (130, "", "\nstopped.\n")
    served.calm()
