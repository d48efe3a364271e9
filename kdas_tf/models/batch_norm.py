"""Settings of all batch normalisations in a network, whoever wrote them."""

import keras

from kdas_tf.space.edges import EdgeBatchNorm


def configure_batch_norm(model: keras.Model, *, replicas: int, momentum: float | None = None) -> None:
    """Sets what the normalisations of a built network share; call it before the first step is traced.

    Args:
        model: any Keras model, of this project or of keras.applications.
        replicas: number of replicas whose batches are normalised together; 1 keeps them apart.
        momentum: of the moving statistics; None leaves it. keras.applications ships 0.99 (ResNet50) and 0.999
            (MobileNetV2), which lag in runs of a few epochs: fine-tuned for five, rank-1 was 5 instead of 15.
    """
    for layer in model._flatten_layers():  # Keras has no public walk over layers inside layers
        if isinstance(layer, (keras.layers.BatchNormalization, EdgeBatchNorm)):
            if isinstance(layer, EdgeBatchNorm):
                layer.replicas = replicas
            else:
                layer.synchronized = replicas > 1
            if momentum is not None:
                layer.momentum = momentum
