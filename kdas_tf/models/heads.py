"""The head that all networks share: pooling, batch normalisation neck, classifier."""

from typing import Any, NamedTuple

import keras
from keras import ops

from kdas_tf.errors import UserError


class ReIDOutput(NamedTuple):
    """What every network of this project returns."""

    features: Any  # `[batch, D]`, the pooled features before the neck; the triplet loss compares these
    embedding: Any  # `[batch, D]`, after the neck; retrieval compares these
    logits: Any  # `[batch, identities]`, float32


@keras.saving.register_keras_serializable("kdas_tf")
class ReIDHead(keras.layers.Layer):
    """Global average pool - BN neck (scale trained, offset not) - classifier without bias (Luo et al., 2019).

    Args:
        num_identities: number of training identities.

    Input shape: `[batch, height, width, channels]`. Output: `ReIDOutput`.

    Raises:
        UserError: fewer than two identities.
    """

    def __init__(self, num_identities: int, **kwargs: Any):
        super().__init__(**kwargs)
        if num_identities < 2:
            raise UserError(f"A Re-ID network needs at least 2 training identities, got {num_identities}.")
        self.num_identities = num_identities
        # The pooled features are few: float32 (floatx) here costs nothing and keeps losses exact in mixed precision.
        dtype = keras.config.floatx()
        self.neck = keras.layers.BatchNormalization(center=False, momentum=0.9, epsilon=1e-5, name="neck", dtype=dtype)
        small = keras.initializers.RandomNormal(stddev=0.001)
        self.classifier = keras.layers.Dense(
            num_identities, use_bias=False, kernel_initializer=small, name="classifier", dtype=dtype
        )

    def build(self, input_shape):
        shape = (input_shape[0], input_shape[-1])
        self.neck.build(shape)
        self.classifier.build(shape)

    def call(self, feature_map, training: bool = False):
        features = ops.cast(ops.mean(feature_map, (1, 2)), keras.config.floatx())
        embedding = self.neck(features, training=training)
        return ReIDOutput(features, embedding, self.classifier(embedding))

    def get_config(self):
        return {**super().get_config(), "num_identities": self.num_identities}
