"""Networks as plain functions of constants: no normalisations, no edge axis, nothing that is for training only."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.models.cells import DerivedCell
from kdas_tf.models.heads import ReIDHead
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import ResidualBlock, ResNet
from kdas_tf.models.stem import IMAGENET_MEAN, IMAGENET_STD
from kdas_tf.models.teacher import Teacher
from kdas_tf.serving.folding import fold, fold_functional, scale_and_offset
from kdas_tf.serving.plain_operations import Forward, chain, convolution, plain_operation


def plain_network(network: keras.Model) -> Forward:
    """Makes a function that computes a network's embeddings in inference.

    Args:
        network: a `Student`, a `ResNet` or a `Teacher`.

    Returns:
        A function of RGB images, float32 `[batch, height, width, 3]` in 0..255 of the network's size, that gives
        embeddings `[batch, D]` as the network does: not normalised to length 1.

    Raises:
        UserError: another kind of network.
    """
    if isinstance(network, Student):
        body = _student(network)
    elif isinstance(network, ResNet):
        layers = [_sequence(network.stem), *(_residual_block(block) for block in network.blocks)]
        body = chain([_centre, *layers])
    elif isinstance(network, Teacher):
        body = _teacher(network)
    else:
        raise UserError(f"Expected a Student, a ResNet or a Teacher to export, got a {type(network).__name__}.")
    return chain([body, _embedding(network.head)])


def _centre(images: tf.Tensor) -> tf.Tensor:
    std = np.asarray(IMAGENET_STD)
    return images * (1 / std).astype(np.float32) - (np.asarray(IMAGENET_MEAN) / std).astype(np.float32)


def _embedding(head: ReIDHead) -> Forward:
    # The pool between the last map and the neck keeps the neck out of the convolutions; it costs D multiplications.
    scale, offset = (values.astype(np.float32) for values in scale_and_offset(head.neck))
    return lambda feature_map: tf.reduce_mean(feature_map, (1, 2)) * scale + offset


def _teacher(network: Teacher) -> Forward:
    backbone, size = fold_functional(network.backbone), network.get_config()["image_size"]

    def forward(images: tf.Tensor) -> tf.Tensor:
        if tuple(images.shape[1:3]) != tuple(size):
            images = keras.ops.image.resize(images, size, interpolation="bilinear")
        return backbone(network.preprocess(images), training=False)

    return forward


def _sequence(layers: Sequence[keras.layers.Layer]) -> Forward:
    """Keras layers that follow one another; a normalisation after a convolution is folded."""
    functions: list[Forward] = []
    for layer, following in zip(layers, [*layers, None][1:], strict=True):
        if isinstance(layer, keras.layers.Conv2D):
            norm = following if isinstance(following, keras.layers.BatchNormalization) else None
            (kernel,), bias = fold(layer, norm)
            functions.append(convolution(kernel, bias, layer.strides[0], layer.padding.upper()))
        elif not isinstance(layer, keras.layers.BatchNormalization):
            functions.append(layer)
    return chain(functions)


def _residual_block(block: ResidualBlock) -> Forward:
    convolutions, shortcut = _sequence(block.convolutions), _sequence(block.shortcut)
    return lambda x: tf.nn.relu(convolutions(x) + shortcut(x))


def _student(network: Student) -> Forward:
    stem, cells = _sequence(network.stem.blocks), [_cell(cell) for cell in network.cells]

    def forward(images: tf.Tensor) -> tf.Tensor:
        older = newer = stem(_centre(images))
        for cell in cells:
            older, newer = newer, cell(older, newer)
        return newer

    return forward


def _cell(cell: DerivedCell) -> Forward:
    inputs = [plain_operation(cell.older_input), plain_operation(cell.newer_input)]
    operations = [plain_operation(operation) for operation in cell.operations]
    sources = [source for _, source in cell.pairs]

    def forward(older: tf.Tensor, newer: tf.Tensor) -> tf.Tensor:
        nodes = [inputs[0](older), inputs[1](newer)]
        for first in range(0, len(operations), 2):
            arriving = [operations[i](nodes[sources[i]]) for i in (first, first + 1)]
            nodes.append(arriving[0] + arriving[1])
        return tf.concat([nodes[i] for i in cell.concat], axis=-1)

    return forward
