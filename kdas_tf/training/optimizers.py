"""The optimizers of section 4.2, as functions of plain numbers."""

from typing import Any

import keras
import tensorflow as tf


class _OneOperation(keras.optimizers.Optimizer):
    """What optimizers share that move a variable by one kernel of TensorFlow's, where Keras writes a dozen operations.

    Networks of cells have hundreds of small weights, and what moves them waits to be traced and optimised before the
    first step, and takes its time in every one. All variables are decayed; `exclude_from_weight_decay` has no effect.
    """

    _numbers: Any = None

    def numbers(self, rate) -> tuple:
        """What all variables are moved by, as tensors, from the learning rate."""
        raise NotImplementedError

    def move(self, gradient, variable, index: int, *numbers) -> None:
        """Moves a variable, the optimizer's own of this index."""
        raise NotImplementedError

    def apply(self, grads, trainable_variables=None):
        self._numbers = None
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
        if self._numbers is None:  # once for all variables
            rate = tf.convert_to_tensor(learning_rate)
            self._numbers = rate * (self.weight_decay or 0.0), self.numbers(rate)
        decay, numbers = self._numbers
        if self.weight_decay:
            value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=decay, delta=value)
        self.move(gradient, variable, self._get_variable_index(variable), *numbers)


@keras.saving.register_keras_serializable("kdas_tf")
class MomentumSGD(_OneOperation, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with momentum in a third of the operations; the numbers are the same."""

    def numbers(self, rate):
        return rate, tf.constant(float(self.momentum), rate.dtype)

    def move(self, gradient, variable, index, *numbers):
        rate, momentum = numbers
        if not self.momentum:
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[index].value.handle,
            lr=rate,
            grad=gradient,
            momentum=momentum,
            use_nesterov=self.nesterov,
        )


@keras.saving.register_keras_serializable("kdas_tf")
class Adam(_OneOperation, keras.optimizers.Adam):
    """`keras.optimizers.Adam` in a seventh of the operations.

    The numbers are the same but for rounding: Keras rounds 1 - beta_2 to float32 apart from beta_2's powers, which
    costs its steps some 1e-5 of their length.

    Raises:
        ValueError: `amsgrad` is asked for.
    """

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        if self.amsgrad:
            raise ValueError("TensorFlow's kernel has no amsgrad: use keras.optimizers.Adam.")

    def numbers(self, rate):
        step = tf.cast(self.iterations + 1, rate.dtype)
        betas = [tf.constant(beta, rate.dtype) for beta in (self.beta_1, self.beta_2)]
        return rate, *betas, *(beta**step for beta in betas), tf.constant(self.epsilon, rate.dtype)

    def move(self, gradient, variable, index, *numbers):
        rate, beta1, beta2, beta1_power, beta2_power, epsilon = numbers
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=beta1_power,
            beta2_power=beta2_power,
            lr=rate,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            grad=gradient,
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
    return Adam(learning_rate, beta_1=beta_1, beta_2=beta_2, weight_decay=weight_decay)
