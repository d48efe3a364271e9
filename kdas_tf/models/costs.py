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
from keras import layers

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


def _count(layer: Any, shape: Shape) -> int:
    """Multiply-adds of a layer or a network; `shape` is that of its input, with one image."""
    match layer:
        case Operation():
            return layer.multiply_adds(shape)
        case ReIDHead():
            return math.prod(layer.classifier.kernel.shape)  # pooled before it
        case Stem():
            return _chain(layer.blocks, shape)[0]
        case ResidualBlock():
            return _chain(layer.convolutions, shape)[0] + _chain(layer.shortcut, shape)[0]
        case ResNet():
            return _chain([*layer.stem, *layer.blocks], shape)[0] + _count(layer.head, shape)
        case CellNetwork():
            return _of_cells(layer, shape)
        case Teacher():
            return _of_graph(layer.backbone) + _count(layer.head, shape)
        case layers.Conv2D() | layers.DepthwiseConv2D() | layers.SeparableConv2D() | layers.Dense():
            positions = math.prod(layer.compute_output_shape(shape)[:-1])
            return positions * sum(math.prod(weight.shape) for weight in layer.weights if len(weight.shape) > 1)
    if any(len(variable.shape) > 1 for variable in layer.variables):
        raise TypeError(f"The multiply-adds of a {type(layer).__name__} are not known.")
    return 0


def _chain(sequence: Sequence[layers.Layer], shape: Shape) -> tuple[int, Shape]:
    """Multiply-adds of layers that follow one another, and the shape of what they give."""
    total = 0
    for layer in sequence:
        total += _count(layer, shape)
        shape = layer.compute_output_shape(shape)
    return total, shape


def _of_graph(model: keras.Model) -> int:
    """A backbone of keras.applications: a graph of layers, each of which knows the shape of its input."""
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += _of_graph(layer)
        elif layer.variables:
            total += _count(layer, (1, *layer.input.shape[1:]))
    return total


def _of_cells(network: CellNetwork, shape: Shape) -> int:
    total, newer = _chain([network.stem], shape)
    older = newer
    for cell in network.cells:
        output = cell.compute_output_shape(older, newer)
        total += _count(cell.older_input, older) + _count(cell.newer_input, newer)
        for operation, source in _with_sources(cell):
            total += _count(operation, (*(newer if source < INPUTS else output)[:3], operation.channels))
        older, newer = newer, output
    return total + _count(network.head, newer)


def _with_sources(cell: Cell) -> list[tuple[Operation, int]]:
    """What is on a cell's edges, with the node that the edges leave."""
    if isinstance(cell, SupernetCell):
        return [(fan_out, sources[0]) for sources, fan_out in zip(GROUPS, cell.fan_outs, strict=True)]
    assert isinstance(cell, DerivedCell)
    return [(operation, source) for operation, (_, source) in zip(cell.operations, cell.pairs, strict=True)]


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

    Fast enough for every epoch of a search: what does not depend on the operations is counted once for all genotypes,
    each operation once for each width and stride. Arguments are those of the student; image_size has no influence.
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
    """Trainable parameters of a derived network, taken apart."""

    beside: int  # all but those of the operations on the edges
    # `[2, 14 edges, 6 operations]`, of the normal and of the reduction cells, without `none`: the parameters of an
    # operation on an edge, in all cells of the kind together.
    operations: np.ndarray


def parameter_costs(**student: Any) -> ParameterCosts:
    """Takes the parameters of the networks that a search can derive apart, by edge and operation.

    Arguments are those of `derived_parameters` but the genotype.
    """
    beside = derived_parameters(Genotype(_POOLS, _POOLS), **student)
    costs = np.zeros((2, len(EDGES), len(PRIMITIVES) - 1), np.int64)
    for kind, edge, column in np.ndindex(costs.shape):
        source, target = EDGES[edge]
        cells = [list(_POOLS), list(_POOLS)]
        cells[kind][2 * (target - INPUTS)] = (PRIMITIVES[1 + column], source)
        costs[kind, edge, column] = derived_parameters(Genotype(tuple(cells[0]), tuple(cells[1])), **student) - beside
    return ParameterCosts(beside, costs)
