"""Multiply-adds against published counts, against TensorFlow's own count of the traced graph, and by hand."""

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops as graph_ops

from kdas_tf.genotype import DARTS_V2, GDAS_V1, Genotype
from kdas_tf.models.costs import multiply_adds
from kdas_tf.models.networks import Student, Supernet
from kdas_tf.models.resnet import ResNet
from kdas_tf.models.teacher_network import Teacher

PRODUCTS = ("Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2")
SIZE = (64, 32)
SMALL = {"image_size": SIZE, "channels": 12, "cells": 3, "reductions": (1,)}


def counted_by_tensorflow(network, size):
    """Half of the floating point operations that TensorFlow's profiler finds in a network's products."""
    step = tf.function(lambda x: network(x)).get_concrete_function(tf.TensorSpec((1, *size, 3), tf.float32))
    total = 0
    for operation in step.graph.get_operations():
        if operation.type in PRODUCTS:
            count = graph_ops.get_stats_for_node_def(step.graph, operation.node_def, "flops").value
            assert count, operation
            total += count
    return total / 2


@pytest.mark.parametrize(
    ("depth", "expected"),
    # torchvision's models at 224 x 224 with 1000 classes: the counts that fvcore, thop and NNI agree on. ResNet-18's
    # and -50's are in NNI's test_profiler.py, ResNet-34's in pycls.
    [(18, 1_814_073_344), (34, 3_663_761_408), (50, 4_089_184_256)],
)
def test_resnets_have_their_published_multiply_adds(depth, expected):
    with keras.StatelessScope():
        network = ResNet(depth, 1000, image_size=(224, 224))
    assert multiply_adds(network, (224, 224)) == expected


def test_a_resnet_is_counted_as_tensorflow_counts_it():
    network = ResNet(50, 7, image_size=SIZE, last_stride=1)
    assert multiply_adds(network, SIZE) == counted_by_tensorflow(network, SIZE)


ALL_PLAIN_OPERATIONS = Genotype(
    [(name, i % 2) for i, name in enumerate(("avg_pool_3x3", "skip_connect", "dil_conv_3x3", "dil_conv_5x5") * 2)],
    [(name, i % 2) for i, name in enumerate(("max_pool_3x3", "sep_conv_5x5", "sep_conv_3x3", "skip_connect") * 2)],
)


@pytest.mark.parametrize("stem", ["inet4", "cifar"])
@pytest.mark.parametrize("genotype", [DARTS_V2, GDAS_V1, ALL_PLAIN_OPERATIONS], ids=["DARTS", "GDAS", "all plain"])
def test_networks_of_cells_are_counted_as_tensorflow_counts_them(genotype, stem):
    network = Student(genotype, 7, stem=stem, **SMALL)
    assert multiply_adds(network, SIZE) == counted_by_tensorflow(network, SIZE)


@pytest.mark.parametrize(
    ("backbone", "size", "arguments", "hidden"),
    [
        ("MobileNetV2", (64, 32), {"alpha": 0.35}, 0),
        pytest.param("EfficientNetB0", (64, 64), {}, 0, marks=pytest.mark.slow),  # squeeze and excitation
        pytest.param("Xception", (96, 96), {}, 0, marks=pytest.mark.slow),  # separable convolutions
        # Networks inside of the network, and dense layers at every position. Its 7x7 convolutions, a group for each
        # channel, are traced as functions of their own, which the count does not enter: channels * positions * blocks.
        pytest.param(
            *("ConvNeXtTiny", (64, 64), {}, 49 * (96 * 256 * 3 + 192 * 64 * 3 + 384 * 16 * 9 + 768 * 4 * 3)),
            marks=pytest.mark.slow,
        ),
        pytest.param("NASNetMobile", (64, 64), {}, 0, marks=pytest.mark.slow),
    ],
)
def test_backbones_of_keras_applications_are_counted_as_tensorflow_counts_them(backbone, size, arguments, hidden):
    teacher = Teacher(backbone, 7, image_size=size, backbone_arguments=arguments)
    assert multiply_adds(teacher, size) == counted_by_tensorflow(teacher, size) + hidden


def test_a_teacher_is_counted_at_the_size_that_it_resizes_to():
    with keras.StatelessScope():
        teacher = Teacher("MobileNetV2", 7, image_size=(64, 32), backbone_arguments={"alpha": 0.35})
    assert multiply_adds(teacher, (128, 64)) == multiply_adds(teacher, (64, 32))


def test_counting_needs_neither_values_nor_drop_path():
    with keras.StatelessScope():
        one, other = (Student(DARTS_V2, 7, drop_path=rate, **SMALL) for rate in (0.0, 0.2))
    assert multiply_adds(one, SIZE) == multiply_adds(other, SIZE) > 1e6
    # Twice the pixels, twice the multiply-adds, but for the classifier's.
    classifier = 4 * 24 * 7
    assert multiply_adds(one, (128, 32)) - classifier == 2 * (multiply_adds(one, SIZE) - classifier)


@pytest.mark.parametrize(
    ("partial_channels", "reductions", "channels", "pixels", "skips"),
    # skip_connect is the identity, but for the 2 * 4 edges from the inputs of a reduction: a factorised reduce.
    [(1, (), 12, 16 * 8, 0), (4, (), 3, 16 * 8, 0), (1, (0,), 24, 8 * 4, 8)],
)
def test_a_supernet_is_counted_with_all_candidates_on_every_edge(partial_channels, reductions, channels, pixels, skips):
    pool = ("max_pool_3x3", 0)
    arguments = {**SMALL, "cells": 1, "reductions": reductions}
    without = Student(Genotype([pool] * 8, [pool] * 8), 7, **arguments)  # the same network with nothing on its edges
    with keras.StatelessScope():
        supernet = Supernet(7, partial_channels=partial_channels, **arguments)
    hidden, parts = channels // 3, 4
    separable = 9 * channels + channels * channels
    part_aware = parts * hidden * (channels + 2 * hidden + 2 * parts + channels) + pixels * channels * channels
    # On 14 edges sep_conv twice and dil_conv once at every pixel.
    expected = 14 * (3 * separable * pixels + part_aware) + skips * pixels * channels * channels
    assert multiply_adds(supernet, SIZE) - multiply_adds(without, SIZE) == expected


def test_a_network_with_unknown_layers_is_refused_instead_of_counted_wrong():
    class Unknown(keras.Model):
        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(3, 3))

    network = Unknown()
    network.build((None, *SIZE, 3))
    with pytest.raises(TypeError, match="multiply-adds of a Unknown are not known"):
        multiply_adds(network, SIZE)
