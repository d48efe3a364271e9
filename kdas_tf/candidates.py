"""The candidate operations of an edge, in one table. How to add an operation: docs/extending.md."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A line of the table."""

    layer: str  # "file.Class" in `kdas_tf/space/`, a subclass of `kdas_tf.space.base.Operation`
    color: str  # of the operation's arrows in pictures
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the layer
    searched: bool = True  # has a column in the alphas; if not, only genotypes by hand can use it


# Colours after Okabe and Ito's palette for colour-blind readers.
CANDIDATES: Mapping[str, Candidate] = {
    "max_pool_3x3": Candidate("operations.Pooling", "#c47f00", {"mode": "max"}),
    "avg_pool_3x3": Candidate("operations.Pooling", "#8a6a3b", {"mode": "average"}),
    "skip_connect": Candidate("operations.SkipConnect", "#6b6b6b"),
    "sep_conv_3x3": Candidate("operations.DepthwiseSeparableConv", "#0072b2", {"kernel_size": 3, "repeats": 2}),
    "sep_conv_5x5": Candidate("operations.DepthwiseSeparableConv", "#3a3fa8", {"kernel_size": 5, "repeats": 2}, False),
    "dil_conv_3x3": Candidate("operations.DepthwiseSeparableConv", "#008a65", {"kernel_size": 3, "dilation": 2}),
    "dil_conv_5x5": Candidate("operations.DepthwiseSeparableConv", "#5a8f00", {"kernel_size": 5, "dilation": 2}, False),
    "part_aware": Candidate("part_aware.PartAware", "#c2357f"),
}
"""All operations by name. Those that are searched have the columns of alpha in this order, after `none`."""
