"""Asks whether what a search finds is better than chance: trains it and random genotypes of the same space alike.

    python -m benchmarks.evaluation.search_quality --workdir=runs/search

Needs a workdir in which gin/search.gin has finished. Every genotype is trained by gin/baseline.gin in a workdir of its
own, with the data and the teacher of that search, and ranks the data set's gallery; --rounds are trainings with the
seeds 0, 1, ... . About 7 minutes a genotype with two rounds on two busy cores.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import harness

COLUMNS = {"genotype": "", "parameters": ",", **dict.fromkeys(("mAP", "rank1", "rank5"), ".1f")}
NUMBERS = ("mAP", "rank1", "rank5")  # in percent


def measure(genotype: str, workdir: str, folder: str, epochs: int, flags: list[str]) -> dict[str, float]:
    """Trains a genotype in a new workdir, with the next seed."""
    from kdas_tf import genotype as genotypes

    own = Path(folder, genotype.replace(" ", "_"))
    seed = len(list(own.glob("*"))) if own.exists() else 0
    run = own / str(seed)
    run.mkdir(parents=True)
    for stage in ("data", "teacher"):
        shutil.copytree(Path(workdir, stage), run / stage)
    if genotype == "searched":
        architecture = Path(workdir, "search", "genotype.json").absolute()
    else:
        architecture = run / "genotype.json"
        genotypes.save(architecture, genotypes.random_genotype(int(genotype.split()[1])))
    params = {"ARCHITECTURE": repr(str(architecture)), "TRAIN_EPOCHS": epochs, "JUDGE_EVERY": epochs}
    command = [sys.executable, "-m", "kdas_tf.launch", "--gin_file=gin/baseline.gin", f"--workdir={run}"]
    command += [f"--seed={seed}", *(f"--gin_param={name}={value}" for name, value in params.items()), *flags]
    process = subprocess.run(command, cwd=harness.ROOT, env=harness.plain_environment(), capture_output=True, text=True)
    if process.returncode:
        raise harness.Failed(process.stderr[-2000:])
    content = json.loads((run / "train" / "train.json").read_text())
    if not content["results"]:
        raise harness.NotMeasured("the data set has no queries to judge with")
    return {"parameters": content["parameters"], **{name: content["results"][name] for name in NUMBERS}}


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The searched genotype and random ones."""
    if not (arguments.workdir / "search" / "genotype.json").is_file():
        raise ValueError(f"--workdir: expected a folder in which gin/search.gin has finished, got {arguments.workdir}")
    common = {"workdir": str(arguments.workdir), "folder": arguments.folder, "flags": arguments.flag}
    common["epochs"] = 2 if arguments.quick else arguments.epochs
    names = ["searched", *(f"random {number}" for number in range(1 if arguments.quick else arguments.randoms))]
    return [{"genotype": name, **common} for name in names]


def with_means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Adds how far the searched genotype is above the mean of the random ones, in points."""
    searched, *randoms = rows
    if not randoms or any("mAP" not in row for row in rows):
        return rows
    above = {name: searched[name] - sum(row[name] for row in randoms) / len(randoms) for name in NUMBERS}
    return [*rows, {"genotype": "searched - mean of random", **above}]


def options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's own arguments."""
    parser.add_argument("--workdir", type=Path, required=True, help="of a search that has finished")
    parser.add_argument("--randoms", type=harness.at_least_1, default=3, help="random genotypes (default: 3)")
    parser.add_argument("--epochs", type=harness.at_least_1, default=10, help="of each training (default: 10)")
    parser.add_argument(
        "--flag", action="append", default=[], help="one more of the launcher, as those of the search: --flag=--seed=1"
    )


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, options=options, derive=with_means, rounds=2)
