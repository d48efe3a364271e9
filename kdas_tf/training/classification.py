"""Pre-training: cross-entropy on classes, judged by top-1 and top-5 accuracy after every epoch."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from kdas_tf.data.pipeline import BatchShard
from kdas_tf.losses.distillation import distillation_loss, soft_targets
from kdas_tf.losses.objective import Objective
from kdas_tf.training.best import BestNetwork
from kdas_tf.training.devices.replicas import gather, replicas
from kdas_tf.training.devices.workers import batch_shard_of
from kdas_tf.training.steps import Batch, TrainingModel


class ClassificationTerms(NamedTuple):
    """Cross-entropy in nats, and the shares in percent of which the class is the first or among the first five."""

    total: Any
    top1: Any
    top5: Any


class ClassificationModel(TrainingModel):
    """Trains a network on classes: the objective without its triplet term, at T = 0.

    Batches are {"image": `[batch, height, width, 3]`, "label": `[batch]`}; those to judge by also hold "weight",
    `[batch]`, 0 for images that only fill a batch.

    Args:
        network: returns `ReIDOutput`; its identities are the classes.
        num_classes: number of classes.
        label_smoothing: in training; the loss of the images to judge by is that of the labels as they are.
    """

    TERMS = ClassificationTerms

    def __init__(self, network: keras.Model, *, num_classes: int, label_smoothing: float = 0.0):
        super().__init__(
            network, None, Objective(triplet_weight=0.0), num_identities=num_classes, label_smoothing=label_smoothing
        )
        self.val_means = self.new_metrics("val_")

    def terms(self, batch: Batch, targets) -> Any:
        """Computes the loss on this replica's part of a batch; the terms of all replicas add up to the batch's."""
        logits = self.network(batch["image"], training=True).logits
        loss = distillation_loss(targets, logits, self.temperature)
        top1, top5 = (ops.mean(among_first(logits, batch["label"], k)) for k in (1, 5))
        return ClassificationTerms(*(value / replicas() for value in (loss, top1, top5)))

    def test_step(self, batch: Mapping[str, tf.Tensor]) -> dict[str, Any]:
        logits, labels = self.network(batch["image"], training=False).logits, batch["label"]
        targets = soft_targets(lambda: logits, labels, self.num_identities, 0.0)
        losses = -ops.sum(targets * ops.log_softmax(logits, -1), -1)
        values = ClassificationTerms(losses, *(among_first(logits, labels, k) for k in (1, 5)))
        # Gathered: Keras averages the replicas' means, which is wrong where their parts weigh differently.
        weights = gather(batch["weight"])
        for name, value in values._asdict().items():
            self.val_means[name].update_state(gather(value), sample_weight=weights)
        return {f"val_{name}": mean.result() for name, mean in self.val_means.items()}


def among_first(logits, labels, k: int):
    """100 where the logit of the label is among the k greatest of its row, else 0; ties count against it.

    A network that says the same for all classes, or numbers that are not finite, has no class right. Logits are
    `[batch, classes]`, labels and the result (in percent) `[batch]`.
    """
    own = ops.take_along_axis(logits, ops.expand_dims(labels, -1), axis=-1)
    not_below = ops.sum(ops.cast(ops.logical_not(logits < own), "int32"), -1)  # the label's own is one of them
    return 100.0 * ops.cast(not_below <= k, "float32")


class Evaluation(BestNetwork):
    """Judges the network after every epoch by the images that are held out; all machines do their share.

    `batches` makes this process's shard of the batches to judge by; the settings are those of `BestNetwork`.
    """

    BY, LOGGED_AS = "top1", "val_"

    def __init__(self, model: ClassificationModel, batches: Callable[[BatchShard], tf.data.Dataset], **settings: Any):
        super().__init__(model.network, **settings)
        self.judged, self.batches = model, batches
        self.step = model.on_all_replicas(model.test_step)

    def judge(self) -> dict[str, float]:
        """Loss (nats), top-1 and top-5 (percent) of the network as it is now."""
        strategy = self.judged.distribute_strategy
        self.judged.reset_metrics()
        for batch in strategy.distribute_datasets_from_function(lambda _: self.batches(batch_shard_of(strategy))):
            values = self.step(batch)
        return {name: float(values[f"val_{name}"]) for name in ClassificationTerms._fields}
