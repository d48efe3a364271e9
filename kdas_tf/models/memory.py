"""Estimates the memory of a search step before anything is built."""

from collections.abc import Sequence
from typing import Any

from kdas_tf.genotype import INPUTS, NODES
from kdas_tf.models.cells import EDGES_OF_GROUPS, GROUPS, cell_plan
from kdas_tf.models.stem import STEMS
from kdas_tf.space.mixed import MixedFanOut

# What TensorFlow takes beside a step's tensors on a CPU: fitted to peaks of benchmarks/steps/search_memory.py.
PROGRAM_BYTES = 620_000_000
GRAPH_BYTES_PER_CELL = 120_000_000
_PASSING = 6  # copies of the largest stack while it goes through its normalisation, and back: fitted to the same
_FLOAT32 = 4  # bytes
_BYTES_PER_PARAMETER = 4 * _FLOAT32  # value, gradient, momentum and one in passing; float32 in mixed precision too


def search_bytes(batch_size: int, parameters: int, *, cells: int, **network: Any) -> int:
    """Estimates the memory of a process that searches, in bytes, without data and teacher.

    `parameters` are those of the supernet, the other arguments those of `search_step_bytes`.
    """
    step = search_step_bytes(batch_size, cells=cells, **network)
    return PROGRAM_BYTES + GRAPH_BYTES_PER_CELL * cells + _BYTES_PER_PARAMETER * parameters + step


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

    Operations say how many maps they keep. With partial channels these have one K-th of the channels; the others are
    kept only where they are max-pooled, before and after. In passing, there are copies of the largest stack. A supernet
    that rematerialises keeps the outputs of the cells, and all of this of one cell at a time.

    `batch_size` is that of one replica. A kept map has `bytes_per_number`, 2 in mixed precision; normalisations compute
    in float32. All other arguments are those of the `Supernet`.
    """
    _, height, width, _ = STEMS[stem](channels).compute_output_shape((batch_size, *image_size, 3))
    kept, passing, outputs = [], [], []
    for cell in cell_plan(cells, reductions, channels):
        # Numbers in a map of one of the cell's inputs, and in a map of one of its nodes.
        of_input = batch_size * height * width * cell["channels"]
        if cell["reduction"]:
            height, width = -(-height // 2), -(-width // 2)
        of_node = batch_size * height * width * cell["channels"]
        numbers, largest_stack = 0, 0
        for sources, edges in zip(GROUPS, EDGES_OF_GROUPS, strict=True):
            of_source = of_input if sources[0] < INPUTS else of_node
            stride = 2 if cell["reduction"] and sources[0] < INPUTS else 1
            # Maps are counted, so that their channels do not matter: 4 are enough for every operation.
            fan_out = MixedFanOut(4, edges=len(edges), sources=len(sources), stride=stride)
            output_maps, input_maps = fan_out.kept_maps()
            numbers += (output_maps * of_node + input_maps * of_source) // partial_channels
            if stride == 2:
                pooled = len(sources) * (of_source + of_node)
                numbers += pooled - pooled // partial_channels
            largest_stack = max(largest_stack, fan_out.largest_stack())
        kept.append(bytes_per_number * numbers)
        passing.append(_FLOAT32 * _PASSING * largest_stack * of_node // partial_channels)
        outputs.append(NODES * of_node)
    if rematerialize:
        return bytes_per_number * sum(outputs) + max(map(sum, zip(kept, passing, strict=True)))
    return sum(kept) + max(passing)
