"""The optimizers of section 4.2: settings, and how they move weights by one kernel of TensorFlow's each."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from kdas_tf.settings import check_range


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD:
    """SGD with momentum, for the supernet's weights (section 4.2.1). Call it with a learning rate.

    Args:
        momentum: of the gradient.
        weight_decay: per step and unit of learning rate, decoupled from the gradient.
        gradient_norm: the gradient is scaled down to this global norm; DARTS uses 5, the paper does not say.

    Raises:
        UserError: a number is out of its range.
    """

    momentum: float = 0.9
    weight_decay: float = 5e-4
    gradient_norm: float | None = None

    def __post_init__(self):
        check_range(self, "momentum", least=0, below=1)
        check_range(self, "weight_decay", least=0)
        check_range(self, "gradient_norm", above=0)

    def __call__(self, *, learning_rate: float) -> keras.optimizers.Optimizer:
        """Makes the optimizer; the learning rate is that of the start."""
        limit = {"global_clipnorm": self.gradient_norm}
        return OneKernelSGD(learning_rate, momentum=self.momentum, weight_decay=self.weight_decay, **limit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam, for the architecture parameters (section 4.2.1) and for training (4.2.2). Call it with a learning rate.

    Args:
        weight_decay: per step and unit of learning rate, decoupled from the gradient.
        beta_1: decay of the gradient's mean (DARTS uses 0.5 for alpha, the paper does not say).
        beta_2: decay of its square.

    Raises:
        UserError: a number is out of its range.
    """

    weight_decay: float = 5e-4
    beta_1: float = 0.9
    beta_2: float = 0.999

    def __post_init__(self):
        check_range(self, "weight_decay", least=0)
        check_range(self, "beta_1 beta_2", least=0, below=1)

    def __call__(self, *, learning_rate: float) -> keras.optimizers.Optimizer:
        """Makes the optimizer; the learning rate is that of the start."""
        return OneKernelAdam(learning_rate, **dataclasses.asdict(self))


class _OneKernel(keras.optimizers.Optimizer):
    """What the optimizers share that move a weight by one kernel, where Keras writes a dozen operations or more.

    Networks of cells have hundreds of small weights. What moves them is traced and optimised before the first step,
    which takes half as long with one kernel (docs/performance.md). Every weight is decayed:
    `exclude_from_weight_decay` has no effect.
    """

    _numbers: Any = None

    def numbers(self, rate) -> tuple:
        """From the learning rate, the tensors by which all weights are moved."""
        raise NotImplementedError

    def move(self, gradient, variable, index: int, *numbers) -> None:
        """Moves the weight with this index among the optimizer's."""
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
        if self._numbers is None:  # once for all weights of a step
            rate = tf.convert_to_tensor(learning_rate)
            self._numbers = rate * (self.weight_decay or 0.0), self.numbers(rate)
        decay, numbers = self._numbers
        if self.weight_decay:
            value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=decay, delta=value)
        self.move(gradient, variable, self._get_variable_index(variable), *numbers)


class OneKernelSGD(_OneKernel, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with the same numbers."""

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
        )


class OneKernelAdam(_OneKernel, keras.optimizers.Adam):
    """`keras.optimizers.Adam` without amsgrad, with the same numbers but for rounding.

    Keras rounds 1 - beta_2 to float32 apart from beta_2's powers, which costs its steps some 1e-5 of their length.
    """

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
