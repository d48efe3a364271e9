"""Networks as plain functions of constants: no normalisations, no edge axis, nothing for training only."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.models.cells import DerivedCell
from kdas_tf.models.heads import ReIDHead
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import ResidualBlock, ResNet
from kdas_tf.models.stem import IMAGENET_MEAN, IMAGENET_STD
from kdas_tf.models.teacher_network import Teacher
from kdas_tf.serving.graphs.folding import fold, fold_functional
from kdas_tf.serving.graphs.targets import Target, TensorFlowTarget
from kdas_tf.space.plain_form import Array, Map, as_map, joined, scale_and_offset

Body = Callable[[Any], Any]


def plain_network(network: keras.Model, target: Target | None = None) -> Body:
    """Makes a function that computes a network's embeddings in inference, in a target (TensorFlow by default).

    It takes RGB images, 0..255, of the network's size and the target's type (float32 `[batch, height, width, 3]` in
    TensorFlow), and returns the network's embeddings `[batch, D]`, not of length 1.

    Raises:
        UserError: another kind of network, or a teacher in another target than TensorFlow.
    """
    target = target or TensorFlowTarget()
    if isinstance(network, Student):
        body = _student(network, target)
    elif isinstance(network, ResNet):
        body = _resnet(network, target)
    elif isinstance(network, Teacher) and isinstance(target, TensorFlowTarget):
        body = _teacher(network)
    elif isinstance(network, Teacher):
        raise UserError("A teacher's backbone is known to TensorFlow only. Export it as a SavedModel or to LiteRT.")
    else:
        raise UserError(f"Expected a Student, a ResNet or a Teacher to export, got a {type(network).__name__}.")
    embedding = _embedding(network.head, target)
    return lambda images: embedding(body(images))


def _embedding(head: ReIDHead, target: Target) -> Body:
    # The pool between the last map and the neck keeps the neck out of the convolutions; it costs D multiplications.
    scale, offset = (np.broadcast_to(values, head.neck.moving_mean.shape) for values in scale_and_offset(head.neck))
    scale, offset = scale.astype(np.float32), offset.astype(np.float32)
    return lambda x: target.vectors(target.shift(target.scale(target.mean(x), scale), offset))


def _teacher(network: Teacher) -> Body:
    backbone, size = fold_functional(network.backbone), network.get_config()["image_size"]

    def forward(images: tf.Tensor) -> tf.Tensor:
        if tuple(images.shape[1:3]) != tuple(size):
            images = keras.ops.image.resize(images, size, interpolation="bilinear")
        return backbone(network.preprocess(images), training=False)

    return forward


def _from_pixels(layers: Sequence[keras.layers.Layer], target: Target) -> Callable[[Any], Map]:
    """The centring of the pixels and the layers after it; the division by std becomes part of the first kernel."""
    mean, std = np.asarray(IMAGENET_MEAN, np.float32), np.asarray(IMAGENET_STD)
    sequence = _sequence(layers, target, divisor=std)
    return lambda images: sequence(as_map(target, target.shift(images, -mean)))


def _sequence(
    layers: Sequence[keras.layers.Layer], target: Target, divisor: Array | None = None
) -> Callable[[Map], Map]:
    """Keras layers in sequence; a normalisation after a convolution is folded. `divisor` is of the input's channels.

    The layers are of `kdas_tf.models.stem.conv_norm`, where padding is half the kernel, and 3x3 pools of stride 2.
    """
    functions: list[Callable[[Map], Map]] = []
    for layer, following in zip(layers, [*layers, None][1:], strict=True):
        if isinstance(layer, keras.layers.Conv2D):
            norm = following if isinstance(following, keras.layers.BatchNormalization) else None
            (kernel,), bias = fold(layer, norm)
            if divisor is not None:
                kernel, divisor = (kernel / divisor[:, None]).astype(np.float32), None
            functions.append(_convolution(target, kernel, bias, layer.strides[0]))
        elif isinstance(layer, keras.layers.MaxPooling2D):
            functions.append(lambda x: as_map(target, target.max_pool(x.raw, 2)))
        elif isinstance(layer, keras.layers.ReLU):
            functions.append(lambda x: as_map(target, x.relu))
    return _chained(functions)


def _chained(functions: Sequence[Callable[[Map], Map]]) -> Callable[[Map], Map]:
    return lambda x: functools.reduce(lambda y, function: function(y), functions, x)


def _convolution(target: Target, kernel: Array, bias: Array, stride: int) -> Callable[[Map], Map]:
    return lambda x: as_map(target, target.convolution(x.raw, kernel, bias, stride))


def _resnet(network: ResNet, target: Target) -> Body:
    stem = _from_pixels(network.stem, target)
    blocks = _chained([_residual_block(block, target) for block in network.blocks])
    return lambda images: blocks(stem(images)).raw


def _residual_block(block: ResidualBlock, target: Target) -> Callable[[Map], Map]:
    convolutions, shortcut = _sequence(block.convolutions, target), _sequence(block.shortcut, target)
    return lambda x: as_map(target, target.relu(target.add(convolutions(x).raw, shortcut(x).raw)))


def _student(network: Student, target: Target) -> Body:
    stem, cells = _from_pixels(network.stem.blocks, target), [_cell(cell, target) for cell in network.cells]

    def forward(images: Any) -> Any:
        older = newer = stem(images)
        for cell in cells:
            older, newer = newer, cell(older, newer)
        return newer.raw

    return forward


def _cell(cell: DerivedCell, target: Target) -> Callable[[Map, Map], Map]:
    inputs = [cell.older_input.plain(target), cell.newer_input.plain(target)]
    operations = [operation.plain(target) for operation in cell.operations]
    sources = [source for _, source in cell.pairs]

    def forward(older: Map, newer: Map) -> Map:
        nodes = [inputs[0](older), inputs[1](newer)]
        for first in range(0, len(operations), 2):
            arriving = [operations[i](nodes[sources[i]]).raw for i in (first, first + 1)]
            nodes.append(as_map(target, target.add(*arriving)))
        return joined(target, [nodes[i] for i in cell.concat])

    return forward
