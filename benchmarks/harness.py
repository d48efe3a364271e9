"""The harness of all benchmarks: cases, a process for each, rounds in turn, medians, a table, JSON.

A benchmark is a module that says its cases, and how one case is measured:

    COLUMNS = {"size": "", "step s": ".3f"}  # names of values, and how they are written

    def measure(size: str) -> dict[str, float]:
        return {"step s": ...}

    if __name__ == "__main__":
        harness.main(__doc__, lambda arguments: [{"size": "8 64 32 16 4"}], measure, COLUMNS)

Each case is measured in a fresh process, so that its peak memory is its own. Cases take turns, round after round, so
that a change of the machine's speed meets all of them.
"""

import argparse
import datetime
import json
import os
import platform
import re
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")

Row = dict[str, Any]


class NotMeasured(Exception):
    """Why a case cannot be measured on this machine. Its row says so; it is no failure."""


class Failed(Exception):
    """A process that ended with an error."""


def main(
    doc: str,
    cases: Callable[[argparse.Namespace], list[Row]],
    measure: Callable[..., Row | list[Row]],
    columns: Mapping[str, str],
    *,
    options: Callable[[argparse.ArgumentParser], Any] | None = None,
    sizes: Sequence[str] = (),
    derive: Callable[[list[Row]], list[Row]] = list,
    rounds: int = 1,
) -> None:
    """Measures all cases, prints the table for people, and the results as JSON on the last line.

    Args:
        doc: what the benchmark measures, for `--help`.
        cases: makes the cases of the command's arguments. A case is a row's first values and the arguments of
            `measure`. A ValueError is a wrong argument.
        measure: measures one case: a row of numbers, or several.
        columns: values of a row that are shown and kept, with their format; "" for text.
        options: adds the benchmark's own arguments.
        sizes: default of `--sizes`; without it there is no such argument.
        derive: makes the rows that are shown of those that were measured.
        rounds: default of `--rounds`.
    """
    if sys.argv[1:2] == ["--worker"]:
        print(_work(measure, json.loads(sys.argv[2])))
        return
    command = f"python -m {_module()}"
    parser = argparse.ArgumentParser(
        prog=command, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if sizes:
        parser.add_argument(
            "--sizes", nargs="+", type=_like(sizes[0]), default=sizes, help=f"default: {', '.join(sizes)}"
        )
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="cases that have one of these texts in their row")
    parser.add_argument("--rounds", type=at_least_1, default=rounds, help="processes of each case, in turn")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work")
    parser.add_argument(
        "--output", type=Path, metavar="FILE.json", help="also write the results, as benchmarks/results"
    )
    if options:
        options(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = folder
        try:
            chosen = _only(cases(arguments), arguments.only, columns)
        except ValueError as error:
            parser.error(str(error))
        rows = derive(_run(chosen, arguments.rounds, columns))
    results = {
        "benchmark": _module(),
        "command": shlex.join(["python", "-m", _module(), *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": f"{cpu_name()}, {os.cpu_count()} cores, {THREADS} threads, Python {platform.python_version()}",
        "columns": dict(columns),
        "rows": [{name: row[name] for name in (*columns, "not measured") if name in row} for row in rows],
    }
    print(as_text(results))
    print(json.dumps(results))
    if arguments.output:
        arguments.output.write_text(as_json(results), encoding="utf-8")
    if any(row.get("failed") for row in rows):
        raise SystemExit(1)


def _module() -> str:
    """The benchmark's name, which starts it: `python -m NAME`."""
    return sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]


def _work(measure: Callable[..., Any], case: Row) -> str:
    """What a process of its own does: one case, as JSON."""
    try:
        return json.dumps(measure(**case))
    except NotMeasured as error:
        return json.dumps({"not measured": str(error)})


def _like(example: str) -> Callable[[str], str]:
    """Makes the check of a size: it has numbers where the example has them."""

    def parse(text: str) -> str:
        if not re.fullmatch(re.sub(r"\d+", r"[1-9]\\d*", example), text):
            raise argparse.ArgumentTypeError(f'expected a size such as "{example}", got "{text}"')
        return text

    return parse


def at_least_1(text: str) -> int:
    """Checks a number of repetitions as it is on the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, got {text!r}")
    return int(text)


def _label(case: Row, columns: Mapping[str, str]) -> str:
    """A case as people know it: its values in the table, or all of them."""
    return ", ".join(str(case[name]) for name in columns if name in case) or ", ".join(map(str, case.values()))


def _only(cases: list[Row], texts: list[str] | None, columns: Mapping[str, str]) -> list[Row]:
    """The cases whose row has one of some texts."""
    labels = [_label(case, columns) for case in cases]
    if unknown := [text for text in texts or () if not any(text in label for label in labels)]:
        raise ValueError(f'--only: no case has "{unknown[0]}"; there are: {"; ".join(labels)}')
    return [
        case for case, label in zip(cases, labels, strict=True) if texts is None or any(text in label for text in texts)
    ]


def _run(cases: list[Row], rounds: int, columns: Mapping[str, str]) -> list[Row]:
    """Measures all cases in turn, round after round; rows with the medians, or with the reason why there are none."""
    measured: list[list[list[Row]]] = [[] for _ in cases]
    missing: dict[int, Row] = {}
    for number in range(rounds):
        for place, case in enumerate(cases):
            if place in missing:
                continue
            label = _label(case, columns)
            print(f"measuring {label}, round {number + 1} of {rounds} ...", file=sys.stderr, flush=True)
            try:
                measured[place].append(worker(**case))
            except NotMeasured as error:
                missing[place] = {"not measured": str(error)}
            except Failed as error:
                print(f"{label} failed:\n{error}", file=sys.stderr, flush=True)
                missing[place] = {"not measured": str(error).splitlines()[-1], "failed": True}
    rows = []
    for place, case in enumerate(cases):
        if place in missing:
            rows.append({**case, **missing[place]})
        else:
            rows += [{**case, **medians(each)} for each in zip(*measured[place], strict=True)]
    return rows


def worker(**case: Any) -> list[Row]:
    """Measures a case in a process of its own, on `THREADS` threads and without a GPU; also for what prepares a case.

    Raises:
        NotMeasured: the case cannot be measured.
        Failed: the process ended with an error; with the last lines that it printed.
    """
    environment = os.environ | dict.fromkeys(_POOLS, str(THREADS))
    environment |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", _module(), "--worker", json.dumps(case, default=str)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    if process.returncode or not process.stdout.strip():
        raise Failed(process.stderr.strip()[-2000:] or f"the process ended with {process.returncode}")
    result = json.loads(process.stdout.splitlines()[-1])
    if "not measured" in result:
        raise NotMeasured(result["not measured"])
    return result if isinstance(result, list) else [result]


def other_python(python: str, script: str | Path, arguments: Sequence[Any], needs: str = "torch") -> list[str]:
    """Runs a script with another Python, on `THREADS` threads and without a GPU; the lines that it prints.

    Raises:
        NotMeasured: that Python lacks the module `needs`, or there is no such Python.
        Failed: the script ended with an error.
    """
    environment = plain_environment() | dict.fromkeys(_POOLS, str(THREADS)) | {"CUDA_VISIBLE_DEVICES": "-1"}
    command = [python, str(script), *map(str, arguments)]
    try:
        process = subprocess.run(command, env=environment, capture_output=True, text=True)
    except OSError as error:
        raise NotMeasured(f"no Python at {python} ({error.strerror})") from error
    if f"No module named '{needs}'" in process.stderr:
        raise NotMeasured(f"no {needs} in {python}")
    if process.returncode or not process.stdout.strip():
        raise Failed(process.stderr.strip()[-2000:] or "the script printed nothing")
    return process.stdout.splitlines()


def plain_environment() -> dict[str, str]:
    """The environment without what `worker` sets: for programs that are not of this checkout."""
    ours = (*_POOLS, "CUDA_VISIBLE_DEVICES", "TF_CPP_MIN_LOG_LEVEL", "KERAS_BACKEND", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if name not in ours}


def medians(rounds: Sequence[Row]) -> Row:
    """The median over the rounds of each number; text is that of the first round."""
    return {
        name: value if isinstance(value, str) else statistics.median(each[name] for each in rounds)
        for name, value in rounds[0].items()
    }


def cpu_seconds() -> float:
    """Seconds that all threads of this process have used so far, in the program and in the system for it."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds and CPU seconds of some work, which has to wait for its own end."""
    since, since_cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - since, cpu_seconds() - since_cpu


def in_turn(works: Mapping[str, Callable[[], Any]], repeats: int, warm_up: int = 1) -> dict[str, tuple[float, float]]:
    """Median seconds and CPU seconds of several works, in turn, after `warm_up` times each that are not counted."""
    for _ in range(warm_up):
        for work in works.values():
            work()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(timed(work))
    return {
        name: (statistics.median(wall for wall, _ in pairs), statistics.median(cpu for _, cpu in pairs))
        for name, pairs in times.items()
    }


def peak_gb() -> float:
    """Largest resident memory of this process so far; 10^9 bytes."""
    try:
        # Not getrusage: on Linux its number starts at what the parent process had.
        return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1e9
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    try:
        names = re.findall(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def cells(results: Mapping[str, Any]) -> list[list[str]]:
    """Headings and rows of results as text. The first column is empty where it says the same as the row above."""
    columns = results["columns"]
    table, above = [list(columns)], None
    for row in results["rows"]:
        line = [format(row[name], spec) if row.get(name) is not None else "" for name, spec in columns.items()]
        if "not measured" in row:
            line[line.index("")] = f"not measured: {row['not measured']}"
        line[0], above = "" if line[0] == above else line[0], line[0]
        table.append(line)
    return table


def as_text(results: Mapping[str, Any]) -> str:
    """Results as a table for the terminal: text to the left, numbers to the right."""
    table, specs = cells(results), list(results["columns"].values())
    shown = [[cell for cell in column if not cell.startswith("not measured")] for column in zip(*table, strict=True)]
    widths = [max(map(len, column)) for column in shown]
    marks = [">" if spec else "<" for spec in specs]
    return "\n".join(
        "  ".join(f"{cell:{mark}{width}}" for cell, mark, width in zip(line, marks, widths, strict=True)).rstrip()
        for line in table
    )


def as_markdown(results: Mapping[str, Any]) -> str:
    """Results as a table of Markdown."""
    head, *lines = (f"| {' | '.join(line)} |".replace("|  |", "| |") for line in cells(results))
    return "\n".join([head, "|" + "---|" * len(results["columns"]), *lines])


def as_json(results: Mapping[str, Any]) -> str:
    """Results as the text of a file, a row in each line."""
    head = json.dumps({name: value for name, value in results.items() if name != "rows"}, indent=1, ensure_ascii=False)
    rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in results["rows"])
    return f'{head.removesuffix("}").rstrip()},\n "rows": [\n{rows}\n ]\n}}\n'
