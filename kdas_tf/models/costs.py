"""What a network costs: multiply-adds of one image, by the shapes of its layers, without running it.

Counted as fvcore and thop do: convolutions and dense layers, each product with the addition that follows it as one.
Normalisations, pooling, activations, sums (a supernet's weighted ones too) and offsets are left out.
"""

import functools
import math
from typing import Any

import keras

from kdas_tf.genotype import INPUTS
from kdas_tf.models.cells import GROUPS, Cell, DerivedCell, SupernetCell
from kdas_tf.models.heads import ReIDHead
from kdas_tf.models.networks import CellNetwork
from kdas_tf.models.resnet import ResidualBlock, ResNet
from kdas_tf.models.stem import Stem
from kdas_tf.models.teacher_network import Teacher
from kdas_tf.space.edges import EdgeBatchNorm
from kdas_tf.space.mixed import MixedFanOut
from kdas_tf.space.operations import DepthwiseSeparableConv, Operation, PointwiseConv, Pooling, SkipConnect
from kdas_tf.space.part_aware import PartAware

Shape = tuple[Any, ...]


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


def _positions(shape: Shape) -> int:
    """All that is not channels: one image's positions, times the edges of an operation."""
    return math.prod(shape[:-1])


def _size(*kernels: Any) -> int:
    return sum(math.prod(kernel.shape) for kernel in kernels)


@_count.register
def _(layer: keras.layers.Conv2D, shape: Shape) -> int:
    # The kernel is [size, size, inputs / groups, filters].
    return _positions(layer.compute_output_shape(shape)) * _size(layer.kernel)


@_count.register
def _(layer: keras.layers.DepthwiseConv2D, shape: Shape) -> int:
    return _positions(layer.compute_output_shape(shape)) * _size(layer.kernel)


@_count.register
def _(layer: keras.layers.SeparableConv2D, shape: Shape) -> int:
    return _positions(layer.compute_output_shape(shape)) * _size(layer.depthwise_kernel, layer.pointwise_kernel)


@_count.register
def _(layer: keras.layers.Dense, shape: Shape) -> int:
    return _positions(shape) * _size(layer.kernel)


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
def _(operation: MixedFanOut, shape: Shape) -> int:
    return sum(_count(candidate, shape) for candidate in operation.candidates.values())


@_count.register
def _(stem: Stem, shape: Shape) -> int:
    return _chain(stem.blocks, shape)[0]


@_count.register
def _(head: ReIDHead, shape: Shape) -> int:
    return _size(head.classifier.kernel)  # pooled before it


@_count.register(EdgeBatchNorm)
@_count.register(Pooling)
def _(layer: keras.layers.Layer, shape: Shape) -> int:
    return 0


@_count.register
def _(operation: PointwiseConv, shape: Shape) -> int:
    return _per_edge(operation, shape) * _size(operation.kernel)


@_count.register
def _(operation: SkipConnect, shape: Shape) -> int:
    if operation.stride == 1:
        return 0
    return _per_edge(operation, shape) * _size(operation.even_kernel, operation.odd_kernel)


@_count.register
def _(operation: DepthwiseSeparableConv, shape: Shape) -> int:
    # The first of the repeats has the stride, so that all of them give as many positions.
    return _per_edge(operation, shape) * _size(*operation.depthwise_kernels, *operation.pointwise_kernels)


@_count.register
def _(operation: PartAware, shape: Shape) -> int:
    """As it is computed here: the strips' part of the last convolution once for a strip, not at every pixel."""
    edges, parts, inputs, hidden = operation.local_kernel.shape
    channels = operation.channels
    attention = 2 * parts * parts * hidden  # K Q^T, and the sum that it weighs
    strips = parts * hidden * (2 * hidden + channels)
    pixels = _per_edge(operation, shape) * inputs * channels
    return _size(operation.local_kernel) + edges * (attention + strips + pixels)


def _per_edge(operation: Operation, shape: Shape) -> int:
    """Positions of one edge's output; the edges are in the kernels."""
    return _positions(operation.compute_output_shape(shape)[1:])
