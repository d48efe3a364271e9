import itertools

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.genotype import EDGES, PRIMITIVES, Genotype
from kdas_tf.losses.regularizers import beta_decay, expected_parameters, over_budget
from kdas_tf.models.costs import derived_parameters, parameter_costs

STUDENT = {"num_identities": 7, "channels": 8, "cells": 3, "reductions": (1,)}
POOLS = tuple(("max_pool_3x3", source) for _ in range(4) for source in (0, 1))


@pytest.fixture(scope="module")
def costs():
    return parameter_costs(**STUDENT)


@pytest.fixture
def alphas():
    return list(np.random.default_rng(0).normal(size=(2, 14, 7)).astype("float32"))


def decided(seed):
    """Alphas that are sure of one operation on each edge, and those operations."""
    columns = np.random.default_rng(seed).integers(1, 7, 14)
    return (50 * np.eye(7)[columns]).astype("float32"), [PRIMITIVES[column] for column in columns]


def parameters_by_hand(name, c, stride):
    """Trainable parameters of an operation at c channels, counted from its definition."""
    third, norm = c // 3, 2 * c
    reduce = c * c + norm if stride == 2 else 0
    # part_aware: four strips' convolutions with bias and norm, keys and queries with bias, the last convolution.
    part = 4 * (c * third + third + 2 * third) + 2 * (third * third + third) + (c + third) * c + norm
    sizes = {"skip_connect": reduce, "sep_conv_3x3": 2 * (9 * c + c * c + norm), "dil_conv_3x3": 9 * c + c * c + norm}
    return {**sizes, "part_aware": part}.get(name, 0)


def expected_by_hand(alphas):
    """One number after another: cells of 8, 16 (the reduction) and 16 channels."""
    total = derived_parameters(Genotype(POOLS, POOLS), **STUDENT)
    for channels, alpha in ((8, alphas[0]), (16, alphas[1]), (16, alphas[0])):
        for (source, target), row in zip(EDGES, alpha, strict=True):
            stride = 2 if alpha is alphas[1] and source < 2 else 1
            exponentials = np.exp(row.astype("float64"))[1:]
            for name, weight in zip(PRIMITIVES[1:], exponentials / exponentials.sum(), strict=True):
                total += 2 / target * weight * parameters_by_hand(name, channels, stride)
    return total


def test_beta_decay_is_the_mean_logsumexp_of_all_edges(alphas):
    expected = np.mean([np.log(np.sum(np.exp(row))) for alpha in alphas for row in alpha.astype("float64")])
    assert float(beta_decay(alphas)) == pytest.approx(expected, rel=1e-6)
    assert float(beta_decay([np.zeros((14, 7), "float32")])) == pytest.approx(np.log(7))


def test_beta_decay_lowers_most_what_is_largest_and_stays_finite(alphas):
    variables = [tf.Variable(100 * alpha) for alpha in alphas]
    with tf.GradientTape() as tape:
        value = beta_decay(variables)
    assert np.isfinite(value)
    for alpha, gradient in zip(variables, tape.gradient(value, variables), strict=True):
        shifted = np.exp(alpha.numpy() - alpha.numpy().max(1, keepdims=True))
        np.testing.assert_allclose(gradient, shifted / shifted.sum(1, keepdims=True) / 28, atol=1e-6)


def test_costs_add_up_to_the_parameters_of_any_derived_network(costs):
    names = ("sep_conv_3x3", "part_aware", "skip_connect", "dil_conv_3x3")
    normal = tuple((names[i % 4], (0, 1, 2, 0, 3, 1, 4, 2)[i]) for i in range(8))
    reduce = tuple((names[(i + 2) % 4], (1, 0, 1, 2, 2, 0, 3, 1)[i]) for i in range(8))
    total = costs.beside
    for operations, pairs in zip(costs.operations, (normal, reduce), strict=True):
        for i, (name, source) in enumerate(pairs):
            total += operations[EDGES.index((source, 2 + i // 2)), PRIMITIVES.index(name) - 1]
    assert total == derived_parameters(Genotype(normal, reduce), **STUDENT)


def test_expected_parameters_agree_with_a_count_by_hand(costs, alphas):
    assert float(expected_parameters(alphas, costs)) == pytest.approx(expected_by_hand(alphas), rel=1e-6)


def test_expected_parameters_of_decided_alphas_are_the_mean_over_all_choices_of_edges(costs):
    alpha, operations = decided(1)
    incoming = [[e for e, (_, end) in enumerate(EDGES) if end == target] for target in range(2, 6)]
    counts = []
    for kept in itertools.product(*(itertools.combinations(edges, 2) for edges in incoming)):
        pairs = tuple((operations[edge], EDGES[edge][0]) for pair in kept for edge in pair)
        counts.append(derived_parameters(Genotype(pairs, POOLS), **STUDENT))
    assert len(set(counts)) > 10
    pooling = (50 * np.eye(7)[[1] * 14]).astype("float32")
    assert float(expected_parameters([alpha, pooling], costs)) == pytest.approx(np.mean(counts), rel=1e-6)


def test_none_counts_as_the_operations_beside_it(costs, alphas):
    without = [np.concatenate([np.full((14, 1), -30, "float32"), alpha[:, 1:]], 1) for alpha in alphas]
    assert float(expected_parameters(without, costs)) == float(expected_parameters(alphas, costs))


def test_within_the_budget_nothing_is_added_and_beyond_it_the_share(costs, alphas):
    expected = expected_by_hand(alphas)
    assert float(over_budget(alphas, costs, expected * 1.01)) == 0.0
    assert float(over_budget(alphas, costs, expected / 1.25)) == pytest.approx(0.25, rel=1e-4)


@pytest.mark.parametrize(("share", "moves"), [(0.8, True), (1.2, False)])
def test_the_budget_moves_alphas_towards_fewer_parameters_only_beyond_it(share, moves, costs, alphas):
    variables = [tf.Variable(alpha) for alpha in alphas]
    budget = share * expected_by_hand(alphas)
    with tf.GradientTape() as tape:
        penalty = over_budget(variables, costs, budget)
    gradients = [g.numpy() for g in tape.gradient(penalty, variables)]
    assert any(np.any(g) for g in gradients) == moves
    if moves:
        convolution, pool = PRIMITIVES.index("sep_conv_3x3"), PRIMITIVES.index("max_pool_3x3")
        assert all((g[:, convolution] > 0).all() and (g[:, pool] < 0).all() for g in gradients)
        # A central difference of the plain count, at one weight of each matrix.
        for kind in (0, 1):
            moved = [[a.astype("float64") for a in alphas] for _ in range(2)]
            moved[0][kind][5, convolution] -= 1e-4
            moved[1][kind][5, convolution] += 1e-4
            slope = (expected_by_hand(moved[1]) - expected_by_hand(moved[0])) / 2e-4 / budget
            assert gradients[kind][5, convolution] == pytest.approx(slope, rel=1e-3)
