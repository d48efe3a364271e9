"""Times the first step and the epochs of the search of two checkouts in turn: this code, and the code before a change.

    git worktree add /tmp/before COMMIT
    python -m benchmarks.steps.in_turn --against=/tmp/before --rounds=5

Each checkout runs its own launcher with this Python: `python -m kdas_tf.launch --gin_file=gin/search.gin`. A first run,
which is not counted, makes the data and the teacher; each round then searches anew. Numbers are what the launcher
prints: "first step X s after the start of the stage", and the median of the epochs' seconds, without the first epoch,
which compiles, and the last, which measures the drop from the supernet to the derived network.
"start s" is from the start of the process to the line of the first step. The last row is this code / the code before;
the goal of a change that is for other things is at most 1.03.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import harness

COLUMNS = {"code": "", "first step s": ".2f", "start s": ".2f", "epoch s": ".3f"}
NUMBERS = tuple(COLUMNS)[1:]
FIRST = re.compile(r"search: first step ([\d.]+) s after the start of the stage")
EPOCH = re.compile(r"search: epoch (\d+)/(\d+) .* ([\d.]+) s  time left")


def command(case: dict[str, Any]) -> list[str]:
    """The search of a checkout, as a user would start it."""
    flags = [f"--gin_file=gin/{name}.gin" for name in ("search", f"scale/{case['scale']}")]
    flags += [f"--workdir={case['workdir']}", f"--gin_param=SEARCH_EPOCHS={case['epochs']}", *case["flags"]]
    return [sys.executable, "-m", "kdas_tf.launch", *flags]


def search(case: dict[str, Any]) -> list[tuple[float, str]]:
    """Runs a checkout's search; the lines that it prints, each with the seconds since the start of the process."""
    begin, lines = time.perf_counter(), []
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = harness.plain_environment()
    with subprocess.Popen(command(case), cwd=case["checkout"], env=environment, **options) as process:
        for line in process.stdout or ():
            lines.append((time.perf_counter() - begin, line.rstrip()))
    if process.returncode:
        raise harness.Failed("\n".join(line for _, line in lines[-20:]))
    return lines


def numbers(lines: list[tuple[float, str]]) -> dict[str, float]:
    """What the lines say of the first step and of the epochs between the first and the last."""
    firsts = [(seconds, found) for seconds, line in lines if (found := FIRST.search(line))]
    matches = [found for _, line in lines if (found := EPOCH.search(line))]
    epochs = [float(found[3]) for found in matches if found[1] not in ("1", found[2])]
    if len(firsts) != 1 or not epochs:
        raise harness.Failed("\n".join(["expected a first step and three epochs or more, got", *(b for _, b in lines)]))
    ((start, found),) = firsts
    return {"first step s": float(found[1]), "start s": start, "epoch s": statistics.median(epochs)}


def measure(**case: Any) -> dict[str, float]:
    """One search in a checkout; the first time after one that makes what a search needs."""
    workdir = Path(case["workdir"])
    if not workdir.exists():
        search(case)
    shutil.rmtree(workdir / "search")
    for path in ("tensorboard", "metrics.jsonl"):
        shutil.rmtree(workdir / path) if (workdir / path).is_dir() else (workdir / path).unlink(missing_ok=True)
    return numbers(search(case))


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Both checkouts."""
    against = arguments.against.absolute()
    if not (against / "kdas_tf" / "launch.py").is_file():
        raise ValueError(f"--against: expected a checkout of this project, got {against}")
    scale = "tiny" if arguments.quick else arguments.scale
    common = {"scale": scale, "epochs": 3 if arguments.quick else arguments.epochs, "flags": arguments.flag}
    return [
        {"code": code, "checkout": str(checkout), "workdir": f"{arguments.folder}/{code}".replace(" ", "_"), **common}
        for code, checkout in (("this", harness.ROOT), ("before", against))
    ]


def with_ratio(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds this code / the code before."""
    if any(name not in row for row in rows for name in NUMBERS) or len(rows) != 2:
        return rows
    this, before = rows
    return [*rows, {"code": "this / before", **{name: this[name] / before[name] for name in NUMBERS}}]


def options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's own arguments."""
    parser.add_argument("--against", type=Path, required=True, metavar="CHECKOUT", help="folder of the other code")
    parser.add_argument("--scale", choices=("tiny", "laptop"), default="laptop", help="of gin/scale (default: laptop)")
    parser.add_argument("--epochs", type=int, choices=range(3, 17), metavar="3..16", default=6, help="default: 6")
    parser.add_argument(
        "--flag", action="append", default=[], help="one more of the launcher, for both: --flag=--seed=1"
    )


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options, derive=with_ratio, rounds=3)
