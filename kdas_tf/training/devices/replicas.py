"""What the replicas of a network, one on each device, do together inside a step."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from kdas_tf.errors import UserError

Strategy = tf.distribute.Strategy


def replicas() -> int:
    """Number of replicas that share the global batch, on all machines."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def gather(value):
    """All replicas' parts of a tensor, joined along the batch; gradients flow back to each part."""
    if replicas() == 1:
        return value
    # TensorFlow looks at the device of the tensor, which an argument of a graph does not have.
    return tf.distribute.get_replica_context().all_gather(tf.identity(value), axis=0)


def mean_over_replicas(value):
    """The mean of what the replicas hold of a tensor, or of each of a list; outside of their common step, the same."""
    context = tf.distribute.get_replica_context()
    return value if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, value)


def average_variables(variables: Sequence[keras.Variable]) -> None:
    """Gives variables the mean of what the replicas hold of them."""
    if variables and replicas() > 1:
        means = mean_over_replicas([variable.value for variable in variables])
        for variable, mean in zip(variables, means, strict=True):
            variable.assign(mean)


def check_limits(optimizer: keras.optimizers.Optimizer, number: int) -> None:
    """Refuses limits of the gradient on several replicas.

    Keras 3.15 limits what each replica has of the gradient before it adds up: steps would depend on their number.

    Raises:
        UserError: the optimizer has such a limit.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    limits = [name for name in ("clipnorm", "global_clipnorm", "clipvalue") if getattr(inner, name, None)]
    if limits and number > 1:
        raise UserError(
            f"Expected no limit of the gradient (gradient_norm, {limits[0]}) on {number} devices: Keras applies it to "
            "each device's part. Leave it out, or give --num_devices=1."
        )
