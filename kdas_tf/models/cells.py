"""Cells: four intermediate nodes, each the sum of what its predecessors' edges bring."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kdas_tf.errors import UserError
from kdas_tf.genotype import EDGES, INPUTS, NODES, Genotype
from kdas_tf.space.base import Operation
from kdas_tf.space.edges import times_constant
from kdas_tf.space.mixed import MixedFanOut, make_operation
from kdas_tf.space.operations import PointwiseConv, SkipConnect
from kdas_tf.space.partial import check_partial_channels, join_channels, pass_by, split_channels

Shape = tuple[int | None, ...]

_ROWS = np.eye(len(EDGES), dtype="float32")  # its rows pick those of alpha

GROUPS = (tuple(range(INPUTS)), *((source,) for source in range(INPUTS, INPUTS + NODES - 1)))
"""Nodes whose edges are computed together: those that are there at the same time."""

EDGES_OF_GROUPS = tuple(
    [edge for source in sources for edge, (start, _) in enumerate(EDGES) if start == source] for sources in GROUPS
)
"""Rows of alpha that belong to the edges leaving the nodes of a group."""


class Cell(keras.layers.Layer):
    """A cell of the supernet or of a derived network: how it treats its inputs.

    Both inputs are brought to the cell's width by ReLU - 1x1 convolution - BN; the older one by a factorised reduce
    when the previous cell was a reduction, which made the newer one half as large (DARTS, `model.py`).

    Args:
        channels: channels of every node.
        reduction: whether the edges from the two inputs have stride 2.
        after_reduction: whether the previous cell was a reduction.
        affine: scale and offset in the batch normalisations (not in the supernet).

    Call arguments:
        older, newer: outputs of the two previous cells, `[batch, height, width, channels]`.

    Output shape: `[batch, height / stride, width / stride, concatenated nodes * channels]`.
    """

    concat: Sequence[int] = range(INPUTS, INPUTS + NODES)  # the nodes whose outputs are concatenated

    def __init__(self, channels: int, *, reduction: bool, after_reduction: bool, affine: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels
        self.reduction = reduction
        self.after_reduction = after_reduction
        self.affine = affine
        config = {"affine": affine, "dtype": self.dtype_policy}
        self.older_input: Operation = (
            SkipConnect(channels, stride=2, name="older", **config)
            if after_reduction
            else PointwiseConv(channels, name="older", **config)
        )
        self.newer_input = PointwiseConv(channels, name="newer", **config)

    def build(self, older_shape: Shape, newer_shape: Shape) -> None:
        self.older_input.build(older_shape)
        self.newer_input.build(newer_shape)
        input_shape = (*newer_shape[:3], self.channels)
        self.build_edges([input_shape] * INPUTS + [self._node_shape(newer_shape)] * NODES)

    def build_edges(self, node_shapes: list[Shape]) -> None:
        """Makes the operations on the edges; `node_shapes` are those of the inputs and the intermediate nodes."""
        raise NotImplementedError

    def stride(self, source: int) -> int:
        """Stride of the edges that leave a node."""
        return 2 if self.reduction and source < INPUTS else 1

    def input_nodes(self, older, newer, training: bool) -> list:
        """The two input nodes at the cell's width, `[1, batch, height, width, channels]`."""
        return [self.older_input(older, training=training), self.newer_input(newer, training=training)]

    def _node_shape(self, newer_shape: Shape) -> Shape:
        batch, *size = newer_shape[:3]
        step = 2 if self.reduction else 1
        return (batch, *(None if n is None else -(-n // step) for n in size), self.channels)

    def compute_output_shape(self, older_shape: Shape, newer_shape: Shape, weights_shape: Shape | None = None) -> Shape:
        return (*self._node_shape(newer_shape)[:3], len(self.concat) * self.channels)

    def get_config(self):
        names = ("channels", "reduction", "after_reduction", "affine")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("kdas_tf")
class SupernetCell(Cell):
    """A cell whose every edge is the mixture of all candidates.

    Node k is the sum of its edges' mixtures (Eq. 1), and the output the concatenation of the four nodes.

    Args:
        partial_channels: K, of which one K-th of the channels is mixed (PC-DARTS); 1 mixes all.
        **kwargs: as in `Cell`.

    Call arguments:
        older, newer: as in `Cell`.
        weights: `[14, 7]`, the softmax of alpha's rows.
    """

    def __init__(self, channels: int, *, partial_channels: int = 1, **kwargs: Any):
        super().__init__(channels, **kwargs)
        check_partial_channels(partial_channels, channels)
        self.partial_channels = partial_channels

    def build_edges(self, node_shapes: list[Shape]) -> None:
        self.fan_outs = []
        mixed = self.channels // self.partial_channels
        for sources, edges in zip(GROUPS, EDGES_OF_GROUPS, strict=True):
            fan_out = MixedFanOut(
                mixed,
                edges=len(edges),
                sources=len(sources),
                stride=self.stride(sources[0]),
                affine=self.affine,
                name="from_inputs" if sources[0] < INPUTS else f"from_node_{sources[0]}",
                dtype=self.dtype_policy,
            )
            fan_out.build((*node_shapes[sources[0]][:-1], mixed))
            self.fan_outs.append(fan_out)

    def call(self, older, newer, weights, training: bool = False):
        nodes, group = [], ops.concatenate(self.input_nodes(older, newer, training), 0)
        arriving: list[list] = [[] for _ in range(INPUTS + NODES)]
        beside = None
        for sources, edges, fan_out in zip(GROUPS, EDGES_OF_GROUPS, self.fan_outs, strict=True):
            if sources[0] >= INPUTS:
                nodes.append(self._node(arriving[sources[0]], beside))
                group = ops.expand_dims(nodes[-1], 0)
            if self.partial_channels > 1:
                group, others = split_channels(group, self.partial_channels)
                passing = [pass_by(each, self.stride(sources[0])) for each in ops.unstack(others, len(sources), axis=0)]
                beside = functools.reduce(ops.add, passing if beside is None else [beside, *passing])
            outputs = fan_out(group, times_constant(_ROWS[edges], weights), training=training)
            for edge, output in zip(edges, ops.unstack(outputs, len(edges), axis=0), strict=True):
                arriving[EDGES[edge][1]].append(output)
        nodes.append(self._node(arriving[-1], beside))
        return ops.concatenate(nodes, axis=-1)

    def _node(self, arriving: list, beside):
        """The sum of what comes through a node's edges; with partial channels, joined with what passed by them."""
        mixed = functools.reduce(ops.add, arriving)
        return mixed if beside is None else join_channels(mixed, beside)

    def get_config(self):
        return {**super().get_config(), "partial_channels": self.partial_channels}


@keras.saving.register_keras_serializable("kdas_tf")
class DerivedCell(Cell):
    """A cell of a derived network: each node is the sum of two operations.

    Args:
        genotype: the architecture, or its fields as in a Keras config.
        **kwargs: as in `Cell`.

    Call arguments:
        older, newer: as in `Cell`.
        drop_path: layer for the output of every operation but the identity (DARTS, `model.py`); None for no layer.
    """

    def __init__(self, channels: int, *, genotype: Genotype | Mapping[str, Any], **kwargs: Any):
        super().__init__(channels, **kwargs)
        self.genotype = as_genotype(genotype)
        self.concat = self.genotype.concat

    @property
    def pairs(self) -> Sequence[tuple[str, int]]:
        """(operation, source) of the eight edges, two for each node."""
        return self.genotype.reduce if self.reduction else self.genotype.normal

    def build_edges(self, node_shapes: list[Shape]) -> None:
        self.operations = []
        for name, source in self.pairs:
            operation = make_operation(
                name, self.channels, stride=self.stride(source), affine=self.affine, dtype=self.dtype_policy
            )
            operation.build(node_shapes[source])
            self.operations.append(operation)

    def call(self, older, newer, drop_path: Callable[..., Any] | None = None, training: bool = False):
        nodes = [ops.squeeze(x, 0) for x in self.input_nodes(older, newer, training)]
        arriving = []
        for operation, (_, source) in zip(self.operations, self.pairs, strict=True):
            output = ops.squeeze(operation(nodes[source], training=training), 0)
            if drop_path is not None and not operation.is_identity:
                output = drop_path(output, training=training)
            arriving.append(output)
            if len(arriving) % 2 == 0:
                nodes.append(arriving[-2] + arriving[-1])
        return ops.concatenate([nodes[i] for i in self.concat], axis=-1)

    def get_config(self):
        return {**super().get_config(), "genotype": genotype_config(self.genotype)}


def genotype_config(genotype: Genotype) -> dict[str, Any]:
    """A genotype's fields as lists, as a Keras config holds them."""
    return json.loads(json.dumps(dataclasses.asdict(genotype)))


def as_genotype(genotype: Genotype | Mapping[str, Any]) -> Genotype:
    """The inverse of `genotype_config`; a genotype is returned as it is."""
    return genotype if isinstance(genotype, Genotype) else Genotype(**genotype)


def cell_plan(cells: int, reductions: Sequence[int], channels: int) -> list[dict[str, Any]]:
    """Arguments of every cell of a network, as in `CellNetwork`: channels double at each reduction cell.

    Raises:
        UserError: no cell, a position outside the network, or one given twice.
    """
    if cells < 1 or len(set(reductions)) != len(reductions) or any(not 0 <= r < cells for r in reductions):
        raise UserError(
            "Expected at least one cell and reductions as distinct positions from 0 to cells - 1, "
            f"got cells={cells}, reductions={tuple(reductions)}.",
            code="range",
        )
    plan = []
    for i in range(cells):
        channels *= 2 if i in reductions else 1
        plan.append({"channels": channels, "reduction": i in reductions, "after_reduction": i - 1 in reductions})
    return plan
