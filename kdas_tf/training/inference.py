"""How a network is used while and after it is trained: in inference mode, on the first device of this process."""

import functools
from typing import Any

import keras
import tensorflow as tf

_KEPT = "_kdas_tf_inference"


def inference(network: keras.Model) -> Any:
    """A compiled function of images `[batch, height, width, 3]` that gives what the network gives in inference mode.

    The network keeps it, so a second call traces nothing; it sees the weights as they are when it is called.

    Keras' `predict` is of no use where a network is made for several devices: each device computes the whole batch, and
    the results of all are joined, so that there are more rows than images. On several machines it waits for the others.
    """
    kept = getattr(network, _KEPT, None)
    if kept is None:
        kept = _traced(network)
        setattr(network, _KEPT, kept)
    return kept


def _traced(network: keras.Model) -> Any:
    function = tf.function(lambda images: network(images, training=False))

    @functools.cache
    def of_size(size: tuple[int, ...]) -> Any:
        # By itself: TensorFlow warns of retracing where several networks are traced by calls of functions of one name.
        return function.get_concrete_function(tf.TensorSpec([None, *size], tf.float32))

    return lambda images: of_size(tuple(images.shape[1:]))(tf.cast(images, tf.float32))
