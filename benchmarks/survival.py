"""Measures what survival costs: a checkpoint beside an epoch, and MirroredStrategy of one device beside none.

    python benchmarks/survival.py [--rounds 5] [--steps 30] [--saves 7] [--sizes "8 64 32 16 4"] [--identities 150]

The default is the search of gin/search.gin. Prints a table, and the same as JSON on the last line.
"""

import argparse
import functools
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import processes
from search_step import REDUCTIONS, parse_size
from step_models import random_batch, random_table, search_model

GOAL = 3.0  # percent
STRATEGIES = ("default", "mirrored")


def make_model(size: tuple[int, ...], identities: int) -> Any:
    """Makes what the search stage trains at a size."""
    from kdas_tf.models.networks import Supernet
    from kdas_tf.training.batch_norm import configure_batch_norm
    from kdas_tf.training.steps import replicas

    channels, height, width, batch, cells = size
    reductions = REDUCTIONS.get(cells, (cells - 1,))
    supernet = Supernet(identities, image_size=(height, width), channels=channels, cells=cells, reductions=reductions)
    configure_batch_norm(supernet, replicas=replicas())
    return search_model(supernet, random_table(batch, identities), identities)


def fixed_batches(size: tuple[int, ...], identities: int) -> Any:
    """The same random batch again and again."""
    import tensorflow as tf

    _, height, width, batch, _ = size
    halves = {half: random_batch((height, width), batch, identities, images=batch, seed=1) for half in ("train", "val")}
    return tf.data.Dataset.from_tensors(halves).repeat()


def one_step(model: Any, batches: Any) -> None:
    """Takes a step, and waits for its end."""
    model.train_function(batches)["val_total"].numpy()


def measure(size: tuple[int, ...], identities: int, steps: int, saves: int) -> dict[str, float]:
    """Times steps of a search under both strategies in this process, in turn, and checkpoints under the default one.

    Not in a process each: two processes of one strategy differ by more than what is looked for.
    """
    import tensorflow as tf

    from kdas_tf.training.checkpoints import Checkpoints, Position

    default = processes.training_strategy()
    strategies = dict(zip(STRATEGIES, (default, tf.distribute.MirroredStrategy(["CPU:0"])), strict=True))
    models, takes = {}, {}
    for name, strategy in strategies.items():
        with strategy.scope():
            models[name] = make_model(size, identities)
        batches = iter(strategy.experimental_distribute_dataset(fixed_batches(size, identities)))
        takes[name] = functools.partial(one_step, models[name], batches)
    found = flat(processes.in_turn(takes, steps, warm_up=3))
    with tempfile.TemporaryDirectory() as folder:
        model = models["default"]
        parts = {
            "network": model.network,
            "weight_optimizer": model.optimizer,
            "alpha_optimizer": model.alpha_optimizer,
            "temperature": model.temperature,
        }
        checkpoints, epochs = Checkpoints(Path(folder), parts), iter(range(1, saves + 2))
        save = {"save": lambda: checkpoints.save(Position(next(epochs)))}
        found |= flat(processes.in_turn(save, saves))
        found["bytes"] = sum(path.stat().st_size for path in checkpoints.all()[-1].iterdir())
    return found


def flat(found: dict[str, dict[str, float]]) -> dict[str, float]:
    """Seconds under each name, CPU seconds under the name and `_cpu`."""
    keys = {"seconds": "", "cpu": "_cpu"}
    return {f"{name}{end}": numbers[key] for name, numbers in found.items() for key, end in keys.items()}


def steps_in_an_epoch(identities: int, batch: int) -> float:
    """Counts the steps that the search stage makes of the embedded people, from their files.

    How many pictures there are does not depend on their size, so the smallest are drawn.
    """
    from kdas_tf.data import market1501
    from kdas_tf.data.embedded import synthetic
    from kdas_tf.data.records import relabel
    from kdas_tf.data.sampler import steps_per_epoch
    from kdas_tf.data.splits import half_split

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "people"
        synthetic.write_dataset(root, train_identities=identities, test_identities=2, image_size=(32, 16))
        labels, _ = relabel(market1501.read(root).train)
    return min(steps_per_epoch(len(half), batch) for half in half_split(labels, 0))


def compare(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures at one size, in fresh processes."""
    options = ["--identities", arguments.identities, "--steps", arguments.steps, "--saves", arguments.saves]
    rounds = []
    for number in range(arguments.rounds):
        processes.progress(f"measuring {size}, round {number + 1} of {arguments.rounds} ...")
        rounds.append(processes.measure(["--worker", "steps", "--sizes", size, *options], f"Steps at {size}"))
    found = processes.medians(rounds)
    steps = int(processes.measure(["--worker", "epoch", "--sizes", size, *options], "Counting steps")["steps"])
    shares = {
        key: {
            "checkpoint_percent": 100 * found[f"save{key}"] / (steps * found[f"default{key}"]),
            # Of every process, whose strategies took turns, and then the median.
            "mirrored_percent": statistics.median(
                100 * (each[f"mirrored{key}"] / each[f"default{key}"] - 1) for each in rounds
            ),
        }
        for key in ("", "_cpu")
    }
    return {"size": size, "steps": steps, **found, "wall": shares[""], "cpu": shares["_cpu"]}


def print_table(results: list[dict[str, Any]]) -> None:
    """Prints what was measured, for people."""
    row = "{:<44} {:>9} {:>9}"
    for result in results:
        steps, wall, cpu = result["steps"], result["wall"], result["cpu"]

        def both(name: str, result: dict[str, Any] = result) -> list[str]:
            return [f"{result[name]:.4f}", f"{result[f'{name}_cpu']:.4f}"]

        print(row.format(result["size"], "s", "CPU s"))
        print(row.format("step, default strategy", *both("default")))
        print(row.format("step, MirroredStrategy of one device", *both("mirrored")))
        more = (f"{share['mirrored_percent']:+.1f}" for share in (wall, cpu))
        print(row.format(f"  more, % (goal: {GOAL:g})", *more))
        epoch = (f"{steps * result[name]:.2f}" for name in ("default", "default_cpu"))
        print(row.format(f"epoch of {steps} steps", *epoch))
        print(row.format(f"checkpoint of {result['bytes'] / 1e6:.2f} MB", *both("save")))
        of_an_epoch = (f"{share['checkpoint_percent']:.2f}" for share in (wall, cpu))
        print(row.format(f"  of an epoch, % (goal: {GOAL:g})", *of_an_epoch))


def main() -> None:
    """Measures every size and prints the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=["8 64 32 16 4"], metavar='"C H W B CELLS"')
    parser.add_argument("--identities", type=int, default=150, help="training identities of the embedded people")
    parser.add_argument("--rounds", type=int, default=5, help="processes; medians are shown")
    parser.add_argument("--steps", type=int, default=30, help="timed steps under each strategy in each, in turn")
    parser.add_argument("--saves", type=int, default=7, help="timed checkpoints in each process")
    parser.add_argument("--worker", choices=("steps", "epoch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.steps, arguments.saves) < 1 or arguments.identities < 2:
        parser.error("expected --rounds, --steps and --saves of at least 1, and --identities of at least 2")
    if arguments.worker:
        size, identities = tuple(map(int, arguments.sizes[0].split())), arguments.identities
        if arguments.worker == "epoch":
            found = {"steps": steps_in_an_epoch(identities, size[3])}
        else:
            found = measure(size, identities, arguments.steps, arguments.saves)
        print(json.dumps(found))
        return
    results = [compare(size, arguments) for size in arguments.sizes]
    print_table(results)
    processes.print_json("survival", results)


if __name__ == "__main__":
    main()
