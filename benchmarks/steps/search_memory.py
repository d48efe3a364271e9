"""Measures the memory of a step of the search, and what lowers it, beside the estimate of --dry_run.

Sizes are "C H W B CELLS", as in search_step.py, whose steps these are. "rematerialized" is rematerialize, "partial_4"
is partial_channels=4. `--only plain` leaves out what lowers it.
"""

import argparse
from typing import Any

from benchmarks import harness, models
from benchmarks.steps.search_step import IDENTITIES, measure_ours

SIZES = (
    "8 64 32 16 4",
    "8 128 64 32 4",
    "16 128 64 16 8",
    "32 128 64 16 6",
    "32 384 128 4 8",
    "16 256 128 16 8",
    "32 384 128 16 8",
)
QUICK = ("12 32 16 4 1",)
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rematerialized": {"rematerialize": True},
    "partial_4": {"partial_channels": 4},
    "both": {"rematerialize": True, "partial_channels": 4},
}
COLUMNS = {
    "C H W B cells": "",
    "variant": "",
    "estimate GB": ".2f",
    "peak GB": ".2f",
    "estimate / peak": ".2f",
    "pair s": ".2f",
}


def estimate_gb(size: models.Size, options: dict[str, Any]) -> float:
    """What --dry_run says."""
    from kdas_tf.models.memory import search_bytes
    from kdas_tf.models.networks import Supernet, trainable_parameters

    network = size.network(**options)
    parameters = trainable_parameters(Supernet(IDENTITIES, **network))
    return search_bytes(size.batch, parameters, **network) / 1e9


def measure(**case: Any) -> dict[str, float]:
    """One size in one variant: first the steps, because the estimate makes a network, too."""
    size, options = models.Size.parse(case["C H W B cells"]), VARIANTS[case["variant"]]
    found = measure_ours(size, case["repeats"], **options)
    estimate = estimate_gb(size, options)
    return {"estimate GB": estimate, "estimate / peak": estimate / found["peak GB"], **found}


def cases(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Every size in every variant."""
    sizes, variants = (QUICK, ("plain", "both")) if arguments.quick else (arguments.sizes, tuple(VARIANTS))
    return [{"C H W B cells": size, "variant": variant, "repeats": 1} for size in sizes for variant in variants]


if __name__ == "__main__":
    harness.main(__doc__, cases, measure, COLUMNS, sizes=SIZES)
