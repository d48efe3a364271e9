"""Settings of all batch normalisations in a network, Keras' and those of edges."""

from collections.abc import Iterator
from typing import Any

import keras

from kdas_tf.space.edges import EdgeBatchNorm
from kdas_tf.training.devices.replicas import mean_over_replicas


def configure_batch_norm(
    model: keras.Model, *, replicas: int, synchronized: bool = True, momentum: float | None = None
) -> None:
    """Sets what the normalisations of a built network share; call it before the first step is traced.

    Args:
        model: of this project or of keras.applications.
        replicas: number of replicas that share the global batch.
        synchronized: every replica normalises by the statistics of the global batch; otherwise by those of its own
            part, and only the moving statistics are means over the replicas (`own_statistics`).
        momentum: of the moving statistics; None keeps that of each layer. keras.applications ships 0.99 (ResNet50) and
            0.999 (MobileNetV2), which lag in runs of a few epochs: fine-tuned for five, rank-1 was 5 instead of 15.
    """
    together = replicas if synchronized else 1
    for layer in _normalisations(model):
        if isinstance(layer, EdgeBatchNorm):
            layer.replicas, layer.mean_over_replicas = together, mean_over_replicas
        else:
            layer.synchronized = together > 1
        if momentum is not None:
            layer.momentum = momentum


def own_statistics(model: keras.Model) -> list[keras.Variable]:
    """Moving statistics that differ from replica to replica after a step, because each has seen its own part."""
    statistics = []
    for layer in _normalisations(model):
        together = layer.replicas > 1 if isinstance(layer, EdgeBatchNorm) else layer.synchronized
        if not together and layer.trainable:
            statistics += [layer.moving_mean, layer.moving_variance]
    return statistics


def _normalisations(model: keras.Model) -> Iterator[Any]:
    for layer in model._flatten_layers():  # Keras has no public walk over layers inside layers
        if isinstance(layer, keras.layers.BatchNormalization | EdgeBatchNorm):
            yield layer
