"""The train steps: what one batch does to a network's weights, and in search to the architecture parameters."""

import concurrent.futures
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras.optimizers import Optimizer

from kdas_tf.losses.distillation import soft_targets
from kdas_tf.losses.objective import Objective, Terms
from kdas_tf.models.networks import Supernet
from kdas_tf.models.teacher_network import TeacherTable
from kdas_tf.training.batch_norm import own_statistics
from kdas_tf.training.devices.replicas import average_variables, check_limits, gather, replicas

Batch = Mapping[str, tf.Tensor]
Penalty = Callable[[Sequence[keras.Variable]], Any]


class DistilledModel(keras.Model):
    """A network in training: with its teacher, the objective and the temperature.

    Args:
        network: what learns; returns `ReIDOutput`.
        teacher: a network that returns `ReIDOutput`, a table of logits, or None where T stays 0.
        objective: of Eq. 9.
        num_identities: number of training identities.
        label_smoothing: of the labels, where T is 0.

    Batches are {"image": `[batch, height, width, 3]`, "label": `[batch]`, "index": `[batch]`}, with "teacher_image"
    where the teacher sees the photographs at another size.
    """

    TERMS: ClassVar[Any] = Terms  # what the objective has, each with a running mean

    def __init__(
        self,
        network: keras.Model,
        teacher: keras.Model | TeacherTable | None,
        objective: Objective,
        *,
        num_identities: int,
        label_smoothing: float = 0.0,
    ):
        super().__init__()
        if teacher is not None:
            teacher.trainable = False
        self.network, self.teacher, self.objective = network, teacher, objective
        self.num_identities, self.label_smoothing = num_identities, label_smoothing
        # In a weight, because a Python number would be frozen into the compiled step.
        self.temperature = self.add_weight(name="temperature", shape=(), initializer="zeros", trainable=False)
        self.built = True

    def call(self, images, training: bool = False):
        return self.network(images, training=training)

    def new_metrics(self, prefix: str = "") -> dict[str, keras.metrics.Mean]:
        """Makes one running mean for each term of the objective."""
        return {name: keras.metrics.Mean(name=prefix + name) for name in self.TERMS._fields}

    def targets(self, batch: Batch):
        """What the student should say about a batch (Eq. 5); runs the teacher only where T > 0."""
        teacher = self.teacher

        def teacher_logits():
            if teacher is None:
                return tf.zeros([tf.shape(batch["label"])[0], self.num_identities])
            if isinstance(teacher, TeacherTable):
                return teacher(batch["index"])
            return teacher(batch.get("teacher_image", batch["image"]), training=False).logits

        labels, smoothing = batch["label"], self.label_smoothing
        return soft_targets(teacher_logits, labels, self.num_identities, self.temperature, label_smoothing=smoothing)

    def terms(self, batch: Batch, targets) -> Terms:
        """Computes the objective on this replica's part of a batch, mining triplets in the whole of it."""
        output = self.network(batch["image"], training=True)
        return self.objective(
            targets=targets,
            logits=output.logits,
            temperature=self.temperature,
            features=gather(output.features),
            labels=gather(batch["label"]),
            replicas=replicas(),
        )

    def descend(
        self,
        batch: Batch,
        targets,
        variables: Sequence[keras.Variable],
        optimizer: Optimizer,
        metrics: Mapping[str, keras.metrics.Metric],
        penalty: Penalty | None = None,
    ) -> None:
        """One gradient step of the objective on some of the variables, with a penalty of theirs that is not logged."""
        values = [variable.value for variable in variables]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(values)
            terms = self.terms(batch, targets)
            total = terms.total if penalty is None else terms.total + penalty(variables) / replicas()
            loss = optimizer.scale_loss(total)
        # ZERO: a supernet without reduction cells does not use their alphas.
        gradients = tape.gradient(loss, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        optimizer.apply(gradients, variables)
        note(terms, metrics)

    def on_all_replicas(self, step: Callable[..., dict[str, Any]]) -> Any:
        """A step of all replicas as a graph; its results are means over the replicas of all machines."""
        strategy = self.distribute_strategy

        @tf.function(jit_compile=self.jit_compile, autograph=False)
        def run(*arguments):
            means = strategy.run(step, arguments)
            return {name: strategy.reduce("MEAN", mean, axis=None) for name, mean in means.items()}

        return run

    def make_train_function(self, force: bool = False) -> None:
        if getattr(self, "train_function", None) is None or force:
            step = self.on_all_replicas(self.train_step)
            self.train_function = lambda iterator: step(next(iterator))

    def finish(self, means: Mapping[str, keras.metrics.Mean]) -> dict[str, Any]:
        """Ends a step: moving statistics become the same on all replicas; returns the running means."""
        average_variables(own_statistics(self.network))
        return {name: mean.result() for name, mean in means.items()}


class TrainingModel(DistilledModel):
    """Trains all weights of a network: the teacher (T = 0) and the derived student."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.means = self.new_metrics()

    def compile(self, optimizer: Optimizer, **kwargs: Any) -> None:
        super().compile(optimizer=optimizer, **kwargs)
        check_limits(self.optimizer, self.distribute_strategy.num_replicas_in_sync)
        self.optimizer.build(self.network.trainable_variables)

    def train_step(self, batch: Batch) -> dict[str, Any]:
        self.descend(batch, self.targets(batch), self.network.trainable_variables, self.optimizer, self.means)
        return self.finish(self.means)


class SearchModel(DistilledModel):
    """Searches: alternates first-order steps on weights and on architecture parameters (Algorithm 1).

    Arguments are as in `DistilledModel`. A penalty of the architecture parameters is added to the objective in their
    steps; the paper's search has none. Batches are {"train": a batch of D_train, "val": a batch of D_val}.
    """

    # Whether the alphas are left as they are, for a callback to say: it chooses between compiled steps.
    alphas_rest = False

    def __init__(self, network: Supernet, *args: Any, penalty: Penalty | None = None, **kwargs: Any):
        super().__init__(network, *args, **kwargs)
        self.penalty = penalty
        self.train_means = self.new_metrics()
        self.val_means = self.new_metrics("val_")

    def compile(self, weight_optimizer: Optimizer, alpha_optimizer: Optimizer, **kwargs: Any) -> None:
        super().compile(optimizer=weight_optimizer, **kwargs)
        if self.dtype_policy.name == "mixed_float16":  # Keras does this for the first optimizer only
            alpha_optimizer = keras.optimizers.LossScaleOptimizer(alpha_optimizer)
        self.alpha_optimizer = alpha_optimizer
        for each in (self.optimizer, alpha_optimizer):
            check_limits(each, self.distribute_strategy.num_replicas_in_sync)
        self.optimizer.build(self.network.network_weights)
        self.alpha_optimizer.build(self.network.alphas)

    def train_step(self, batches: Mapping[str, Batch]) -> dict[str, Any]:
        val_step = self.resting_step if self.alphas_rest else self.alpha_step
        return val_step(batches, self.weight_step(batches))

    def weight_step(self, batches: Mapping[str, Batch]):
        """Algorithm 1, lines 5-6: w on a batch of D_train; returns the targets of the batch of D_val."""
        train, val = batches["train"], batches["val"]
        both = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), train, val)
        targets = tf.split(self.targets(both), 2)  # one pass of the teacher for both steps
        self.descend(train, targets[0], self.network.network_weights, self.optimizer, self.train_means)
        return targets[1]

    def alpha_step(self, batches: Mapping[str, Batch], targets) -> dict[str, Any]:
        """Lines 7-8: alpha on a batch of D_val, at the weights just updated (first order); returns all means."""
        network, optimizer = self.network, self.alpha_optimizer
        self.descend(batches["val"], targets, network.alphas, optimizer, self.val_means, self.penalty)
        return self.finish(self.all_means())

    def resting_step(self, batches: Mapping[str, Batch], targets) -> dict[str, Any]:
        """Instead of `alpha_step` while the alphas rest: only measures the objective on the batch of D_val."""
        note(self.terms(batches["val"], targets), self.val_means)
        return self.finish(self.all_means())

    def all_means(self) -> dict[str, keras.metrics.Mean]:
        """The running means of both steps, by the names that they are logged with."""
        return {**self.train_means, **{f"val_{name}": mean for name, mean in self.val_means.items()}}

    def make_train_function(self, force: bool = False) -> None:
        """Compiles the two steps apart, so that the first is optimised and run while the second is traced.

        People wait for the first step of a search; in one graph it takes half as long again (docs/performance.md).
        """
        if getattr(self, "train_function", None) is not None and not force:
            return
        strategy = self.distribute_strategy

        @tf.function(jit_compile=self.jit_compile, autograph=False)
        def weight_step(batches):
            return strategy.run(self.weight_step, (batches,))

        val_steps = {False: self.on_all_replicas(self.alpha_step), True: self.on_all_replicas(self.resting_step)}
        started = set()

        def train_function(iterator):
            batches, rest = next(iterator), self.alphas_rest
            if rest in started:
                return val_steps[rest](batches, weight_step(batches))
            started.add(rest)
            traced = weight_step.get_concrete_function(batches)
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                running = pool.submit(weight_step, batches)
                val_steps[rest].get_concrete_function(batches, traced.structured_outputs)
                return val_steps[rest](batches, running.result())

        self.train_function = train_function


def note(terms: Terms, metrics: Mapping[str, keras.metrics.Metric]) -> None:
    """Adds this replica's terms to the running means."""
    for name, value in terms._asdict().items():
        metrics[name].update_state(value * replicas())
