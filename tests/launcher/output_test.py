import io
import os
import subprocess
import sys

import pytest

from kdas_tf.launcher import output
from tests.build_test import ROOT

WORK = """
import sys
from kdas_tf.launcher import output
with output.lenient():
    for line in range(20_000):
        print("a line", chr(0x4EBA), flush=True)
    open(sys.argv[1], "w").write("done")
sys.exit(7)
"""


@pytest.mark.parametrize("way", ["| head -1", ">&-", ">&- 2>&-", "<&- >&- 2>&-", "> /dev/full", "> /dev/null"])
def test_the_work_is_done_and_tells_its_exit_code_whatever_becomes_of_the_output(way, tmp_path):
    command = f'set -o pipefail; "{sys.executable}" -c "$WORK" "{tmp_path / "work"}" {way}'
    environment = {**os.environ, "WORK": WORK, "PYTHONIOENCODING": "ascii:strict"}
    ended = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 7 and not ended.stderr
    assert (tmp_path / "work").read_text() == "done"


def test_a_character_that_an_output_cannot_hold_is_escaped(monkeypatch):
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, "ascii"))
    with output.lenient():
        print("a \u00e9")
    assert content.getvalue() == b"a \\xe9\n"
