"""float16 with loss scaling: a step whose gradients overflow is left out, for weights and for alphas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.losses.objective import Objective
from kdas_tf.models.heads import ReIDOutput
from kdas_tf.training.optimizers import SGD, Adam
from kdas_tf.training.steps import SearchModel

pytestmark = pytest.mark.usefixtures("as_before")


class Linear(keras.Model):
    """The smallest network with weights and alphas."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)
        self.dense.build((None, 5))
        self.alphas = [self.add_weight(shape=(5,), initializer="zeros", dtype="float32", name="alpha")]
        self.network_weights = self.dense.trainable_variables
        self.built = True

    def call(self, images, training=False):
        features = images * keras.ops.cast(keras.ops.exp(self.alphas[0]), images.dtype)
        return ReIDOutput(features, features, self.dense(features))


def test_a_step_whose_gradients_overflow_changes_nothing_but_the_scale_and_the_next_one_learns():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    model = SearchModel(Linear(), None, Objective(), num_identities=3)
    model.compile(SGD()(learning_rate=0.1), Adam()(learning_rate=0.1))
    optimizers = (model.optimizer, model.alpha_optimizer)
    assert all(isinstance(optimizer, keras.optimizers.LossScaleOptimizer) for optimizer in optimizers)

    def step(images):
        batch = {"image": tf.constant(images, tf.float16), "label": tf.constant([0, 0, 1, 1])}
        return model.train_step({"train": batch, "val": batch})

    def state():
        inner = [variable for optimizer in optimizers for variable in optimizer.inner_optimizer.variables]
        return [np.array(variable) for variable in (*model.network.trainable_variables, *inner)]

    before = state()
    # A gradient of the kernel is image x (probability - label), here in the thousands; times 2^15 it is above 65504.
    losses = step(np.full((4, 5), 2000.0))
    assert all(np.isfinite(value) for value in losses.values())
    for one, other in zip(before, state(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [float(optimizer.dynamic_scale) for optimizer in optimizers] == [2.0**14] * 2

    step(np.random.default_rng(0).normal(size=(4, 5)))
    learned = state()[: len(model.network.trainable_variables)]
    assert all(not np.array_equal(one, other) for one, other in zip(before, learned, strict=False))
    assert {weight.dtype for weight in learned} == {np.dtype("float32")}
