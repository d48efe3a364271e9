import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdas_tf.errors import UserError
from kdas_tf.launcher import lock
from tests.build_test import ROOT

HOLD = """
import sys
from pathlib import Path
from kdas_tf.launcher import lock
with lock.holding(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_of_a_killed_process_is_free_again(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=f"process {other.pid} on ") as caught, lock.holding(tmp_path):
            pass
        assert "\n" not in str(caught.value)
        other.kill()
        other.wait()
    with lock.holding(tmp_path):
        assert json.loads((tmp_path / lock.FILE).read_text())["pid"] == os.getpid()


def test_a_lock_holds_when_its_file_is_deleted_or_replaced(tmp_path):
    for change in (Path.unlink, lambda path: path.replace(tmp_path / "aside")):
        with lock.holding(tmp_path):
            change(tmp_path / lock.FILE)
            with pytest.raises(UserError, match="but another process uses it"), lock.holding(tmp_path):
                pass
        with lock.holding(tmp_path):
            pass


def test_a_holder_that_cannot_be_read_is_a_holder_all_the_same(tmp_path):
    with lock.holding(tmp_path):
        (tmp_path / lock.FILE).write_text("{")
        with pytest.raises(UserError, match="but another process uses it"), lock.holding(tmp_path):
            pass
