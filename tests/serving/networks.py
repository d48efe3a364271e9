"""Small networks whose every weight and statistic says something, and what they give."""

import keras
import numpy as np

from kdas_tf import genotype
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import ResNet
from kdas_tf.models.teacher_network import Teacher

SIZE = (32, 16)

ALL = genotype.Genotype(
    normal=(
        *(("max_pool_3x3", 0), ("avg_pool_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 1)),
        *(("dil_conv_3x3", 2), ("part_aware", 0), ("part_aware", 3), ("sep_conv_5x5", 1)),
    ),
    reduce=(
        *(("max_pool_3x3", 0), ("avg_pool_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 1)),
        *(("dil_conv_3x3", 0), ("part_aware", 1), ("part_aware", 2), ("dil_conv_5x5", 1)),
    ),
)
"""Every operation, at both strides."""


def student(**arguments):
    keras.utils.set_random_seed(0)  # here and below: kernels of some other run could round by more than is allowed
    arguments = {"image_size": SIZE, "channels": 12, "cells": 3, "reductions": (1,), **arguments}
    return untrained(Student(arguments.pop("genotype", genotype.AUTO_REID), 5, **arguments))


def resnet(depth=18, **arguments):
    keras.utils.set_random_seed(0)
    return untrained(ResNet(depth, 5, image_size=SIZE, **arguments))


def teacher(backbone="MobileNetV2", **arguments):
    keras.utils.set_random_seed(0)
    arguments = {"image_size": (32, 32), **arguments}
    network = untrained(Teacher(backbone, 5, **arguments))
    # Random statistics drown what is in the images after so many layers: these get those of some images, but no
    # tiny variances, which would magnify what is lost by rounding.
    norms = [layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    network(photographs(8, arguments["image_size"], seed=2).astype("float32"), training=True)
    for layer in norms:
        variance = layer.moving_variance
        variance.assign(variance + 0.2 * keras.ops.mean(variance))
    return network


def untrained(network, seed=0):
    """Normalisations start as the identity, which a fold that is wrong would pass."""
    generator = np.random.default_rng(seed)
    for layer in network._flatten_layers():
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            variable = getattr(layer, name, None)
            if isinstance(variable, keras.Variable):
                low, high = (0.5, 1.5) if name in ("gamma", "moving_variance") else (-0.5, 0.5)
                variable.assign(generator.uniform(low, high, variable.shape))
    return network


def photographs(number=4, size=SIZE, seed=1):
    """Smooth and different, so that embeddings differ: uint8 `[number, *size, 3]`."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (number, 4, 2, 3))
    rows, columns = np.arange(size[0]) * 4 // size[0], np.arange(size[1]) * 2 // size[1]
    noisy = coarse[:, rows][:, :, columns] + generator.normal(0, 20, (number, *size, 3))
    return np.clip(np.round(noisy), 0, 255).astype(np.uint8)


def size_of(network):
    return tuple(network.get_config()["image_size"])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embeddings(network, images):
    """What the Keras network gives, rows of length 1."""
    return unit(keras.ops.convert_to_numpy(network(np.asarray(images, np.float32), training=False).embedding))


def spread(rows):
    """The smallest distance between two embeddings, which a comparison must be finer than."""
    return min(np.abs(a - b).max() for i, a in enumerate(rows) for b in rows[:i])


def check(network, embed, size=None):
    """Embeds photographs with a function and with the network, whose embeddings must be the same."""
    images = photographs(size=size or size_of(network))
    expected = embeddings(network, images)
    assert spread(expected) > 1e-3  # or the comparison would say nothing
    np.testing.assert_allclose(embed(images), expected, atol=1e-5)
