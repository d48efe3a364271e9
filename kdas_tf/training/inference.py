"""How a network is used while and after it is trained: in inference mode, on the first device of this process."""

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
    function = getattr(network, _KEPT, None)
    if function is None:
        function = tf.function(lambda images: network(images, training=False), reduce_retracing=True)
        setattr(network, _KEPT, function)
    return function
