"""Is what a search finds better than chance? Trains it and random genotypes of the same space in the same way.

    python benchmarks/search_quality.py --workdir=runs/quickstart

Needs a workdir in which gin/search.gin has finished. Every network has the search's cells and image size, is trained
on all training images with the objective at dynamic temperature and the workdir's teacher, and ranks the data set's
gallery. Prints a table for people and one last line of JSON.
"""

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import keras
import processes

from kdas_tf import genotype, schedules
from kdas_tf.data.pipeline import balanced_batches
from kdas_tf.data.records import relabel
from kdas_tf.data.sampler import steps_per_epoch
from kdas_tf.data.transforms import Augmentation
from kdas_tf.losses.objective import Objective
from kdas_tf.models.networks import Student, derived_parameters
from kdas_tf.stages import data as data_stage
from kdas_tf.stages import teacher as teacher_stage
from kdas_tf.stages.judging import judge, summary
from kdas_tf.training.board import Board
from kdas_tf.training.checkpoints import Checkpoints
from kdas_tf.training.fitting import fit
from kdas_tf.training.optimizers import Adam
from kdas_tf.training.steps import TrainingModel


def main() -> None:
    """Trains, judges and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--randoms", type=int, default=3, help="number of random genotypes")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each genotype")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--learning_rate", type=float, default=1e-2)
    arguments = parser.parse_args()
    processes.training_strategy()

    found = arguments.workdir / "search" / "genotype.json"
    origin = json.loads(found.read_text())["derived_from"]
    network = {
        "channels": arguments.channels,
        "cells": origin["cells"],
        "reductions": origin["reductions"],
        "image_size": tuple(origin["image_size"]),
    }
    candidates = {"searched": genotype.load(found)}
    candidates |= {f"random {i}": genotype.random_genotype(i) for i in range(arguments.randoms)}

    rows = []
    for name, candidate in candidates.items():
        started = time.monotonic()
        scores = [train_and_judge(candidate, arguments, network, seed) for seed in range(arguments.seeds)]
        means = {key: statistics.mean(score[key] for score in scores) for key in scores[0]}
        parameters = derived_parameters(candidate, origin["identities"], **network)
        runs = [score["mAP"] for score in scores]
        rows.append({"name": name, "parameters": parameters, **means, "mAP_runs": runs})
        print(f"{name}: mAP {means['mAP']:.1f}, {time.monotonic() - started:.0f} s", flush=True)
    report(rows)


def train_and_judge(candidate: genotype.Genotype, arguments: argparse.Namespace, network: dict, seed: int) -> dict:
    """Trains one network and ranks the gallery with it; percentages."""
    data = data_stage.load(arguments.workdir)
    labels, identities = relabel(data.train)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    student = Student(candidate, len(identities), **network)
    teacher = teacher_stage.load(arguments.workdir)
    model = TrainingModel(student, teacher, Objective(), num_identities=len(identities))
    model.compile(Adam()(learning_rate=arguments.learning_rate), jit_compile=False)
    batches = functools.partial(
        balanced_batches,
        data.train,
        labels,
        range(len(labels)),
        image_size=network["image_size"],
        identities_per_batch=8,
        images_per_identity=4,
        augmentation=Augmentation(padding=max(1, network["image_size"][0] // 32)),
        seed=seed,
        epochs=arguments.epochs,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(
            model,
            lambda epoch, step, share: batches(start_epoch=epoch, start_step=step, share=share),
            stage="train",
            workdir=Path(folder),
            epochs=arguments.epochs,
            steps_per_epoch=steps_per_epoch(len(labels), 32),
            checkpoints=Checkpoints(Path(folder) / "checkpoints", {"network": student}, keep=1),
            board=Board(Path(folder) / "tensorboard"),
            temperature=schedules.LinearTemperature(end_epoch=0.95 * arguments.epochs),
            learning_rate=functools.partial(
                schedules.cosine,
                start=arguments.learning_rate,
                end=arguments.learning_rate / 100,
                epochs=arguments.epochs,
            ),
            shown=("total",),
        )
    result = judge(student, data, image_size=network["image_size"], title="train")
    if result is None:
        sys.exit("error: the data set has no queries to judge with.")
    return summary(result)


def report(rows: list[dict]) -> None:
    """Prints the table and the line of JSON."""
    searched, randoms = rows[0], rows[1:]
    print(f"\n{'':12}{'params (M)':>12}{'mAP':>8}{'rank-1':>8}{'rank-5':>8}   mAP of each training")
    for row in rows:
        runs = " ".join(f"{value:.1f}" for value in row["mAP_runs"])
        print(
            f"{row['name']:12}{row['parameters'] / 1e6:12.3f}{row['mAP']:8.1f}{row['rank1']:8.1f}{row['rank5']:8.1f}   "
            f"{runs}"
        )
    means = {key: statistics.mean(row[key] for row in randoms) for key in ("mAP", "rank1")} if randoms else {}
    if means:
        print(f"searched - mean of random: {searched['mAP'] - means['mAP']:+.1f} mAP, ", end="")
        print(f"{searched['rank1'] - means['rank1']:+.1f} rank-1")
    print(json.dumps({"rows": rows, "random_mean": means}))


if __name__ == "__main__":
    main()
