"""What is timed by gpu_jax.py, as pure functions of a state and a batch: forward, gradient and whole steps.

Arithmetic is that of kdas_tf.training.steps: the paper's objective (Eq. 9) with soft targets of a teacher's logits, SGD
with momentum and weight decay on the weights of a supernet and then Adam on its alphas, Adam on a student's weights.
The teacher's logits come from memory; what running it costs is ResNet-50's inference.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from jax_networks import SUPERNET, Scale, make_network, numpy_initializers

from kdas_tf.losses.distillation import soft_targets
from kdas_tf.losses.objective import Objective

TEMPERATURE = 2.0  # the search's first
PER_IDENTITY = 2


class State(NamedTuple):
    """All that a step changes, as lists of arrays; a student has no alphas."""

    weights: list
    alphas: list
    statistics: list
    weight_optimizer: list
    alpha_optimizer: list


class Batch(NamedTuple):
    """Images `[batch, height, width, 3]`, labels `[batch]` and the teacher's logits `[batch, identities]`."""

    images: Any
    labels: Any
    teacher_logits: Any


def make_batch(scale: Scale, size: int, seed: int) -> Batch:
    """A random batch of two photographs an identity, as NumPy arrays."""
    rng = np.random.default_rng(seed)
    images = rng.uniform(0, 255, (size, *scale.image_size, 3)).astype("float32")
    labels = np.repeat(rng.permutation(scale.identities)[: size // PER_IDENTITY], PER_IDENTITY).astype("int32")
    return Batch(images, labels, rng.normal(0, 3, (size, scale.identities)).astype("float32"))


class Trainee:
    """A network with its objective and optimizers; methods are pure and can be jitted.

    Args:
        name: one of `jax_networks.NETWORKS`.
        scale: sizes.
        policy: of Keras, "float32" or "mixed_bfloat16".
    """

    def __init__(self, name: str, scale: Scale, policy: str):
        self.searched = name.startswith(SUPERNET)
        self.network = make_network(name, scale, policy)
        self.objective = Objective()
        self.identities = scale.identities
        self.alphas = self.network.alphas if self.searched else []
        self.weights = self.network.network_weights if self.searched else self.network.trainable_variables
        with numpy_initializers():
            # Those of kdas_tf.training.optimizers, whose SGD is written with TensorFlow's kernels.
            optimizers = keras.optimizers
            self.alpha_optimizer = optimizers.Adam(0.02, weight_decay=5e-4)
            self.weight_optimizer = (
                optimizers.SGD(0.1, momentum=0.9, weight_decay=5e-4)
                if self.searched
                else optimizers.Adam(3.5e-4, weight_decay=5e-4)
            )
            self.weight_optimizer.build(self.weights)
            self.alpha_optimizer.build(self.alphas)
        self.places = {id(variable): i for i, variable in enumerate([*self.weights, *self.alphas])}

    def state(self) -> State:
        """The state before the first step, as NumPy arrays."""
        kinds = (self.weights, self.alphas, self.network.non_trainable_variables)
        optimizers = (self.weight_optimizer.variables, self.alpha_optimizer.variables if self.searched else [])
        return State(*([np.array(variable) for variable in variables] for variables in (*kinds, *optimizers)))

    def outputs(self, weights: Sequence, alphas: Sequence, statistics: Sequence, images, *, training: bool):
        """The network's `ReIDOutput` and its statistics after it."""
        given = [*weights, *alphas]
        trained = [given[self.places[id(variable)]] for variable in self.network.trainable_variables]
        return self.network.stateless_call(trained, statistics, images, training=training)

    def loss(self, weights: Sequence, alphas: Sequence, statistics: Sequence, batch: Batch):
        """The objective and the statistics after it."""
        output, statistics = self.outputs(weights, alphas, statistics, batch.images, training=True)
        targets = soft_targets(lambda: batch.teacher_logits, batch.labels, self.identities, TEMPERATURE)
        terms = self.objective(
            targets=targets,
            logits=output.logits,
            temperature=TEMPERATURE,
            features=output.features,
            labels=batch.labels,
        )
        return terms.total, statistics

    def inference(self, state: State, batch: Batch):
        """Embeddings, with moving statistics."""
        return self.outputs(*state[:3], batch.images, training=False)[0].embedding

    def forward(self, state: State, batch: Batch):
        """The objective of a batch in training mode."""
        return self.loss(*state[:3], batch)

    def gradient(self, state: State, batch: Batch):
        """The objective with its gradients in the weights and the alphas."""
        import jax

        return jax.value_and_grad(self.loss, argnums=(0, 1), has_aux=True)(*state[:3], batch)

    def step(self, state: State, batches: tuple[Batch, Batch]):
        """A step of training on the first batch, and in a search then one of the alphas on the second (Algorithm 1)."""
        import jax

        weights, alphas, statistics, weight_optimizer, alpha_optimizer = state
        descent: Callable = jax.value_and_grad(self.loss, has_aux=True)
        (loss, statistics), gradients = descent(weights, alphas, statistics, batches[0])
        weights, weight_optimizer = self.weight_optimizer.stateless_apply(weight_optimizer, gradients, weights)
        if self.searched:
            descent = jax.value_and_grad(self.loss, argnums=1, has_aux=True)
            (_, statistics), gradients = descent(weights, alphas, statistics, batches[1])
            alphas, alpha_optimizer = self.alpha_optimizer.stateless_apply(alpha_optimizer, gradients, alphas)
        return State(list(weights), list(alphas), list(statistics), list(weight_optimizer), list(alpha_optimizer)), loss


def work(what: str, searched: bool, multiply_adds: int, images: int) -> float:
    """Floating point operations of a call: two for each multiply-add, and the backward pass counts as two forward.

    Args:
        what: a method of `Trainee`.
        searched: of the network; its step takes two gradients, and that of the alphas needs none of the weights'.
        multiply_adds: of one image in a forward pass.
        images: in a batch.
    """
    passes = {"inference": 1, "forward": 1, "gradient": 3, "step": 5 if searched else 3}[what]
    return 2.0 * multiply_adds * images * passes


def policy_of(precision: str) -> str:
    """Keras' policy for one of gpu_jax.py's precisions."""
    return "mixed_bfloat16" if precision == "bfloat16" else "float32"


def keras_backend() -> str:
    """The backend that Keras runs on in this process."""
    return keras.config.backend()
