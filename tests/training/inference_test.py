import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.evaluation.features import extract
from kdas_tf.training.inference import inference
from tests.evaluation.pixels import PixelNetwork, batches_of, ten_images


@pytest.fixture
def images():
    return ten_images()


def test_a_network_is_traced_once_for_all_batches_and_calls(images):
    network = PixelNetwork()
    first = extract(inference(network), batches_of(images, 4), total=10)  # the last batch has two images
    np.testing.assert_array_equal(extract(inference(network), batches_of(images, 4), total=10), first)
    assert network.traced == 1


def test_the_weights_are_those_of_the_moment(images):
    network = PixelNetwork()
    function = inference(network)
    before = np.asarray(function(images).embedding)
    network.head.neck.moving_mean.assign([1.0, 2.0, 3.0])
    np.testing.assert_allclose(before - function(images).embedding, np.tile([1.0, 2.0, 3.0], (10, 1)), rtol=1e-3)


def test_a_network_made_for_several_replicas_gives_every_image_one_row(images):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        network = PixelNetwork()
    output = inference(network)(images)
    assert output.logits.shape == (10, 2)
    means = images.mean((1, 2)) / np.sqrt(1 + 1e-5)  # as the neck starts
    np.testing.assert_allclose(output.embedding, means, rtol=1e-5)
