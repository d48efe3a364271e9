"""Times the networks and the steps of training and search on a GPU, through Keras' JAX backend, at the paper's scale.

    python benchmarks/gpu_jax.py                              # everything; compiling takes most of the time
    python benchmarks/gpu_jax.py --only supernet --precisions bfloat16 --what step --profile
    python benchmarks/gpu_jax.py --check                      # float32 on the GPU against the CPU
    python benchmarks/gpu_jax.py --count                      # what the steps compute and keep; needs no GPU
    python benchmarks/gpu_jax.py --cpu                        # tiny networks on the CPU: does it work

Prints a row for everything measured, and the same as JSON on the last line. Without JAX or a GPU it says so.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

INSTALL = "python -m pip install 'jax[cuda13]==0.11.2' keras==3.15.1"
# Known without JAX, so that a wrong argument is refused without it.
NETWORKS = ("Auto-ReID", "searched", "ResNet-50", "supernet", "supernet-remat")
PRECISIONS = ("float32", "tf32", "bfloat16")
WHAT = ("inference", "forward", "gradient", "step")
VARIANTS = ("none", "shifts", "dilated", "index", "shifts+index")
COLUMNS = "{:<16} {:<9} {:<10} {:>9} {:>9} {:>9} {:>8} {:>8} {:>7} {:>9}"
HEAD = ("network", "precision", "what", "ms", "queued ms", "images/s", "TFLOP/s", "GB/s", "GB", "compile s")


def measure(trainee: Any, name: str, scale: Any, what: str, arguments: argparse.Namespace, precision: str) -> dict:
    """Compiles and times one function of a network; prints its row."""
    from jax_measure import Compiled
    from jax_profile import print_profile, profile
    from jax_steps import make_batch, work

    from kdas_tf.models.costs import multiply_adds

    size = scale.batch_of(name)
    batches = tuple(make_batch(scale, size, seed) for seed in (0, 1))
    batch = batches if what == "step" else batches[0]
    compiled = Compiled(getattr(trainee, what), trainee.state(), batch, precision, donate=what == "step")
    row = {"network": name, "precision": precision, "what": what, "images": size, **compiled.measure()}
    counted = multiply_adds(trainee.network, scale.image_size)
    row["operations"] = work(what, trainee.searched, counted, size)
    print_row(row)
    if arguments.profile and what == "step":
        row["profile"] = profile(compiled, compiled.program.as_text())
        print_profile(row["profile"])
    return row


def print_row(row: dict[str, Any]) -> None:
    """Prints one row of the table."""
    seconds = row["seconds"]
    images = row["images"] * (2 if row["what"] == "step" and "supernet" in row["network"] else 1)
    numbers = (
        f"{1e3 * seconds:.2f}",
        f"{1e3 * row['back_to_back_seconds']:.2f}",
        f"{images / seconds:.0f}",
        f"{row['operations'] / seconds / 1e12:.2f}",
        f"{row['xla_bytes'] / seconds / 1e9:.0f}",
        f"{row['peak_bytes'] / 1e9:.2f}",
        f"{row['trace_seconds']:.0f} + {row['compile_seconds']:.0f}",
    )
    print(COLUMNS.format(row["network"], row["precision"], row["what"], *numbers), flush=True)


def measure_all(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measures every network, precision and function that was asked for."""
    from jax_networks import PAPER, TINY, other_operations
    from jax_steps import Trainee, policy_of
    from jax_variants import VARIANTS

    scale, rows = TINY if arguments.cpu else PAPER, []
    print(COLUMNS.format(*HEAD), flush=True)
    for name in arguments.only:
        for precision in arguments.precisions:
            with other_operations(**VARIANTS[arguments.variant]):
                trainee = Trainee(name, scale, policy_of(precision))
                for what in arguments.what:
                    if trainee.searched and what == "inference":
                        continue  # nobody asks a supernet for embeddings
                    rows.append(measure(trainee, name, scale, what, arguments, precision))
    return rows


def count_all(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Counts what the steps compute and keep; float32 and TF32 do the same."""
    from jax_count import count, print_count
    from jax_networks import PAPER, TINY

    rows = []
    for name in arguments.only:
        for precision in [each for each in arguments.precisions if each != "tf32"]:
            rows.append(count(name, TINY if arguments.cpu else PAPER, precision))
            print_count(rows[-1])
    return rows


def check(arguments: argparse.Namespace) -> float:
    """The largest relative difference of outputs and gradients between the first device and the CPU, in float32."""
    import jax
    from backend_numbers import differences, numbers
    from jax_networks import TINY

    worst = 0.0
    for name in arguments.only:
        found = numbers(name, TINY)
        with jax.default_device(jax.devices("cpu")[0]):
            compared = differences(found, numbers(name, TINY))
        worst = max(worst, compared[0][0])
        print(f"{name}: {len(compared)} arrays, largest relative differences to the CPU:")
        for error, key in compared[:3]:
            print(f"    {error:.1e} {key}", flush=True)
    return worst


def parse() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS, help="networks")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT)
    parser.add_argument("--variant", default="none", choices=VARIANTS, help="other ways to compute some operations")
    parser.add_argument("--profile", action="store_true", help="of every step: kinds of operations, ten kernels")
    parser.add_argument("--check", action="store_true", help="compare float32 with the CPU before anything is timed")
    parser.add_argument("--count", action="store_true", help="operations and memory of the steps; needs no GPU")
    parser.add_argument("--cpu", action="store_true", help="tiny sizes, on the CPU")
    return parser.parse_args()


def main() -> None:
    """Measures what was asked for and prints the table and the JSON line."""
    arguments = parse()
    if arguments.cpu or arguments.count:
        os.environ["JAX_PLATFORMS"] = "cpu"
    try:
        import jax
    except ImportError:
        print(f"not measured: no JAX; install it with {INSTALL}")
        return
    import processes

    if arguments.count:
        processes.print_json("gpu_jax --count", count_all(arguments))
        return
    if jax.devices()[0].platform == "cpu" and not arguments.cpu:
        print("not measured: JAX finds no GPU; --cpu measures tiny networks on the CPU")
        return
    import jax_measure

    more: dict[str, Any] = {"card": jax.devices()[0].device_kind, "jax": jax.__version__, "ceilings": {}}
    print(f"{more['card']}, JAX {more['jax']}", flush=True)
    if arguments.check:
        more["largest_difference_to_cpu"] = check(arguments)
    for name, value in jax_measure.ceilings(*((256, 8) if arguments.cpu else (8192, 2000))):
        more["ceilings"][name] = value
        print(f"{name}: {value / 1e12:.2f} " + ("TB/s copied" if name == "copy" else "TFLOP/s in a matrix product"))
    processes.print_json("gpu_jax", measure_all(arguments), **more)


if __name__ == "__main__":
    main()
