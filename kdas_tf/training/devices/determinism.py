"""Makes two runs of the same steps equal bit for bit."""

import tensorflow as tf


def be_deterministic() -> None:
    """Asks TensorFlow for deterministic ops, and for sums whose order does not depend on names.

    Op determinism alone is not enough: the graph optimizer's arithmetic pass sorts the terms of a sum by the names of
    their nodes, and names carry counters (`layer_10` comes before `layer_8`, `layer_9` after it). A run that is
    continued skips stages that are done, so its counters differ from those of a run that never stopped, and its sums
    would differ in the last bit.

    It holds for the whole process and cannot be undone. Call it before anything is compiled.
    """
    tf.config.experimental.enable_op_determinism()
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
