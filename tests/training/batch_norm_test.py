import keras
import pytest

from kdas_tf.models.networks import Supernet
from kdas_tf.models.teacher_network import Teacher
from kdas_tf.space.edges import EdgeBatchNorm
from kdas_tf.training.batch_norm import configure_batch_norm


def normalisations(network):
    kinds = (keras.layers.BatchNormalization, EdgeBatchNorm)
    return [layer for layer in network._flatten_layers() if isinstance(layer, kinds)]


@pytest.fixture(scope="module")
def teacher():
    return Teacher("MobileNetV2", 4, image_size=(32, 32), backbone_arguments={"alpha": 0.35})


def test_every_normalisation_of_a_backbone_and_its_head_gets_the_momentum_or_keeps_its_own(teacher):
    configure_batch_norm(teacher, replicas=1, momentum=0.75)
    configure_batch_norm(teacher, replicas=1)
    # MobileNetV2: stem, expansion, depthwise and projection of 17 blocks (the first does not expand), last; the neck.
    assert len(normalisations(teacher)) == 1 + (17 * 3 - 1) + 1 + 1
    assert {layer.momentum for layer in normalisations(teacher)} == {0.75}


def test_with_several_replicas_all_normalise_the_global_batch(teacher):
    configure_batch_norm(teacher, replicas=2)
    assert all(layer.synchronized for layer in normalisations(teacher))
    configure_batch_norm(teacher, replicas=1)
    assert not any(layer.synchronized for layer in normalisations(teacher))


def test_the_normalisations_of_a_supernets_edges_are_reached():
    with keras.StatelessScope():
        supernet = Supernet(4, image_size=(32, 16), channels=4, cells=2, reductions=(1,))
    configure_batch_norm(supernet, replicas=2, momentum=0.75)
    edges = [layer for layer in normalisations(supernet) if isinstance(layer, EdgeBatchNorm)]
    # One stack ends each of the five nodes' fan-outs in both cells, besides those inside of operations.
    assert len(edges) > 2 * 5
    assert {(layer.replicas, layer.momentum) for layer in edges} == {(2, 0.75)}
