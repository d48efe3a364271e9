"""What keeps a search from collapsing onto operations that are merely easy to train; the paper has none of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from kdas_tf.errors import UserError
from kdas_tf.losses.regularizers import beta_decay, expected_parameters, over_budget
from kdas_tf.models.costs import parameter_costs


class AlphaWarmup(keras.callbacks.Callback):
    """Leaves the alphas as they start in the first epochs, so that they judge weights that have learned something.

    Their optimizer rests too. Source: PC-DARTS (Xu et al., 2020, section 4.2), where it is 15 of 50 epochs.

    Args:
        epochs: in which the alphas rest.
        of: epochs of the search.

    Raises:
        UserError: the alphas would never move.
    """

    def __init__(self, epochs: int, *, of: int):
        super().__init__()
        if not 0 <= epochs < of:
            raise UserError(
                f"Expected alpha_warmup_epochs from 0 to {of - 1} in a search of {of} epochs, got {epochs}.",
                code="range",
            )
        self.epochs = epochs

    def on_epoch_begin(self, epoch, logs=None):
        self.model.alphas_rest = epoch < self.epochs


class AlphaPenalty(keras.callbacks.Callback):
    """What is added to the objective in the steps on the alphas, and its logs.

    weight(epoch) * `beta_decay` + budget_weight * `over_budget`, each only if it is asked for. Made under the strategy,
    given to the model if `is_on`, and to `fit`.

    Logged after an epoch: `beta_weight` and `beta_decay`; `expected_parameters`.

    Args:
        epochs: of the search.
        student: arguments of the network that would be derived, as in `ArchitectureLog`.
        beta_weight: of the beta-DARTS regulariser; 0 leaves it out.
        beta_growth: its weight grows linearly, from 0 in the first epoch towards `beta_weight` after the last, as in
            the authors' code (50 * epoch / epochs); constant otherwise.
        parameter_budget: trainable parameters that the derived network should have at most; None leaves it out.
        budget_weight: of the share by which the expected parameters exceed the budget. At 10 the gradient in an alpha
            is a sixth to a half of the objective's in a fresh supernet (0.07, of one batch, changing its sign).

    Raises:
        UserError: a negative weight, or a budget that no derived network keeps.
    """

    def __init__(self, stabilizers, *, epochs: int, student: Mapping[str, Any]):
        beta_weight, beta_growth = stabilizers.beta_weight, stabilizers.beta_growth
        parameter_budget, budget_weight = stabilizers.parameter_budget, stabilizers.budget_weight
        super().__init__()
        if min(beta_weight, budget_weight) < 0:
            raise UserError(f"Expected beta_weight and budget_weight >= 0, got {beta_weight} and {budget_weight}.")
        self.epochs = epochs
        self.beta_weight = beta_weight
        self.beta_growth = beta_growth
        self.budget = parameter_budget or 0.0
        self.budget_weight = budget_weight
        # In a weight, because a Python number would be frozen into the compiled step.
        self.weight = keras.Variable(0.0, trainable=False, name="beta_weight") if beta_weight else None
        self.costs = None if parameter_budget is None else parameter_costs(**student)
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
            penalty = penalty + self.budget_weight * over_budget(alphas, self.costs, self.budget)
        return penalty

    def on_epoch_begin(self, epoch, logs=None):
        if self.weight is not None:
            self.weight.assign(self.beta_weight * (epoch / self.epochs if self.beta_growth else 1.0))

    def on_epoch_end(self, epoch, logs=None):
        alphas = self.model.network.alphas
        if logs is not None and self.weight is not None:
            logs["beta_weight"] = float(keras.ops.convert_to_numpy(self.weight))
            logs["beta_decay"] = float(keras.ops.convert_to_numpy(beta_decay(alphas)))
        if logs is not None and self.costs is not None:
            logs["expected_parameters"] = float(keras.ops.convert_to_numpy(expected_parameters(alphas, self.costs)))
