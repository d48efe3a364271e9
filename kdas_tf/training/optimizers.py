"""The optimizers of section 4.2, as functions of plain numbers."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kdas_tf")
class MomentumSGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` with momentum, in a third of the operations.

    A supernet has hundreds of small weights, and Keras updates each by seventeen operations, all of which wait to be
    traced and optimised before the first step. Here TensorFlow's kernels do it. The numbers are the same.

    All variables are decayed; `exclude_from_weight_decay` has no effect.
    """

    _rates: Any = None

    def apply(self, grads, trainable_variables=None):
        self._rates = None
        super().apply(grads, trainable_variables)

    def _apply_weight_decay(self, variables):
        """Does nothing: `update_step` decays."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        if tf.distribute.has_strategy():
            super()._backend_update_step(grads, trainable_variables, learning_rate)
            return
        # Keras would sum each gradient over one replica.
        for gradient, variable in zip(grads, trainable_variables, strict=True):
            self.update_step(gradient, variable.value, learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        if self._rates is None:  # once for all variables
            rate = tf.convert_to_tensor(learning_rate)
            self._rates = rate, rate * (self.weight_decay or 0.0), tf.constant(float(self.momentum), rate.dtype)
        rate, decay, momentum = self._rates
        if self.weight_decay:
            value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=decay, delta=value)
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=rate,
            grad=gradient,
            momentum=momentum,
            use_nesterov=self.nesterov,
        )


def momentum_sgd(
    *,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    gradient_norm: float | None = None,
) -> keras.optimizers.Optimizer:
    """SGD for the supernet's weights (section 4.2.1).

    Args:
        learning_rate: at the start; the search lowers it by a cosine.
        momentum: of the gradient.
        weight_decay: per step and unit of learning rate, decoupled from the gradient.
        gradient_norm: scale the gradient down to this global norm; DARTS uses 5, the paper does not say.
    """
    return MomentumSGD(learning_rate, momentum=momentum, weight_decay=weight_decay, global_clipnorm=gradient_norm)


def adam(
    *, learning_rate: float = 3.5e-4, weight_decay: float = 5e-4, beta_1: float = 0.9, beta_2: float = 0.999
) -> keras.optimizers.Optimizer:
    """Adam for the architecture parameters (0.02, section 4.2.1) and for training (3.5e-4, section 4.2.2).

    Args:
        learning_rate: at the start.
        weight_decay: per step and unit of learning rate, decoupled from the gradient.
        beta_1: decay of the gradient's mean (DARTS uses 0.5 for alpha, the paper does not say).
        beta_2: decay of its square.
    """
    return keras.optimizers.Adam(learning_rate, beta_1=beta_1, beta_2=beta_2, weight_decay=weight_decay)
