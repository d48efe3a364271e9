"""Kills runs at random moments, continues them, and compares what is left with runs that were never disturbed.

    python benchmarks/faults.py [--kills 50] [--seed 0] [--stages teacher search train pretrain] [--keep FOLDER]

In every round each stage is killed until it finishes by itself: mostly with SIGKILL, which `--kills` counts; after some
of these the newest checkpoint is damaged by one bit, and some more times SIGTERM asks for an end. The same command then
continues, and nothing is repaired by hand. Compared bit by bit: the last checkpoint (weights, statistics, alphas,
optimizers), metrics.jsonl, the genotype, the stages' results and the saved networks. A third run with another seed must
differ. Prints a table, and the same as JSON on the last line; the exit code is 1 where anything differs.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
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
"""
OPTIONS = {"train": "train.run.drop_path = 0.2\n", "search": "search.run.beta_weight = 2.0\n"}
NETWORK = ("CELLS=1", "REDUCTIONS=()")
SIZES = {
    "teacher": ("BACKBONE='MobileNet'", "BACKBONE_ARGUMENTS={'alpha': 0.25}", f"TEACHER_EPOCHS={EPOCHS}"),
    "search": (*NETWORK, f"SEARCH_EPOCHS={EPOCHS}"),
    "train": (f"TRAIN_EPOCHS={EPOCHS}",),
    "pretrain": (*NETWORK, f"PRETRAIN_EPOCHS={EPOCHS}", "ARCHITECTURE='DARTS_V2'"),
}


class Runs:
    """Commands in a folder, and how they end."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.classes = folder / "classes"

    def command(self, stage: str, workdir: Path, seed: int) -> list[str]:
        """The arguments that a user would give, for a stage and those before it."""
        if stage == "pretrain":
            flags, stages = ["--gin_file=gin/pretrain.gin", f"--data_dir={self.classes}"], ("pretrain",)
        else:
            stages = ("data", *STAGES[: STAGES.index(stage) + 1])
            flags = [f"--gin_file={self.folder / f'{stage}.gin'}"]
            text = "".join(f"include 'gin/stages/{name}.gin'\n" for name in stages)
            text += f"launch.run.stages = [{', '.join(f'@{name}.run' for name in stages)}]\n"
            text += "".join(OPTIONS[name] for name in stages if name in OPTIONS)
            (self.folder / f"{stage}.gin").write_text(GIN + text)
        params = [param for name in stages for param in SIZES.get(name, ())]
        flags += ["--gin_file=gin/scale/tiny.gin", "--deterministic", f"--seed={seed}", f"--workdir={workdir}"]
        return [*flags, *(f"--gin_param={param}" for param in params)]

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
    """One run of a command in a process of its own, forked from this one, which has imported all that takes time.

    Nothing was run in this one, so the child starts as a fresh process does, 4 CPU seconds later.
    """

    def __init__(self, arguments: list[str]):
        from kdas_tf import launch

        sys.stdout.flush()
        self.output = tempfile.NamedTemporaryFile("w+", prefix="kdas_faults_", suffix=".txt")  # noqa: SIM115
        self.pid = os.fork()
        if self.pid == 0:
            for descriptor in (1, 2):
                os.dup2(self.output.fileno(), descriptor)
            sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
            code = 70
            try:
                code = launch.main(arguments)
            finally:
                os._exit(code)

    def text(self) -> str:
        """What it has printed so far."""
        self.output.seek(0)
        return self.output.read()

    def stage(self) -> str:
        """The stage that it is in, by what it has printed."""
        names = [line.partition(": ")[0] for line in self.text().splitlines()]
        return next((name for name in reversed(names) if name in STAGES), "start")

    def cpu(self) -> float:
        """CPU seconds so far: on a machine with other work the clock would say little."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait(self, cpu: float = float("inf")) -> int | None:
        """The exit code; None if it is still running after so many CPU seconds."""
        while self.cpu() < cpu:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.05)
        return None


def finish(runs: Runs, stage: str, workdir: Path, seed: int) -> None:
    """Runs a command to its end."""
    process = Process(runs.command(stage, workdir, seed))
    if process.wait() != 0:
        sys.exit(f"error: {stage} in {workdir} could not be finished:\n{process.text()[-2000:]}")


def undisturbed(runs: Runs, name: str, seed: int) -> dict[str, float]:
    """Runs all stages once, each in a process of its own; the CPU seconds of each."""
    seconds = {}
    for stage in STAGES:
        before = sum(os.times()[2:4])
        finish(runs, stage, runs.folder / name, seed)
        seconds[stage] = sum(os.times()[2:4]) - before
    return seconds


def disturbed(
    runs: Runs, name: str, stages: list[str], seconds: dict[str, float], chance: random.Random
) -> Iterator[dict[str, Any]]:
    """One run, killed until each stage has finished by itself; yields what was done to it."""
    workdir = runs.folder / name
    for stage in stages:
        while True:
            process = Process(runs.command(stage, workdir, 0))
            code = process.wait(chance.uniform(0, seconds[stage]))
            if code is not None:
                if code != 0:
                    sys.exit(f"error: {stage} ended with exit code {code}:\n{process.text()[-2000:]}")
                break
            number = signal.SIGTERM if chance.random() < 0.15 else signal.SIGKILL
            begin, before = sum(os.times()[2:4]) + process.cpu(), checkpoints(workdir / stage)
            os.kill(process.pid, number)
            code = process.wait()
            event = {"stage": stage, "met": process.stage(), "signal": number.name, "code": code, "damaged": False}
            event |= {"cpu": round(sum(os.times()[2:4]) - begin, 2), "saved": len(checkpoints(workdir / stage))}
            event["after"] = before[-1].name if before else "none"
            if number is signal.SIGKILL and chance.random() < 0.2:
                event["damaged"] = damage(workdir / stage, chance)
            yield event


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
    from tensorflow.python.training import (
        py_checkpoint_reader,  # reads without starting TensorFlow, so it can be forked
    )

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
    reader = py_checkpoint_reader.NewCheckpointReader(str(last / "state"))
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
    most = max((event["cpu"] for event in asked), default=0.0)
    print(f"{rounds} runs; SIGTERM: exit codes {codes}, at most {most:.1f} CPU seconds to the end", flush=True)
    return {"results": rows, "rounds": rounds, "sigterm_codes": codes, "sigterm_most_cpu": most}


def campaign(folder: Path, stages: list[str], kills: int, seed: int) -> dict[str, Any]:
    """Runs everything in a folder."""
    runs = Runs(folder)
    runs.draw_classes()
    seconds = undisturbed(runs, "whole", 0)
    print("undisturbed, CPU s: " + ", ".join(f"{stage} {value:.0f}" for stage, value in seconds.items()), flush=True)
    whole = {stage: contents(folder / "whole", stage) for stage in stages}
    compared: dict[str, Any] = {stage: {"compared": 0, "different": [], "other_seed": 0} for stage in stages}
    chance, rounds = random.Random(seed), 0
    events: list[dict[str, Any]] = []
    while sum(event["signal"] == "SIGKILL" for event in events) < kills:
        rounds += 1
        for event in disturbed(runs, f"round_{rounds}", stages, seconds, chance):
            events.append(event)
            print(f"{len(events)}: {event}", flush=True)
        for stage in stages:
            found = contents(folder / f"round_{rounds}", stage)
            compared[stage]["compared"] += len(found)
            compared[stage]["different"] += differences(whole[stage], found)
        report(stages, events, compared, rounds)
    undisturbed(runs, "other", 1)
    for stage in stages:
        compared[stage]["other_seed"] = len(differences(whole[stage], contents(folder / "other", stage)))
    return report(stages, events, compared, rounds)


def main() -> int:
    """Runs the campaign that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="SIGKILLs at least, over all stages")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--keep", type=Path, help="folder to work in, which is kept; a temporary one by default")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    import_everything()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.keep or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        stages = [stage for stage in STAGES if stage in arguments.stages]
        found = campaign(folder, stages, arguments.kills, arguments.seed)
    print(json.dumps(found))
    bad = any(row["different"] or not row["other_seed"] for row in found["results"])
    return 1 if bad or found["sigterm_codes"] not in ([], [75]) else 0


def import_everything() -> None:
    """Imports what the stages do, and starts nothing of it."""
    import importlib

    for stage in STAGES:
        importlib.import_module(f"kdas_tf.stages.{stage}")


if __name__ == "__main__":
    sys.exit(main())
