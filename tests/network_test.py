"""A run talks to nobody: under a filter of the kernel that ends a process which tries, whatever language tries it."""

import json
import platform
import signal
import socket
import subprocess
import sys

import pytest

from kdas_tf.errors import UserError
from kdas_tf.models.teacher_network import Teacher
from tests.build_test import ROOT

# Numbers of the system calls connect, sendto, sendmsg, sendmmsg and listen.
CALLS = {"x86_64": (42, 44, 46, 307, 50), "aarch64": (203, 206, 211, 269, 201)}

# Sets the filter (seccomp) for itself and all it starts, then runs code. Numbers: linux/{prctl,seccomp,filter}.h.
FILTERED = """
import ctypes, json, struct, sys
calls, text, *sys.argv[1:] = json.loads(sys.argv[1]), *sys.argv[2:]
rules = [(0x20, 0, 0, 0)]  # loads the number of the call
rules += [(0x15, len(calls) - number, 0, call) for number, call in enumerate(calls)]  # if it is this one, to the last
rules += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x80000000)]  # allows; ends the process
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
program, prctl = Program(len(rules), ctypes.addressof(code)), ctypes.CDLL(None, use_errno=True).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit(99)
exec(text)
"""


def without_network(code, *arguments):
    """Runs code that must not talk to anybody."""
    if sys.platform != "linux" or platform.machine() not in CALLS:
        pytest.skip("the filter is written for Linux on x86-64 and ARM64")
    calls = json.dumps(CALLS[platform.machine()])
    command = [sys.executable, "-c", FILTERED, calls, code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 99:
        pytest.skip("this process may not set a filter")
    return done


@pytest.mark.parametrize("attempt", ["create_connection(('127.0.0.1', 9))", "getaddrinfo('example.org', 80)"])
def test_the_filter_ends_what_talks_to_somebody(attempt):
    assert without_network(f"import socket; socket.{attempt}").returncode == -signal.SIGSYS
    assert without_network("print('alive')").stdout == "alive\n"


FIRST_STAGES = """
from __gin__ import dynamic_registration
from kdas_tf import launch
from kdas_tf.stages import data
from kdas_tf.stages import teacher

include 'gin/stages/data.gin'
include 'gin/stages/teacher.gin'
include 'gin/scale/laptop.gin'
include 'gin/scale/tiny.gin'

launch.run.stages = [@data.run, @teacher.run]
RENDERED_IDENTITIES = 8
BACKBONE = 'MobileNet'
BACKBONE_ARGUMENTS = {'alpha': 0.25}
"""


@pytest.mark.slow
def test_the_first_stages_of_the_main_job_talk_to_nobody(tmp_path):
    (tmp_path / "first.gin").write_text(FIRST_STAGES)
    launch = "from kdas_tf import launch; sys.exit(launch.main(sys.argv[1:]))"
    done = without_network(launch, f"--gin_file={tmp_path / 'first.gin'}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "teacher" / "teacher.json").exists()


def test_weights_that_cannot_be_downloaded_are_a_line_that_says_what_to_do(monkeypatch):
    def unreachable(*arguments, **options):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    with pytest.raises(
        UserError, match=r"ImageNet weights of MobileNetV2 to be downloaded.*https://.*name reso"
    ) as caught:
        Teacher("MobileNetV2", 3, image_size=(96, 96), weights="imagenet", backbone_arguments={"alpha": 1.3})
    assert "\n" not in str(caught.value) and "BACKBONE_WEIGHTS='FILE'" in str(caught.value)
