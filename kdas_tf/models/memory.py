"""Estimates the memory of a search step before anything is built."""

from collections.abc import Sequence

from kdas_tf.genotype import INPUTS, NODES
from kdas_tf.models.cells import cell_plan, edges_from
from kdas_tf.models.stem import STEMS

_BYTES = 4  # float32

PROGRAM_BYTES = 550_000_000
GRAPH_BYTES_PER_CELL = 170_000_000
"""What TensorFlow takes beside a step's tensors, on a CPU: fitted to the peaks measured by benchmarks/search_step.py
(1.26 GB at 8 64 32 16 4 and 2.14 GB at 16 128 64 16 8)."""


def search_step_bytes(
    batch_size: int,
    *,
    image_size: tuple[int, int],
    channels: int,
    cells: int,
    reductions: Sequence[int],
    stem: str = "inet4",
    partial_channels: int = 1,
) -> int:
    """Estimates the activations that one step of the supernet keeps for its backward pass, in bytes.

    Counted by hand from `MixedFanOut` and its operations: each of E edges keeps two maps for either half of sep_conv,
    one for dil_conv and three in the normalised stack, where the pools add one each; three maps of the input's size
    are kept for all edges (two ReLUs, the phases of the dilated convolution); while the largest stack is normalised,
    three more copies of it exist. With partial channels all this is of one K-th of the channels; the others are kept
    only where they are max-pooled, before and after.

    Args:
        batch_size: images of one replica.
        image_size: (height, width) in pixels.
        channels: C of the supernet.
        cells: number of cells.
        reductions: positions of the reduction cells.
        stem: one of `kdas_tf.models.stem.STEMS`.
        partial_channels: K of the supernet.
    """
    _, height, width, _ = STEMS[stem](channels).compute_output_shape((batch_size, *image_size, 3))
    total = largest = 0
    for cell in cell_plan(cells, reductions, channels):
        outer = batch_size * height * width * cell["channels"]
        if cell["reduction"]:
            height, width = -(-height // 2), -(-width // 2)
        inner = batch_size * height * width * cell["channels"]
        for source in range(INPUTS + NODES - 1):
            edges = len(edges_from(source))
            total += ((8 * edges + 2) * inner + 3 * (outer if source < INPUTS else inner)) // partial_channels
            if cell["reduction"] and source < INPUTS:
                total += (outer + inner) - (outer + inner) // partial_channels
            largest = max(largest, 3 * (3 * edges + 2) * inner // partial_channels)
    return _BYTES * (total + largest)
