"""The optimizers of section 4.2: settings, and how they move weights by one kernel of TensorFlow's each.

Steps are those of `torch.optim`, with which DARTS and the strong baseline whose settings section 4.2 takes (Luo et al.,
2019, "Bag of Tricks") were made. Weight decay is coupled there: weight_decay * weight is added to the gradient, so
momentum and Adam's scaling act on it too. Decoupled (Loshchilov and Hutter, 2019), a weight loses
learning_rate * weight_decay of itself in a step, which at 3.5e-4 x 5e-4 is next to nothing.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kdas_tf.settings import check_range

EPSILON = 1e-8
"""Adam's, as in `torch.optim.Adam` and in the paper of Kingma and Ba."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD:
    """SGD with momentum, for the supernet's weights (section 4.2.1). Call it with a learning rate.

    Raises:
        UserError: a number is out of its range.
    """

    momentum: float = 0.9
    weight_decay: float = 5e-4
    decoupled: bool = False  # weight decay apart from the gradient, per step and unit of learning rate
    gradient_norm: float | None = None  # limit of its global norm; DARTS uses 5, the paper does not say

    def __post_init__(self):
        check_range(self, "momentum", least=0, below=1)
        check_range(self, "weight_decay", least=0)
        check_range(self, "gradient_norm", above=0)

    def __call__(self, *, learning_rate: float) -> keras.optimizers.Optimizer:
        """Makes the optimizer; the learning rate is that of the start."""
        momentum = float(self.momentum)  # Keras refuses 0
        decay: dict[str, Any] = {"weight_decay": self.weight_decay, "decoupled": self.decoupled}
        return OneKernelSGD(learning_rate, momentum, global_clipnorm=self.gradient_norm, **decay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam, for the architecture parameters (section 4.2.1) and for training (4.2.2). Call it with a learning rate.

    Raises:
        UserError: a number is out of its range.
    """

    weight_decay: float = 5e-4
    decoupled: bool = False  # as in `SGD`
    beta_1: float = 0.9  # decay of the gradient's mean (DARTS uses 0.5 for alpha, the paper does not say)
    beta_2: float = 0.999  # decay of its square

    def __post_init__(self):
        check_range(self, "weight_decay", least=0)
        check_range(self, "beta_1 beta_2", least=0, below=1)

    def __call__(self, *, learning_rate: float) -> keras.optimizers.Optimizer:
        """Makes the optimizer; the learning rate is that of the start."""
        return OneKernelAdam(learning_rate, epsilon=EPSILON, **dataclasses.asdict(self))


class _OneKernel(keras.optimizers.Optimizer):
    """What the optimizers share that move a weight by one kernel, where Keras writes a dozen operations or more.

    Networks of cells have hundreds of small weights. What moves them is traced and optimised before the first step,
    which takes half as long with one kernel (docs/performance.md). Every weight is decayed, biases and normalisations
    too ("and a 0.0005 weight decay bias"): `exclude_from_weight_decay` has no effect.
    """

    _move: Callable[..., None] | None = None

    def __init__(self, *arguments, decoupled: bool = False, **options):
        super().__init__(*arguments, **options)
        self.decoupled = decoupled

    def get_config(self):
        return {**super().get_config(), "decoupled": self.decoupled}

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
            decay = tf.constant(self.weight_decay or 0.0, rate.dtype)
            self._decay = rate * decay if self.decoupled else decay
            self._move = self.kernel(rate)
        if self.weight_decay:
            value = tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
            if self.decoupled:
                tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=self._decay, delta=value)
            else:
                gradient += self._decay * value
        self._move(gradient, variable.handle, self._get_variable_index(variable))


class OneKernelSGD(_OneKernel, keras.optimizers.SGD):
    """`torch.optim.SGD`'s steps: v = momentum * v + gradient; weight -= learning_rate * v.

    Keras' velocity holds the learning rate, so its steps lag when the rate falls; at a constant rate they are equal.
    """

    def kernel(self, rate):
        momentum = tf.constant(float(self.momentum), rate.dtype)

        def move(gradient, weight, index):
            if not self.momentum:
                tf.raw_ops.ResourceApplyGradientDescent(var=weight, alpha=rate, delta=gradient)
                return
            sums = self.momentums[index].value.handle
            tf.raw_ops.ResourceApplyMomentum(var=weight, accum=sums, lr=rate, grad=gradient, momentum=momentum)

        return move


class OneKernelAdam(_OneKernel, keras.optimizers.Adam):
    """`torch.optim.Adam`'s steps, which are Algorithm 1 of Kingma and Ba (2015): epsilon is added to sqrt(v_hat).

    Keras adds it to sqrt(v), and rounds 1 - beta_2 to float32 apart from beta_2's powers, which costs its steps some
    1e-5 of their length.
    """

    def kernel(self, rate):
        step = tf.cast(self.iterations + 1, rate.dtype)
        beta1, beta2 = (tf.constant(beta, rate.dtype) for beta in (self.beta_1, self.beta_2))
        power1, power2 = beta1**step, beta2**step
        epsilon = tf.constant(self.epsilon, rate.dtype) * tf.sqrt(1 - power2)  # the kernel adds it to sqrt(v)
        numbers = {"lr": rate, "beta1": beta1, "beta2": beta2, "epsilon": epsilon}
        numbers |= {"beta1_power": power1, "beta2_power": power2}

        def move(gradient, weight, index):
            mean, square = (kept[index].value.handle for kept in (self._momentums, self._velocities))
            tf.raw_ops.ResourceApplyAdam(var=weight, m=mean, v=square, grad=gradient, **numbers)

        return move
