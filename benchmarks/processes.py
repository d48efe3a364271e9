"""What the benchmarks share: fresh processes on two threads, medians, and what they are measured with."""

import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def start(arguments: Sequence[Any]) -> subprocess.CompletedProcess:
    """Runs this script again in a process of its own, on `THREADS` threads and without a GPU."""
    environment = os.environ | dict.fromkeys(_POOLS, str(THREADS))
    environment |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, os.path.abspath(sys.argv[0]), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def measure(arguments: Sequence[Any], what: str) -> dict[str, float]:
    """Runs this script again, as `start` does; returns the JSON on the last line that it prints.

    Raises:
        SystemExit: the process failed; its last lines are shown.
    """
    process = start(arguments)
    if process.returncode:
        raise SystemExit(f"{what} failed:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def peer(python: str, script: str, arguments: Sequence[Any], needs: str = "torch") -> dict[str, float] | str:
    """Runs a script of this folder with another Python, as `peer_lines` does.

    Returns:
        The JSON on the last line that it prints; or why there is none.
    """
    lines = peer_lines(python, Path(__file__).with_name(script), arguments, needs)
    return lines if isinstance(lines, str) else json.loads(lines[-1])


def peer_lines(python: str, script: Path, arguments: Sequence[Any], needs: str = "torch") -> list[str] | str:
    """Runs a script with another Python, on `THREADS` threads and without a GPU.

    Returns:
        The lines that it prints, one at least; or why there are none.
    """
    environment = os.environ | dict.fromkeys(_POOLS, str(THREADS)) | {"CUDA_VISIBLE_DEVICES": "-1"}
    environment.pop("PYTHONPATH", None)
    try:
        process = subprocess.run(
            [python, str(script), *map(str, arguments)], env=environment, capture_output=True, text=True
        )
    except OSError as error:
        return f"no Python at {python} ({error.strerror})"
    if f"No module named '{needs}'" in process.stderr:
        return f"no {needs} in {python}"
    if process.returncode == 0 and process.stdout.strip():
        return process.stdout.splitlines()
    return "the peer failed: " + (process.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]


def training_strategy(logical_cpus: int | None = None) -> Any:
    """Sets TensorFlow up as the launcher does for networks of cells on `THREADS` cores; returns the strategy."""
    import tensorflow as tf

    from kdas_tf.training.devices.strategy import make_strategy

    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    return make_strategy(None, logical_cpus, "float32", intra_op_threads=1)


def medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Per number the median over the rounds."""
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def progress(text: str) -> None:
    """Says on stderr what is being done."""
    print(text, file=sys.stderr, flush=True)


def cpu_seconds() -> float:
    """Seconds that all threads of this process have used so far, in the program and in the system for it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds and CPU seconds of some work, which has to wait for its own end."""
    since, since_cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - since, cpu_seconds() - since_cpu


def in_turn(works: dict[str, Callable[[], Any]], repeats: int, warm_up: int = 1) -> dict[str, dict[str, float]]:
    """Median seconds and CPU seconds of several works, in turn, after `warm_up` times each that are not counted."""
    for _ in range(warm_up):
        for work in works.values():
            work()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(timed(work))
    return {
        name: dict(zip(("seconds", "cpu"), (statistics.median(each) for each in zip(*found, strict=True)), strict=True))
        for name, found in times.items()
    }


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    try:
        # Not getrusage: on Linux its number starts at what the parent process had.
        return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0])
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def print_json(benchmark: str, results: Any, **more: Any) -> None:
    """Prints the last line: the benchmark, the machine, and what was measured."""
    host = {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": THREADS, "python": platform.python_version()}
    print(json.dumps({"benchmark": benchmark, **more, "host": host, "results": results}))


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    try:
        names = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
