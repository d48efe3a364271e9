"""What a network costs, by the shapes of its layers, without running it: multiply-adds of an image, and parameters.

Multiply-adds are counted as fvcore and thop do: convolutions and dense layers, each product with the addition that
follows it as one. Normalisations, pooling, activations, sums (a supernet's weighted ones too) and offsets do not count.
"""

import functools
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np

from kdas_tf.genotype import EDGES, INPUTS, NODES, OPERATIONS, PRIMITIVES, Genotype, Pair
from kdas_tf.models.cells import GROUPS, Cell, DerivedCell, SupernetCell, cell_plan
from kdas_tf.models.heads import ReIDHead
from kdas_tf.models.networks import CellNetwork, Student, trainable_parameters
from kdas_tf.models.resnet import ResidualBlock, ResNet
from kdas_tf.models.stem import Stem
from kdas_tf.models.teacher_network import Teacher
from kdas_tf.settings import PAPER_REDUCTIONS
from kdas_tf.space.base import Operation
from kdas_tf.space.mixed import make_operation

Shape = tuple[Any, ...]

_POOLS: tuple[Pair, ...] = tuple(("max_pool_3x3", source) for _ in range(NODES) for source in range(INPUTS))
"""A cell whose operations have no parameters."""


def multiply_adds(network: keras.Model, image_size: tuple[int, int]) -> int:
    """Counts the multiply-adds of one image through a network, its classifier included.

    Args:
        network: a Student, a Supernet, a ResNet or a Teacher.
        image_size: (height, width) in pixels. A teacher resizes images to its own size, so it has no influence there.

    Raises:
        TypeError: a layer with kernels that is not known here.
    """
    return _count(network, (1, *image_size, 3))


@functools.singledispatch
def _count(layer: Any, shape: Shape) -> int:
    """Multiply-adds of a layer; `shape` is that of its input, with one image."""
    if any(len(variable.shape) > 1 for variable in layer.variables):
        raise TypeError(f"The multiply-adds of a {type(layer).__name__} are not known.")
    return 0


def _chain(layers: list[keras.layers.Layer], shape: Shape) -> tuple[int, Shape]:
    """Multiply-adds of layers that follow one another, and the shape of what they give."""
    total = 0
    for layer in layers:
        total += _count(layer, shape)
        shape = layer.compute_output_shape(shape)
    return total, shape


@_count.register(keras.layers.Conv2D)
@_count.register(keras.layers.DepthwiseConv2D)
@_count.register(keras.layers.SeparableConv2D)
@_count.register(keras.layers.Dense)
def _(layer: keras.layers.Layer, shape: Shape) -> int:
    positions = math.prod(layer.compute_output_shape(shape)[:-1])
    return positions * sum(math.prod(weight.shape) for weight in layer.weights if len(weight.shape) > 1)


@_count.register
def _(network: Teacher, shape: Shape) -> int:
    backbone = network.backbone
    return _of_graph(backbone) + _count(network.head, (1, *backbone.output_shape[1:]))


def _of_graph(model: keras.Model) -> int:
    """A backbone of keras.applications: a graph of layers, each of which knows the shape of its input."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += _of_graph(layer)
        elif layer.variables:
            total += _count(layer, (1, *layer.input.shape[1:]))
    return total


@_count.register
def _(network: ResNet, shape: Shape) -> int:
    return _chain([*network.stem, *network.blocks, network.head], shape)[0]


@_count.register
def _(block: ResidualBlock, shape: Shape) -> int:
    return _chain(block.convolutions, shape)[0] + _chain(block.shortcut, shape)[0]


@_count.register
def _(network: CellNetwork, shape: Shape) -> int:
    total, newer = _chain([network.stem], shape)
    older = newer
    for cell in network.cells:
        total += _of_cell(cell, older, newer)
        older, newer = newer, cell.compute_output_shape(older, newer)
    return total + _count(network.head, newer)


def _of_cell(cell: Cell, older: Shape, newer: Shape) -> int:
    total = _count(cell.older_input, older) + _count(cell.newer_input, newer)
    inputs, nodes = newer[:3], cell.compute_output_shape(older, newer)[:3]
    for operation, source in _with_sources(cell):
        total += _count(operation, (*(inputs if source < INPUTS else nodes), operation.channels))
    return total


def _with_sources(cell: Cell) -> list[tuple[Operation, int]]:
    """What is on a cell's edges, with the node that the edges leave."""
    if isinstance(cell, SupernetCell):
        return [(fan_out, sources[0]) for sources, fan_out in zip(GROUPS, cell.fan_outs, strict=True)]
    assert isinstance(cell, DerivedCell)
    return [(operation, source) for operation, (_, source) in zip(cell.operations, cell.pairs, strict=True)]


@_count.register
def _(operation: Operation, shape: Shape) -> int:
    return operation.multiply_adds(shape)


@_count.register
def _(stem: Stem, shape: Shape) -> int:
    return _chain(stem.blocks, shape)[0]


@_count.register
def _(head: ReIDHead, shape: Shape) -> int:
    return math.prod(head.classifier.kernel.shape)  # pooled before it


def derived_parameters(
    genotype: Genotype,
    num_identities: int,
    *,
    channels: int = 64,
    cells: int = 8,
    reductions: Sequence[int] = PAPER_REDUCTIONS,
    image_size: Sequence[int] | None = None,
    stem: str = "inet4",
) -> int:
    """Counts the trainable parameters of the `Student` that a genotype gives, without making it.

    What does not depend on the operations is counted once for all genotypes, and each operation once for each width
    and stride, so that a search can afford to ask every epoch. Arguments are those of the student; image_size has no
    influence.
    """
    total = _parameters_beside_operations(genotype.concat, num_identities, channels, cells, tuple(reductions), stem)
    for cell in cell_plan(cells, reductions, channels):
        for name, source in genotype.reduce if cell["reduction"] else genotype.normal:
            stride = 2 if cell["reduction"] and source < INPUTS else 1
            total += _operation_parameters(cell["channels"], stride)[name]
    return total


@functools.lru_cache(maxsize=64)
def _operation_parameters(channels: int, stride: int) -> dict[str, int]:
    with _untouched_random_state():
        operations = {name: make_operation(name, channels, stride=stride) for name in OPERATIONS}
        for operation in operations.values():
            operation.build((None, 8, 8, channels))  # the size has no influence
    return {name: trainable_parameters(operation) for name, operation in operations.items()}


@functools.lru_cache(maxsize=16)
def _parameters_beside_operations(
    concat: tuple[int, ...], num_identities: int, channels: int, cells: int, reductions: tuple[int, ...], stem: str
) -> int:
    size: dict[str, Any] = {"channels": channels, "cells": cells, "reductions": reductions, "stem": stem}
    with _untouched_random_state():
        student = Student(Genotype(_POOLS, _POOLS, concat), num_identities, image_size=(8, 8), **size)
    return trainable_parameters(student)


@contextmanager
def _untouched_random_state() -> Iterator[None]:
    # Initializers draw their seeds from Python's generator: counting must not change what a run draws after it.
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


class ParameterCosts(NamedTuple):
    """Trainable parameters of a derived network, taken apart.

    `operations` are two matrices `[14 edges, 6 operations]`, of the normal and of the reduction cells, without `none`:
    the parameters of an operation on an edge, in all cells of the kind together. `beside` is everything else.
    """

    beside: int
    operations: tuple[np.ndarray, np.ndarray]


def parameter_costs(**student: Any) -> ParameterCosts:
    """Takes the parameters of the networks that a search can derive apart, by edge and operation.

    Args:
        **student: arguments of `derived_parameters` but the genotype: num_identities, channels, cells, reductions ...
    """
    beside = derived_parameters(Genotype(_POOLS, _POOLS), **student)
    costs = np.zeros((2, len(EDGES), len(PRIMITIVES) - 1), np.int64)
    for kind, edge, column in np.ndindex(costs.shape):
        source, target = EDGES[edge]
        cells = [list(_POOLS), list(_POOLS)]
        cells[kind][2 * (target - INPUTS)] = (PRIMITIVES[1 + column], source)
        costs[kind, edge, column] = derived_parameters(Genotype(tuple(cells[0]), tuple(cells[1])), **student) - beside
    return ParameterCosts(beside, (costs[0], costs[1]))
