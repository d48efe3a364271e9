"""Runs the launcher as the workers of one job, each a process, on this machine."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def free_ports(number):
    """Ports of the loopback address that nobody uses at the moment."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Job:
    """Processes of one command; a context that leaves none behind.

    Args:
        arguments: of the launcher.
        folder: for their output.
        workers: how many; one has no cluster.
    """

    def __init__(self, arguments, folder, workers=2):
        self.outputs = [folder / f"output_{number}.txt" for number in range(workers)]
        addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
        self.processes = []
        for number, output in enumerate(self.outputs):
            settings = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
            if workers > 1:
                task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": number}}
                settings["TF_CONFIG"] = json.dumps(task)
            command = [sys.executable, "-m", "kdas_tf.launch", *arguments]
            with output.open("w") as file:
                self.processes.append(
                    subprocess.Popen(command, cwd=ROOT, env=settings, stdout=file, stderr=subprocess.STDOUT)
                )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.kill()
            process.wait()

    def said(self):
        """What each has printed."""
        return [output.read_text() for output in self.outputs]

    def wait(self, seconds=300):
        """Exit codes of all."""
        until = time.monotonic() + seconds
        return [process.wait(max(1.0, until - time.monotonic())) for process in self.processes]

    def wait_until(self, condition, seconds=300):
        """Waits for something to be true while all processes run."""
        until = time.monotonic() + seconds
        while not condition():
            assert all(process.poll() is None for process in self.processes), self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.05)
