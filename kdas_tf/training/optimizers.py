"""The optimizers of section 4.2: settings, and how they move weights by one kernel of TensorFlow's each."""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from kdas_tf.settings import check_range


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD:
    """SGD with momentum, for the supernet's weights (section 4.2.1). Call it with a learning rate.

    Raises:
        UserError: a number is out of its range.
    """

    momentum: float = 0.9
    weight_decay: float = 5e-4  # per step and unit of learning rate, decoupled from the gradient
    gradient_norm: float | None = None  # limit of its global norm; DARTS uses 5, the paper does not say

    def __post_init__(self):
        check_range(self, "momentum", least=0, below=1)
        check_range(self, "weight_decay", least=0)
        check_range(self, "gradient_norm", above=0)

    def __call__(self, *, learning_rate: float) -> keras.optimizers.Optimizer:
        """Makes the optimizer; the learning rate is that of the start."""
        momentum, limit = float(self.momentum), self.gradient_norm  # Keras refuses 0
        return OneKernelSGD(learning_rate, momentum, weight_decay=self.weight_decay, global_clipnorm=limit)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam, for the architecture parameters (section 4.2.1) and for training (4.2.2). Call it with a learning rate.

    Raises:
        UserError: a number is out of its range.
    """

    weight_decay: float = 5e-4  # as in `SGD`
    beta_1: float = 0.9  # decay of the gradient's mean (DARTS uses 0.5 for alpha, the paper does not say)
    beta_2: float = 0.999  # decay of its square

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

    _move: Callable[..., None] | None = None

    def kernel(self, rate) -> Callable[..., None]:
        """Makes what all weights share in a step, and returns what moves one: function(gradient, weight, index)."""
        raise NotImplementedError

    def apply(self, grads, trainable_variables=None):
        self._move = None
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
        if self._move is None:
            rate = tf.convert_to_tensor(learning_rate)
            self._decay = rate * (self.weight_decay or 0.0)
            self._move = self.kernel(rate)
        if self.weight_decay:
            value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
            tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=self._decay, delta=value)
        self._move(gradient, variable.handle, self._get_variable_index(variable))


class OneKernelSGD(_OneKernel, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with the same numbers."""

    def kernel(self, rate):
        momentum = tf.constant(float(self.momentum), rate.dtype)

        def move(gradient, weight, index):
            if not self.momentum:
                tf.raw_ops.ResourceApplyGradientDescent(var=weight, alpha=rate, delta=gradient)
                return
            sums = self.momentums[index].value.handle
            tf.raw_ops.ResourceApplyKerasMomentum(var=weight, accum=sums, lr=rate, grad=gradient, momentum=momentum)

        return move


class OneKernelAdam(_OneKernel, keras.optimizers.Adam):
    """`keras.optimizers.Adam` without amsgrad, with the same numbers but for rounding.

    Keras rounds 1 - beta_2 to float32 apart from beta_2's powers, which costs its steps some 1e-5 of their length.
    """

    def kernel(self, rate):
        step = tf.cast(self.iterations + 1, rate.dtype)
        beta1, beta2 = (tf.constant(beta, rate.dtype) for beta in (self.beta_1, self.beta_2))
        numbers = {"lr": rate, "beta1": beta1, "beta2": beta2, "epsilon": tf.constant(self.epsilon, rate.dtype)}
        numbers |= {"beta1_power": beta1**step, "beta2_power": beta2**step}

        def move(gradient, weight, index):
            mean, square = (kept[index].value.handle for kept in (self._momentums, self._velocities))
            tf.raw_ops.ResourceApplyAdam(var=weight, m=mean, v=square, grad=gradient, **numbers)

        return move
