import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.evaluation.features import extract
from kdas_tf.models.heads import ReIDHead
from kdas_tf.training.inference import inference


class Network(keras.Model):
    """A head on the pixels themselves, which counts how often it is traced."""

    def __init__(self):
        super().__init__()
        self.head = ReIDHead(2)
        self.head.build((None, None, None, 3))
        self.traced = 0
        self.built = True

    def call(self, images, training=False):
        self.traced += 1
        return self.head(images, training=training)


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (10, 4, 2, 3)).astype("float32")


def batches_of(images, size):
    return ({"image": images[i : i + size]} for i in range(0, len(images), size))


def test_a_network_is_traced_once_for_all_batches_and_calls(images):
    network = Network()
    first = extract(inference(network), batches_of(images, 4), total=10)  # the last batch has two images
    np.testing.assert_array_equal(extract(inference(network), batches_of(images, 4), total=10), first)
    assert network.traced == 1


def test_the_weights_are_those_of_the_moment(images):
    network = Network()
    function = inference(network)
    before = np.asarray(function(images).embedding)
    network.head.neck.moving_mean.assign([1.0, 2.0, 3.0])
    np.testing.assert_allclose(before - function(images).embedding, np.tile([1.0, 2.0, 3.0], (10, 1)), rtol=1e-3)


def test_a_network_made_for_several_replicas_gives_every_image_one_row(images):
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        network = Network()
    output = inference(network)(images)
    assert output.logits.shape == (10, 2)
    means = images.mean((1, 2)) / np.sqrt(1 + 1e-5)  # as the neck starts
    np.testing.assert_allclose(output.embedding, means, rtol=1e-5)
