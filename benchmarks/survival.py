"""Measures what survival costs: a checkpoint beside an epoch, and MirroredStrategy of one device beside none.

    python benchmarks/survival.py [--rounds 5] [--steps 30] [--saves 7] [--sizes "8 64 32 16 4"] [--identities 150]

The default is the search of gin/search.gin. Prints a table, and the same as JSON on the last line.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
from processes import THREADS
from search_step import REDUCTIONS, parse_size

GOAL = 3.0  # percent
STRATEGIES = ("default", "mirrored")


def search_model(size: tuple[int, ...], identities: int) -> Any:
    """Makes what the search stage trains, compiled, with a table of random logits as its teacher."""
    import numpy as np

    from kdas_tf.losses.objective import Objective
    from kdas_tf.models.batch_norm import configure_batch_norm
    from kdas_tf.models.networks import Supernet
    from kdas_tf.models.teacher import TeacherTable
    from kdas_tf.training.optimizers import adam, momentum_sgd
    from kdas_tf.training.steps import SearchModel, replicas

    channels, height, width, batch, cells = size
    reductions = REDUCTIONS.get(cells, (cells - 1,))
    supernet = Supernet(identities, image_size=(height, width), channels=channels, cells=cells, reductions=reductions)
    configure_batch_norm(supernet, replicas=replicas())
    table = np.random.default_rng(0).normal(size=(batch, identities)).astype("float32")
    model = SearchModel(supernet, TeacherTable(table), Objective(), num_identities=identities)
    model.compile(momentum_sgd(learning_rate=0.1), adam(learning_rate=0.02), jit_compile=False)
    model.temperature.assign(2.0)
    return model


def fixed_batches(size: tuple[int, ...], identities: int) -> Any:
    """The same random batch again and again, two images of an identity: no time goes into reading images."""
    import numpy as np
    import tensorflow as tf

    _, height, width, batch, _ = size
    random = np.random.default_rng(1)
    halves = {
        name: {
            "image": random.uniform(0, 255, (batch, height, width, 3)).astype("float32"),
            "label": (np.arange(batch) // 2 % identities).astype("int32"),
            "index": np.arange(batch, dtype="int32"),
        }
        for name in ("train", "val")
    }
    return tf.data.Dataset.from_tensors(halves).repeat()


def medians_of(action: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Seconds and CPU seconds of an action."""
    times = [processes.timed(action) for _ in range(repeats)]
    wall, cpu = (statistics.median(each) for each in zip(*times, strict=True))
    return wall, cpu


def measure(strategy_name: str, size: tuple[int, ...], identities: int, steps: int, saves: int) -> dict[str, float]:
    """Times steps of a search and checkpoints of it in this process, under one strategy."""
    import tensorflow as tf

    from kdas_tf.training.checkpoints import Checkpoints, Position
    from kdas_tf.training.devices import make_strategy

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    strategy = make_strategy(None, None, "float32")  # the default one, with TensorFlow set up as in a search
    if strategy_name == "mirrored":
        strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = search_model(size, identities)
    model.make_train_function()
    batches = iter(strategy.experimental_distribute_dataset(fixed_batches(size, identities)))

    def step():
        return model.train_function(batches)["val_total"].numpy()  # which waits for the end of the step

    for _ in range(3):
        step()
    wall, cpu = medians_of(step, steps)
    with tempfile.TemporaryDirectory() as folder:
        parts = {
            "network": model.network,
            "weight_optimizer": model.optimizer,
            "alpha_optimizer": model.alpha_optimizer,
            "temperature": model.temperature,
        }
        checkpoints, epochs = Checkpoints(Path(folder), parts), iter(range(1, saves + 2))
        checkpoints.save(Position(next(epochs)))
        save, save_cpu = medians_of(lambda: checkpoints.save(Position(next(epochs))), saves)
        size_on_disk = sum(path.stat().st_size for path in checkpoints.all()[-1].iterdir())
    return {"step": wall, "step_cpu": cpu, "save": save, "save_cpu": save_cpu, "bytes": size_on_disk}


def steps_in_an_epoch(identities: int, batch: int) -> float:
    """Counts the steps that the search stage makes of the embedded people, from their files.

    How many pictures there are does not depend on their size, so the smallest are drawn.
    """
    from kdas_tf.data import market1501, synthetic
    from kdas_tf.data.records import relabel
    from kdas_tf.data.sampler import steps_per_epoch
    from kdas_tf.data.splits import half_split

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "people"
        synthetic.write_dataset(root, train_identities=identities, test_identities=2, image_size=(32, 16))
        labels, _ = relabel(market1501.read(root).train)
    return min(steps_per_epoch(len(half), batch) for half in half_split(labels, 0))


def compare(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measures both strategies at one size in fresh processes, in turn."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in STRATEGIES}
    options = ["--identities", arguments.identities, "--steps", arguments.steps, "--saves", arguments.saves]
    for number in range(arguments.rounds):
        for name in STRATEGIES:
            processes.progress(f"measuring {size}, {name} strategy, round {number + 1} of {arguments.rounds} ...")
            rounds[name].append(processes.measure(["--worker", name, "--sizes", size, *options], f"{name} at {size}"))
    found = {name: processes.medians(each) for name, each in rounds.items()}
    counted = processes.measure(["--worker", "epoch", "--sizes", size, *options], "Counting steps")
    steps = int(counted["steps"])
    plain, mirrored = (found[name] for name in STRATEGIES)
    percent = {key: 100 * plain["save" + key] / (steps * plain["step" + key]) for key in ("", "_cpu")}
    overhead = {key: 100 * (mirrored["step" + key] / plain["step" + key] - 1) for key in ("", "_cpu")}
    return {"size": size, "steps": steps, **found, "checkpoint_percent": percent, "mirrored_percent": overhead}


def print_table(results: list[dict[str, Any]]) -> None:
    """Prints what was measured, for people."""
    row = "{:<44} {:>9} {:>9}"
    for result in results:
        plain, mirrored, steps = result["default"], result["mirrored"], result["steps"]
        print(row.format(result["size"], "s", "CPU s"))
        print(row.format("step, default strategy", *(f"{plain[name]:.4f}" for name in ("step", "step_cpu"))))
        print(
            row.format("step, MirroredStrategy of one device", f"{mirrored['step']:.4f}", f"{mirrored['step_cpu']:.4f}")
        )
        print(row.format("  more, %", *(f"{value:+.1f}" for value in result["mirrored_percent"].values())))
        print(row.format(f"epoch of {steps} steps", *(f"{steps * plain[name]:.2f}" for name in ("step", "step_cpu"))))
        print(
            row.format(
                f"checkpoint of {plain['bytes'] / 1e6:.2f} MB", f"{plain['save']:.4f}", f"{plain['save_cpu']:.4f}"
            )
        )
        print(
            row.format(
                f"  of an epoch, % (goal: {GOAL:g})", *(f"{v:.2f}" for v in result["checkpoint_percent"].values())
            )
        )


def main() -> None:
    """Measures every size and prints the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=["8 64 32 16 4"], metavar='"C H W B CELLS"')
    parser.add_argument("--identities", type=int, default=150, help="training identities of the embedded people")
    parser.add_argument("--rounds", type=int, default=5, help="processes under each strategy, in turn")
    parser.add_argument("--steps", type=int, default=30, help="timed steps in each process")
    parser.add_argument("--saves", type=int, default=7, help="timed checkpoints in each process")
    parser.add_argument("--worker", choices=(*STRATEGIES, "epoch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.rounds, arguments.steps, arguments.saves) < 1 or arguments.identities < 2:
        parser.error("expected --rounds, --steps and --saves of at least 1, and --identities of at least 2")
    if arguments.worker:
        size, identities = tuple(map(int, arguments.sizes[0].split())), arguments.identities
        if arguments.worker == "epoch":
            found = {"steps": steps_in_an_epoch(identities, size[3])}
        else:
            found = measure(arguments.worker, size, identities, arguments.steps, arguments.saves)
        print(json.dumps(found))
        return
    results = [compare(size, arguments) for size in arguments.sizes]
    print_table(results)
    processes.print_json("survival", results)


if __name__ == "__main__":
    main()
