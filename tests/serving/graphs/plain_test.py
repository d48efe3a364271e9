import collections

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf import genotype
from kdas_tf.errors import UserError
from kdas_tf.models.networks import Supernet
from kdas_tf.serving.graphs.plain import plain_network
from tests.serving import networks

NETWORKS = {
    "Auto-ReID": networks.student,
    "DARTS": lambda: networks.student(genotype=genotype.DARTS_V2),
    "GDAS": lambda: networks.student(genotype=genotype.GDAS_V1),
    "odd sizes": lambda: networks.student(image_size=(37, 21)),
    "drop path": lambda: networks.student(drop_path=0.5),
    "small images": lambda: networks.student(image_size=(12, 8), stem="cifar"),
    "ResNet-18": networks.resnet,
    "ResNet-50": lambda: networks.resnet(50, conv_bias=False, last_stride=1),
    "MobileNetV2": networks.teacher,
}


def operations(function):
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    return collections.Counter(node.op for node in nodes)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "ResNet-50")) for n in NETWORKS])
def test_a_plain_network_gives_the_same_embeddings_without_normalisations(name):
    network = NETWORKS[name]()
    function = tf.function(plain_network(network), autograph=False)
    size = networks.size_of(network)
    images = networks.photographs(size=size).astype("float32")
    networks.check(network, lambda images: networks.unit(function(tf.constant(images, tf.float32))))
    raw = network(images, training=False).embedding
    np.testing.assert_allclose(function(images), raw, rtol=1e-3, atol=1e-4 * np.abs(raw).max())
    counts = operations(function.get_concrete_function(tf.TensorSpec([None, *size, 3], tf.float32)))
    assert not [name for name in counts if "BatchNorm" in name or name == "Rsqrt"]


def test_a_student_is_made_of_convolutions_with_bias_alone():
    function = tf.function(plain_network(networks.student()), autograph=False)
    counts = operations(function.get_concrete_function(tf.TensorSpec([None, *networks.SIZE, 3], tf.float32)))
    # Stem 3. Cells: inputs 2, 2 and (after the reduction: two halves) 3. Auto-ReID's normal cell: 2 sep_conv of 2, 5
    # dil_conv; its reduction cell: 1 sep_conv of 2, 4 dil_conv, 1 part_aware of two halves.
    assert counts["Conv2D"] == counts["BiasAdd"] == 3 + 2 + 2 + 3 + 2 * 9 + (2 + 4 + 2)
    # The neck; the centring of the pixels divides by nothing, since that is part of the first kernel.
    assert counts["Mul"] + counts["RealDiv"] == 1


def test_a_teacher_that_is_shown_another_size_resizes_as_in_keras():
    network = networks.teacher(image_size=(64, 32))
    plain = plain_network(network)
    networks.check(network, lambda images: networks.unit(plain(tf.constant(images, tf.float32))), size=(40, 24))


def test_a_supernet_is_refused():
    with pytest.raises(UserError, match="a Student, a ResNet or a Teacher to export, got a Supernet"):
        plain_network(Supernet(5, image_size=networks.SIZE, channels=4, cells=1, reductions=()))


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    ["ResNet50V2", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "Xception", "NASNetMobile", "MobileNetV3Small"],
)
def test_other_backbones_too(backbone):
    network = networks.teacher(backbone, image_size=(96, 96))
    images = networks.photographs(size=(96, 96)).astype("float32")
    function = tf.function(plain_network(network), autograph=False)
    np.testing.assert_allclose(networks.unit(function(images)), networks.embeddings(network, images), atol=1e-5)
