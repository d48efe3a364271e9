import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.losses.objective import Objective
from kdas_tf.models.heads import ReIDOutput
from kdas_tf.space.edges import EdgeBatchNorm
from kdas_tf.training.batch_norm import configure_batch_norm
from kdas_tf.training.devices.replicas import check_limits, replicas
from kdas_tf.training.optimizers import SGD
from kdas_tf.training.steps import TrainingModel

MOMENTUM = 0.75


class TwoNorms(keras.Model):
    """Both kinds of normalisations, side by side on the same numbers."""

    def __init__(self):
        super().__init__()
        self.keras_norm, self.edge_norm = keras.layers.BatchNormalization(), EdgeBatchNorm()
        self.dense = keras.layers.Dense(3)
        self.keras_norm.build((None, 5))
        self.edge_norm.build((1, None, 1, 1, 5))
        self.dense.build((None, 10))
        self.built = True

    def call(self, x, training=False):
        edges = self.edge_norm(keras.ops.reshape(x, (1, -1, 1, 1, 5)), training=training)
        features = keras.ops.concatenate([self.keras_norm(x, training=training), keras.ops.reshape(edges, (-1, 5))], -1)
        return ReIDOutput(features, features, self.dense(features))


def trained(strategy, images, *, synchronized):
    """The network after steps that do not move its weights."""
    with strategy.scope():
        network = TwoNorms()
        configure_batch_norm(network, replicas=replicas(), synchronized=synchronized, momentum=MOMENTUM)
        model = TrainingModel(network, None, Objective(), num_identities=3)
        model.compile(SGD()(learning_rate=0.0), jit_compile=False)
    batches = [{"image": image, "label": np.arange(8, dtype="int32") % 3} for image in images]
    signature = {"image": tf.TensorSpec((8, 5), tf.float32), "label": tf.TensorSpec((8,), tf.int32)}
    dataset = tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=signature)
    model.fit(dataset, steps_per_epoch=len(images), verbose=0, shuffle=False)
    return network


def moved(values):
    """A moving statistic after these values, from where it starts on."""
    start, *rest = values
    for value in rest:
        start = MOMENTUM * start + (1 - MOMENTUM) * value
    return start


@pytest.mark.parametrize("synchronized", [True, False])
def test_moving_statistics_are_those_of_the_batch_or_the_mean_of_its_parts(synchronized, two_devices):
    images = np.random.default_rng(0).normal(size=(3, 8, 5)).astype("float32") * np.linspace(1, 3, 8)[:, None] + 1
    network = trained(two_devices, images.astype("float32"), synchronized=synchronized)
    parts = [[image] if synchronized else np.split(image, 2) for image in images]
    means = moved([0.0, *(np.mean([part.mean(0) for part in each], 0) for each in parts)])
    for norm, ddof in ((network.keras_norm, 0), (network.edge_norm, 1)):  # the edges' variance is PyTorch's
        variances = moved([1.0, *(np.mean([part.var(0, ddof=ddof) for part in each], 0) for each in parts)])
        for statistic, expected in ((norm.moving_mean, means), (norm.moving_variance, variances)):
            replicated = [np.ravel(value.numpy()) for value in statistic.value.values]
            assert len(replicated) == 2
            np.testing.assert_allclose(replicated, [expected] * 2, rtol=1e-5)


def test_each_device_normalises_its_own_part_where_it_is_asked_to(two_devices):
    image = np.random.default_rng(1).normal(size=(8, 5)).astype("float32")
    network = trained(two_devices, image[None], synchronized=False)
    parts = next(iter(two_devices.experimental_distribute_dataset(tf.data.Dataset.from_tensors(image).rebatch(8))))
    output = two_devices.run(tf.function(lambda x: network(x, training=True).features), (parts,))
    for part, found in zip(np.split(image, 2), two_devices.experimental_local_results(output), strict=True):
        expected = (part - part.mean(0)) / np.sqrt(part.var(0) + 1e-3)
        np.testing.assert_allclose(found[:, :5], expected, atol=1e-5)
        expected = (part - part.mean(0)) / np.sqrt(part.var(0) + 1e-5)
        np.testing.assert_allclose(found[:, 5:], expected, atol=1e-5)


def test_a_limit_of_the_gradient_is_refused_on_several_devices_because_each_would_limit_its_own_part():
    limited = keras.optimizers.SGD(1.0, global_clipnorm=1.0)
    check_limits(limited, 1)
    check_limits(keras.optimizers.SGD(1.0), 2)
    for optimizer in (limited, keras.optimizers.LossScaleOptimizer(limited)):
        with pytest.raises(UserError, match=r"gradient_norm, global_clipnorm\) on 2 devices"):
            check_limits(optimizer, 2)
