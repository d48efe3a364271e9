"""Estimates the memory of a search step before anything is built."""

from collections.abc import Sequence
from typing import Any

from kdas_tf.genotype import INPUTS, NODES
from kdas_tf.models.cells import cell_plan, edges_from
from kdas_tf.models.stem import STEMS

_BYTES = 4  # weights and what goes with them are float32

PROGRAM_BYTES = 620_000_000
GRAPH_BYTES_PER_CELL = 120_000_000
"""What TensorFlow takes beside a step's tensors, on a CPU: fitted to peaks of benchmarks/steps/search_memory.py."""

_PASSING = 6
"""Copies of the largest stack that exist while it goes through its normalisation, and back: fitted to the same."""

_COPIES = 4
"""Of the parameters: value, gradient, momentum and one in passing."""


def search_bytes(batch_size: int, parameters: int, *, cells: int, bytes_per_number: int = 4, **network: Any) -> int:
    """Estimates the memory of a process that searches, in bytes, without data and teacher.

    Args:
        batch_size: images of one replica.
        parameters: of the supernet.
        cells: number of cells.
        bytes_per_number: of an activation; 4 in float32, 2 in mixed precision.
        **network: as in `search_step_bytes`.
    """
    step = search_step_bytes(batch_size, cells=cells, bytes_per_number=bytes_per_number, **network)
    return PROGRAM_BYTES + GRAPH_BYTES_PER_CELL * cells + _BYTES * _COPIES * parameters + step


def search_step_bytes(
    batch_size: int,
    *,
    image_size: tuple[int, int],
    channels: int,
    cells: int,
    reductions: Sequence[int],
    stem: str = "inet4",
    partial_channels: int = 1,
    rematerialize: bool = False,
    bytes_per_number: int = 4,
) -> int:
    """Estimates the activations that one step of the supernet keeps for its backward pass, in bytes.

    Counted by hand from `MixedFanOut` and its operations: each of E edges keeps two maps for either half of sep_conv,
    one for dil_conv and three in the normalised stacks, where the pools add one each; three maps of the input's size
    are kept for all edges (two ReLUs, the phases of the dilated convolution). In passing, there are copies of the
    largest stack, that of both inputs without sep_conv. With partial channels all this is of one K-th of the channels;
    the others are kept only where they are max-pooled, before and after. A supernet that rematerialises keeps the
    outputs of the cells, and all of this of one cell at a time.

    Args:
        batch_size: images of one replica.
        image_size: (height, width) in pixels.
        channels: C of the supernet.
        cells: number of cells.
        reductions: positions of the reduction cells.
        stem: one of `kdas_tf.models.stem.STEMS`.
        partial_channels: K of the supernet.
        rematerialize: whether the supernet does.
        bytes_per_number: of an activation; 4 in float32, 2 in mixed precision.
    """
    _, height, width, _ = STEMS[stem](channels).compute_output_shape((batch_size, *image_size, 3))
    edges = len(edges_from(0))
    kept, passing, outputs = [], [], []
    for cell in cell_plan(cells, reductions, channels):
        outer = batch_size * height * width * cell["channels"]
        if cell["reduction"]:
            height, width = -(-height // 2), -(-width // 2)
        inner = batch_size * height * width * cell["channels"]
        kept.append(_kept_by_a_cell(outer, inner, cell["reduction"], partial_channels))
        stack = INPUTS * (2 * edges + 2 + (edges if cell["reduction"] else 0))
        passing.append(_PASSING * stack * inner // partial_channels)
        outputs.append(NODES * inner)
    if rematerialize:
        return bytes_per_number * (sum(outputs) + max(map(sum, zip(kept, passing, strict=True))))
    return bytes_per_number * (sum(kept) + max(passing))


def _kept_by_a_cell(outer: int, inner: int, reduction: bool, partial_channels: int) -> int:
    """Numbers that a cell keeps, from those of a map of its inputs' size and of one of its nodes."""
    total = 0
    for source in range(INPUTS + NODES - 1):
        edges = len(edges_from(source))
        total += ((8 * edges + 2) * inner + 3 * (outer if source < INPUTS else inner)) // partial_channels
        if reduction and source < INPUTS:
            total += (outer + inner) - (outer + inner) // partial_channels
    return total
