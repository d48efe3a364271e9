"""What a search may add to the objective of the architecture parameters; the paper adds nothing."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kdas_tf.genotype import EDGES
from kdas_tf.models.costs import ParameterCosts


def beta_decay(alphas: Sequence[Any]):
    """Mean over all edges of log(sum over o of exp(alpha[o])): the regulariser of beta-DARTS.

    Its gradient in alpha[o] is softmax(alpha)[o] / edges, so it lowers most what is largest, and keeps one operation
    from growing far beyond the others. Source: Ye et al., CVPR 2022; Sunshine-Ye/Beta-DARTS, `architect.py`,
    `mlc_loss`. The mean is over the edges of all matrices `[14 edges, 7 candidates]`; ln 7 = 1.95 where all are 0.
    """
    return ops.mean(ops.logsumexp(ops.concatenate([ops.convert_to_tensor(alpha) for alpha in alphas], 0), -1))


def expected_parameters(alphas: Sequence[Any], costs: ParameterCosts):
    """Expected trainable parameters of the network that is derived from architecture parameters.

    beside + sum over edges e of 2 / n(e) * sum over o of softmax(alpha[e])[o] * costs[e, o], without `none`, where n(e)
    is the number of edges into e's node. As if every edge drew its operation by its weight, and every node two of its
    n edges with the same chance: the derivation's own choice of edges has no gradient. For a random genotype, whose
    alphas are 0, it is the exact mean.

    Args:
        alphas: of the normal and the reduction cells, `[14 edges, 7 candidates]` each.
        costs: from `kdas_tf.models.costs.parameter_costs`.
    """
    kept = np.array([[2.0 / target] for _, target in EDGES])  # node k has k earlier nodes, and an edge from each
    total = float(costs.beside)
    for alpha, operations in zip(alphas, costs.operations, strict=True):
        weights = ops.softmax(ops.convert_to_tensor(alpha)[:, 1:], -1)
        total = total + ops.sum(weights * ops.convert_to_tensor((kept * operations).astype(keras.config.floatx())))
    return total


def over_budget(alphas: Sequence[Any], costs: ParameterCosts, budget: float):
    """max(0, `expected_parameters` / budget - 1): nothing within the budget, the share beyond it otherwise."""
    return ops.maximum(expected_parameters(alphas, costs) / budget - 1.0, 0.0)
