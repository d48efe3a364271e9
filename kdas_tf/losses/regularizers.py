"""What a search may add to the objective of the architecture parameters; the paper adds nothing."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kdas_tf.genotype import EDGES, INPUTS, NODES, PRIMITIVES, Genotype, Pair
from kdas_tf.models.networks import derived_parameters


def beta_decay(alphas: Sequence[Any]):
    """Mean over all edges of log(sum over o of exp(alpha[o])): the regulariser of beta-DARTS.

    Its gradient in alpha[o] is softmax(alpha)[o] / edges, so it lowers most what is largest, and keeps one operation
    from growing far beyond the others. Source: Ye et al., CVPR 2022; Sunshine-Ye/Beta-DARTS, `architect.py`,
    `mlc_loss`. The mean is over the edges of all matrices together.

    Args:
        alphas: matrices `[14 edges, 7 candidates]`.

    Returns:
        Scalar; ln 7 = 1.95 where all alphas are 0.
    """
    return ops.mean(ops.logsumexp(ops.concatenate([ops.convert_to_tensor(alpha) for alpha in alphas], 0), -1))


class ParameterCosts(NamedTuple):
    """Trainable parameters of a derived network, taken apart.

    `operations` are two matrices `[14 edges, 6 operations]`, of the normal and of the reduction cells, without `none`:
    the parameters of an operation on an edge, in all cells of the kind together. `beside` is everything else.
    """

    beside: int
    operations: tuple[np.ndarray, np.ndarray]


def parameter_costs(**student: Any) -> ParameterCosts:
    """Takes the parameters of the networks that a search can derive apart, by edge and operation.

    Args:
        **student: arguments of `derived_parameters` but the genotype: num_identities, channels, cells, reductions ...
    """
    pools = [("max_pool_3x3", source) for _ in range(NODES) for source in range(INPUTS)]  # have no parameters
    beside = derived_parameters(Genotype(tuple(pools), tuple(pools)), **student)
    costs = np.zeros((2, len(EDGES), len(PRIMITIVES) - 1), np.int64)
    for kind, edge, column in np.ndindex(costs.shape):
        source, target = EDGES[edge]
        cells: list[list[Pair]] = [list(pools), list(pools)]
        cells[kind][2 * (target - INPUTS)] = (PRIMITIVES[1 + column], source)
        costs[kind, edge, column] = derived_parameters(Genotype(tuple(cells[0]), tuple(cells[1])), **student) - beside
    return ParameterCosts(beside, (costs[0], costs[1]))


def expected_parameters(alphas: Sequence[Any], costs: ParameterCosts):
    """Expected trainable parameters of the network that is derived from architecture parameters.

    beside + sum over edges e of 2 / n(e) * sum over o of softmax(alpha[e])[o] * costs[e, o], without `none`, where n(e)
    is the number of edges into e's node. As if every edge drew its operation by its weight, and every node two of its
    n edges with the same chance: the derivation's own choice of edges has no gradient. For a random genotype, whose
    alphas are 0, it is the exact mean.

    Args:
        alphas: of the normal and the reduction cells, `[14 edges, 7 candidates]` each.
        costs: from `parameter_costs`.

    Returns:
        Scalar, differentiable in the alphas.
    """
    kept = np.array([[2.0 / target] for _, target in EDGES])  # node k has k earlier nodes, and an edge from each
    total = float(costs.beside)
    for alpha, operations in zip(alphas, costs.operations, strict=True):
        weights = ops.softmax(ops.convert_to_tensor(alpha)[:, 1:], -1)
        total = total + ops.sum(weights * ops.convert_to_tensor((kept * operations).astype(keras.config.floatx())))
    return total


def over_budget(alphas: Sequence[Any], costs: ParameterCosts, budget: float):
    """max(0, expected parameters / budget - 1): nothing within the budget, the share beyond it otherwise.

    Args:
        alphas: of the normal and the reduction cells, `[14 edges, 7 candidates]` each.
        costs: from `parameter_costs`.
        budget: trainable parameters that the derived network should have at most.

    Returns:
        Scalar, differentiable in the alphas.
    """
    return ops.maximum(expected_parameters(alphas, costs) / budget - 1.0, 0.0)
