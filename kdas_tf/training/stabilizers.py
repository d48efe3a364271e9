"""What keeps a search from collapsing onto operations that are merely easy to train; the paper has none of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kdas_tf.errors import UserError
from kdas_tf.losses.regularizers import beta_decay, expected_parameters, over_budget
from kdas_tf.models.costs import parameter_costs
from kdas_tf.settings import Stabilizers


class AlphaWarmup(keras.callbacks.Callback):
    """Leaves the alphas as they start in the first epochs, so that they judge weights that have learned something.

    Their optimizer rests too. Source: PC-DARTS (Xu et al., 2020, section 4.2), where it is 15 of 50 epochs.

    Raises:
        UserError: the alphas would never move.
    """

    def __init__(self, epochs: int, *, of: int):
        super().__init__()
        if not 0 <= epochs < of:
            expected = f"alpha_warmup_epochs from 0 to {of - 1} in a search of {of} epochs"
            raise UserError(f"Expected {expected}, got {epochs}.", code="range")
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.alphas_rest = epoch < self.epochs


class AlphaPenalty(keras.callbacks.Callback):
    """What is added to the objective in the steps on the alphas, and its logs.

    weight(epoch) * `beta_decay` + budget_weight * `over_budget`, each only if it is asked for. The weight of
    `beta_decay` grows linearly, from 0 in the first epoch towards `beta_weight` after the last, as in the authors' code
    (50 * epoch / epochs), or is constant. At a budget_weight of 10 the gradient in an alpha is a sixth to a half of the
    objective's in a fresh supernet (0.07, of one batch, changing its sign).

    Make it in the strategy's scope, and give it to `fit`, and to the model if `is_on`.

    Logged after an epoch: `beta_weight` and `beta_decay`; `expected_parameters`.

    Raises:
        UserError: a budget that no derived network keeps.
    """

    def __init__(self, settings: Stabilizers, *, epochs: int, student: Mapping[str, Any]):
        super().__init__()
        self.settings, self.epochs = settings, epochs
        # In a weight, because a Python number would be frozen into the compiled step.
        self.weight = keras.Variable(0.0, trainable=False, name="beta_weight") if settings.beta_weight else None
        self.budget = settings.parameter_budget or 0.0
        self.costs = None if settings.parameter_budget is None else parameter_costs(**student)
        if self.costs is not None and self.costs.beside >= self.budget:
            raise UserError(
                f"Expected a parameter_budget above {self.costs.beside:,}, what the network has beside the operations "
                f"of its cells, got {self.budget:,}.",
                code="range",
            )

    @property
    def is_on(self) -> bool:
        """Whether there is anything to add."""
        return self.weight is not None or self.costs is not None

    def __call__(self, alphas: Sequence[Any]):
        """The penalty, a scalar that is differentiable in the alphas."""
        penalty = 0.0
        if self.weight is not None:
            penalty = penalty + self.weight * beta_decay(alphas)
        if self.costs is not None:
            penalty = penalty + self.settings.budget_weight * over_budget(alphas, self.costs, self.budget)
        return penalty

    def on_epoch_begin(self, epoch, logs=None):
        if self.weight is not None:
            grown = epoch / self.epochs if self.settings.beta_growth else 1.0
            self.weight.assign(self.settings.beta_weight * grown)

    def on_epoch_end(self, epoch, logs=None):
        alphas: Sequence[Any] = self.model.network.alphas
        measured: dict[str, Any] = {}
        if self.weight is not None:
            measured |= {"beta_weight": self.weight, "beta_decay": beta_decay(alphas)}
        if self.costs is not None:
            measured["expected_parameters"] = expected_parameters(alphas, self.costs)
        if logs is not None:
            logs.update({name: float(keras.ops.convert_to_numpy(value)) for name, value in measured.items()})
