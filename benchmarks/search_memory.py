"""Measures the memory of a step of the search, and what lowers it, beside the estimate of `--dry_run`.

    python benchmarks/search_memory.py [--sizes "32 384 128 16 8" ...] [--variants plain rematerialized partial_4]

Prints a table, and the same as JSON on the last line. Sizes are "C H W B CELLS", as in search_step.py.
"""

import argparse
import json
from typing import Any

import processes
from search_step import REDUCTIONS, measure, parse_size

SIZES = (
    "8 64 32 16 4",
    "8 128 64 32 4",
    "16 128 64 16 8",
    "32 128 64 16 6",
    "32 384 128 4 8",
    "16 256 128 16 8",
    "32 384 128 16 8",
)
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rematerialized": {"rematerialize": True},
    "partial_4": {"partial_channels": 4},
    "both": {"rematerialize": True, "partial_channels": 4},
}


def estimate(size: tuple[int, ...], options: dict[str, Any]) -> float:
    """What `--dry_run` says, in GB."""
    from kdas_tf.models.memory import search_bytes
    from kdas_tf.models.networks import Supernet, trainable_parameters

    channels, height, width, batch, cells = size
    network = {"image_size": (height, width), "channels": channels, "cells": cells, "reductions": REDUCTIONS[cells]}
    parameters = trainable_parameters(Supernet(100, **network, **options))
    return search_bytes(batch, parameters, **network, **options) / 1e9


def compare(size: str, variant: str, repeats: int) -> dict[str, Any]:
    """One size in one variant: estimated and measured memory, and the time of a pair of steps."""
    processes.progress(f"measuring {size}, {variant} ...")
    found = processes.measure(["--worker", size, variant, "--repeats", repeats], f"Size {size!r}, {variant}")
    pair = found["weight"] + found["alpha"]
    return {"size": size, "variant": variant, "estimate": found["estimate"], "peak": found["rss"], "pair": pair}


def main() -> None:
    """Measures every size in every variant, and prints the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=parse_size, default=SIZES, metavar='"C H W B CELLS"')
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=("plain",))
    parser.add_argument("--repeats", type=int, default=1, help="timed steps of each kind")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.repeats < 1:
        parser.error("expected --repeats of at least 1")
    if arguments.worker:
        size, options = tuple(map(int, arguments.worker[0].split())), VARIANTS[arguments.worker[1]]
        found = measure(size, arguments.repeats, **options)  # first: the estimate makes a network, too
        print(json.dumps({**found, "estimate": estimate(size, options)}))
        return
    results = [compare(size, variant, arguments.repeats) for size in arguments.sizes for variant in arguments.variants]
    row = "{:<16} {:<15} {:>12} {:>8} {:>18} {:>8}"
    print(row.format("C H W B CELLS", "variant", "estimate GB", "peak GB", "estimate / peak", "pair s"))
    for each in results:
        numbers = (each["estimate"], each["peak"], each["estimate"] / each["peak"], each["pair"])
        print(row.format(each["size"], each["variant"], *(f"{number:.2f}" for number in numbers)))
    processes.print_json("search_memory", results)


if __name__ == "__main__":
    main()
