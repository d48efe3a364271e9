"""Kills runs at random moments, continues them, and compares what is left with runs that were never disturbed.

    python benchmarks/faults.py [--kills 50] [--seed 0] [--stages teacher search train pretrain] [--keep FOLDER]

Every stage is killed its share of times: most with SIGKILL, which are the ones that `--kills` counts; after some of
these the newest checkpoint is damaged by one bit, and some more times SIGTERM asks for an end. The same command then
continues, and nothing is repaired by hand. Compared bit by bit: the last checkpoint (weights, statistics, alphas,
optimizers), metrics.jsonl, the genotype, the stages' results and the saved networks. A third run with another seed must
differ. Prints a table, and the same as JSON on the last line; the exit code is 1 where anything differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("teacher", "search", "train", "pretrain")
RESULTS = {"teacher": "teacher.json", "search": "genotype.json", "train": "train.json", "pretrain": "pretrain.json"}
EPOCHS = 3
GIN = """from __gin__ import dynamic_registration
from kdas_tf import launch
from kdas_tf.stages import data
from kdas_tf.stages import search
from kdas_tf.stages import teacher
from kdas_tf.stages import train
include 'gin/scale/laptop.gin'
include 'gin/stages/data.gin'
include 'gin/stages/teacher.gin'
include 'gin/stages/search.gin'
include 'gin/stages/train.gin'
launch.run.stages = [@data.run, @teacher.run, @search.run, @train.run]
train.run.drop_path = 0.2
search.run.beta_weight = 2.0
"""
SIZES = (
    "CELLS=1",
    "REDUCTIONS=()",
    "BACKBONE='MobileNet'",
    "BACKBONE_ARGUMENTS={{'alpha': 0.25}}",
    "TEACHER_EPOCHS={0}",
    "SEARCH_EPOCHS={0}",
    "TRAIN_EPOCHS={0}",
)


class Runs:
    """Commands in a folder, and how they end."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "main.gin").write_text(GIN)
        self.classes = folder / "classes"

    def command(self, stage: str, workdir: Path, seed: int) -> list[str]:
        """The command that a user would give, for a stage and those before it."""
        params = [size.format(EPOCHS) for size in SIZES]
        if stage == "pretrain":
            flags = ["--gin_file=gin/pretrain.gin", f"--data_dir={self.classes}"]
            params = [*params[:2], f"PRETRAIN_EPOCHS={EPOCHS}", "ARCHITECTURE='DARTS_V2'"]
        else:
            flags = [f"--gin_file={self.folder / 'main.gin'}"]
        flags += ["--gin_file=gin/scale/tiny.gin", "--deterministic", f"--seed={seed}", f"--workdir={workdir}"]
        return [sys.executable, "-m", "kdas_tf.launch", *flags, *(f"--gin_param={param}" for param in params)]

    def draw_classes(self) -> None:
        """Draws a folder of class folders."""
        import numpy as np
        from PIL import Image

        numbers = np.random.default_rng(0)
        for label in range(4):
            (self.classes / str(label)).mkdir(parents=True)
            for image in range(12):
                pixels = numbers.integers(0, 100, (32, 32, 3)) + 35 * label
                Image.fromarray(pixels.astype("uint8")).save(self.classes / str(label) / f"{image}.png")


class Process:
    """One run of a command, whose stage is read off its output."""

    def __init__(self, command: list[str]):
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.stage = "start"
        self.seconds: dict[str, float] = {}
        self.error = ""
        self.threads = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for thread in self.threads:
            thread.start()

    def _read(self) -> None:
        for line in self.process.stdout:  # type: ignore[union-attr]
            name, _, rest = line.strip().partition(": ")
            if rest and name in (*STAGES, "data"):
                self.stage = name
                if rest.startswith("finished in"):
                    self.seconds[name] = time.monotonic() - self.started

    def _read_errors(self) -> None:
        self.error = self.process.stderr.read()  # type: ignore[union-attr]

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit code; None if it is still running after so many seconds."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        for thread in self.threads:
            thread.join()
        return code


def undisturbed(runs: Runs, name: str, seed: int) -> dict[str, float]:
    """Runs all stages once; seconds from the start of a process to the end of each stage."""
    seconds: dict[str, float] = {}
    for stage in ("train", "pretrain"):
        process = Process(runs.command(stage, runs.folder / name, seed))
        if process.wait() != 0:
            sys.exit(f"error: the undisturbed run failed: {process.error[-2000:]}")
        seconds |= process.seconds
    begin = 0.0
    alone = {}
    for stage in ("data", "teacher", "search", "train"):
        alone[stage] = seconds[stage] - begin + (8.0 if begin else 0.0)  # a process of its own has to import first
        begin = seconds[stage]
    return {**alone, "pretrain": seconds["pretrain"]}


def disturbed(
    runs: Runs, name: str, stages: list[str], seconds: dict[str, float], chance: random.Random
) -> Iterator[dict[str, Any]]:
    """One run, killed until each stage has finished by itself; yields what was done to it."""
    workdir = runs.folder / name
    for stage in stages:
        last = "pretrain" if stage == "pretrain" else "train"
        while not (workdir / stage / RESULTS[stage]).exists():
            process = Process(runs.command(last, workdir, 0))
            code = process.wait(chance.uniform(0, seconds[stage]))
            if code is not None:
                if code != 0:
                    sys.exit(f"error: {stage} ended with exit code {code}: {process.error[-2000:]}")
                break
            met = process.stage
            number = signal.SIGTERM if chance.random() < 0.2 else signal.SIGKILL
            begin = time.monotonic()
            process.process.send_signal(number)
            code = process.wait()
            event = {"stage": stage, "met": met, "signal": number.name, "code": code, "damaged": False}
            event |= {"seconds": time.monotonic() - begin, "epochs": len(checkpoints(workdir / stage))}
            if number is signal.SIGKILL and chance.random() < 0.2:
                event["damaged"] = damage(workdir / stage, chance)
            yield event
    for last in ("train", "pretrain"):
        process = Process(runs.command(last, workdir, 0))
        if process.wait() != 0:
            sys.exit(f"error: {last} could not be finished: {process.error[-2000:]}")


def checkpoints(folder: Path) -> list[Path]:
    """Complete checkpoints of a stage, the oldest first."""

    def place(path: Path) -> tuple[int, int]:
        parts = path.name.split("_")
        return int(parts[1]), int(parts[3]) if len(parts) > 2 else 0

    return sorted((folder / "checkpoints").glob("epoch_*"), key=place)


def damage(folder: Path, chance: random.Random) -> bool:
    """Turns one bit of the newest checkpoint round, if there is one before it."""
    found = checkpoints(folder)
    if len(found) < 2:
        return False
    file = found[-1] / chance.choice(["state.data-00000-of-00001", "state.index", "position.json"])
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.write_bytes(content)
    return True


def contents(workdir: Path, stage: str) -> dict[str, bytes]:
    """What a stage has left, as bytes by name; the saved networks and checkpoints number by number."""
    import h5py
    import tensorflow as tf

    folder, found = workdir / stage, {}
    names = ["*.json", "best/*.json", "logits.npy"]
    for path in (path for name in names for path in folder.glob(name)):
        found[str(path.relative_to(folder))] = path.read_bytes().replace(os.fsencode(workdir), b"WORKDIR")
    for path in folder.rglob("*.weights.h5"):
        with h5py.File(path) as file:

            def keep(name: str, item: Any, path: Path = path) -> None:
                if isinstance(item, h5py.Dataset):
                    found[f"{path.relative_to(folder)}/{name}"] = item[()].tobytes()

            file.visititems(keep)
    last = checkpoints(folder)[-1]
    found["position.json"] = (last / "position.json").read_bytes()
    reader = tf.train.load_checkpoint(str(last / "state"))
    for name in reader.get_variable_to_shape_map():
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
            found[f"checkpoint/{name}"] = reader.get_tensor(name).tobytes()
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    found["metrics.jsonl"] = "".join(line for line in lines if json.loads(line)["stage"] == stage).encode()
    return found


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Names of what is not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def report(stages: list[str], events: list[dict[str, Any]], compared: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Prints the table; returns what the line of JSON holds."""
    print(f"\n{'stage':10}{'SIGKILL':>8}{'SIGTERM':>8}{'damaged':>8}{'compared':>10}{'differ':>8}{'other seed':>12}")
    rows = []
    for stage in stages:
        mine = [event for event in events if event["stage"] == stage]
        row = {name: sum(event["signal"] == name for event in mine) for name in ("SIGKILL", "SIGTERM")}
        row |= {"stage": stage, "damaged": sum(event["damaged"] for event in mine), **compared[stage]}
        rows.append(row)
        print(
            f"{stage:10}{row['SIGKILL']:8}{row['SIGTERM']:8}{row['damaged']:8}{row['compared']:10}"
            f"{len(row['different']):8}{row['other_seed']:12}"
        )
    asked = [event for event in events if event["signal"] == "SIGTERM"]
    codes = sorted({event["code"] for event in asked})
    slowest = max((event["seconds"] for event in asked), default=0.0)
    print(f"{rounds} runs; SIGTERM: exit codes {codes}, the slowest end after {slowest:.1f} s")
    print("moments of SIGKILL: " + ", ".join(sorted({event["met"] for event in events})))
    return {"results": rows, "rounds": rounds, "sigterm_codes": codes, "sigterm_slowest": round(slowest, 2)}


def campaign(folder: Path, stages: list[str], kills: int, seed: int) -> dict[str, Any]:
    """Runs everything in a folder."""
    runs = Runs(folder)
    runs.draw_classes()
    seconds = undisturbed(runs, "whole", 0)
    print("undisturbed: " + ", ".join(f"{stage} {value:.0f} s" for stage, value in seconds.items()), flush=True)
    undisturbed(runs, "other", 1)
    whole = {stage: contents(folder / "whole", stage) for stage in stages}
    compared: dict[str, Any] = {
        stage: {
            "compared": 0,
            "different": [],
            "other_seed": len(differences(whole[stage], contents(folder / "other", stage))),
        }
        for stage in stages
    }
    chance, events, rounds = random.Random(seed), [], 0
    while True:
        counts = {stage: sum(e["stage"] == stage and e["signal"] == "SIGKILL" for e in events) for stage in stages}
        missing = [stage for stage in stages if counts[stage] < kills / len(stages)]
        if not missing:
            break
        rounds += 1
        for event in disturbed(runs, f"round_{rounds}", stages, seconds, chance):
            events.append(event)
            done = {signal: sum(e["signal"] == signal for e in events) for signal in ("SIGKILL", "SIGTERM")}
            print(f"round {rounds}: {event}  {done}", flush=True)
        for stage in stages:
            found = contents(folder / f"round_{rounds}", stage)
            compared[stage]["compared"] += len(found)
            compared[stage]["different"] += differences(whole[stage], found)
        shutil.rmtree(folder / f"round_{rounds}")
    return report(stages, events, compared, rounds)


def main() -> int:
    """Runs the campaign that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs at least, over all stages")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--keep", type=Path, help="folder to work in, which is kept; a temporary one by default")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        stages = [stage for stage in STAGES if stage in arguments.stages]
        found = campaign(folder, stages, arguments.kills, arguments.seed)
    print(json.dumps(found))
    bad = any(row["different"] or not row["other_seed"] for row in found["results"])
    return 1 if bad or found["sigterm_codes"] not in ([], [75]) else 0


if __name__ == "__main__":
    sys.exit(main())
