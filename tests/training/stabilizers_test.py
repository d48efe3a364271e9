import keras
import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.genotype import random_genotype
from kdas_tf.models.costs import derived_parameters
from kdas_tf.models.networks import Supernet
from kdas_tf.settings import Stabilizers
from kdas_tf.training.stabilizers import AlphaPenalty, AlphaWarmup

STUDENT = {"num_identities": 7, "channels": 8, "cells": 2, "reductions": (1,)}
ZEROS = [np.zeros((14, 7), "float32")] * 2


class Probe(keras.Model):
    """Returns from a compiled step what the penalty of constant alphas was, and whether alphas rested after it."""

    def __init__(self, penalty):
        super().__init__()
        self.penalty = penalty
        self.network = Supernet(7, image_size=(32, 16), channels=4, cells=1, reductions=())
        self.built = True

    def train_step(self, data):
        return {"seen": keras.ops.convert_to_tensor(self.penalty(ZEROS))}


def penalty_of(epochs, **settings):
    return AlphaPenalty(Stabilizers(**settings), epochs=epochs, student=STUDENT)


def fit(penalty, *callbacks, **kwargs):
    model = Probe(penalty)
    model.compile()
    return model.fit(np.zeros((1, 2)), verbose=0, callbacks=[penalty, *callbacks], **kwargs).history


class Rests(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        logs["rests"] = self.model.alphas_rest


@pytest.mark.parametrize(("epochs", "start", "expected"), [(2, 0, [1, 1, 0, 0]), (2, 1, [1, 0, 0]), (0, 0, [0] * 4)])
def test_alphas_rest_in_the_first_epochs_only_also_after_a_stop(epochs, start, expected):
    assert fit(penalty_of(4), AlphaWarmup(epochs, of=4), Rests(), epochs=4, initial_epoch=start)["rests"] == expected


@pytest.mark.parametrize("epochs", [-1, 4, 9])
def test_a_warm_up_that_is_no_part_of_the_search_is_refused(epochs):
    with pytest.raises(UserError, match=f"alpha_warmup_epochs from 0 to 3 .* got {epochs}"):
        AlphaWarmup(epochs, of=4)


def test_the_weight_of_the_beta_decay_grows_linearly_in_the_compiled_step():
    penalty = penalty_of(4, beta_weight=2.0)
    logged = fit(penalty, epochs=4)
    assert logged["beta_weight"] == [0.0, 0.5, 1.0, 1.5]
    np.testing.assert_allclose(logged["seen"], np.log(7) * np.array([0.0, 0.5, 1.0, 1.5]), rtol=1e-6)
    np.testing.assert_allclose(logged["beta_decay"], np.log(7), rtol=1e-3)  # of the alphas at their start


def test_the_weight_of_the_beta_decay_is_right_after_a_stop_and_may_be_constant():
    assert fit(penalty_of(4, beta_weight=2.0), epochs=4, initial_epoch=3)["beta_weight"] == [1.5]
    assert fit(penalty_of(4, beta_weight=2.0, beta_growth=False), epochs=2)["beta_weight"] == [2.0, 2.0]


def test_the_budget_is_weighed_and_the_expectation_of_a_random_genotype_is_logged():
    budget = float(np.mean([derived_parameters(random_genotype(seed), **STUDENT) for seed in range(2000)])) / 2
    penalty = penalty_of(4, parameter_budget=budget, budget_weight=3.0)
    logged = fit(penalty, epochs=1)
    assert logged["expected_parameters"] == pytest.approx([2 * budget], rel=0.02)
    assert logged["seen"] == pytest.approx([3.0], rel=0.05)
    assert "beta_weight" not in logged


def test_penalties_add_up():
    beta, budget = {"beta_weight": 1.0, "beta_growth": False}, {"parameter_budget": 5000.0}
    one, other, both = (fit(penalty_of(1, **each))["seen"][0] for each in (beta, budget, beta | budget))
    assert other > 0 and both == pytest.approx(one + other)


def test_by_default_there_is_no_penalty_and_nothing_is_logged():
    penalty = penalty_of(4)
    assert not penalty.is_on
    assert list(fit(penalty, epochs=1)) == ["seen"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"beta_weight": -1.0}, "Stabilizers.beta_weight to be at least 0, got -1.0"),
        ({"budget_weight": -0.5}, "Stabilizers.budget_weight to be at least 0, got -0.5"),
        ({"parameter_budget": 9}, r"parameter_budget above [\d,]+, what the network has beside .* got 9\."),
    ],
)
def test_penalties_that_make_no_sense_are_refused(bad, message):
    with pytest.raises(UserError, match=message):
        penalty_of(4, **bad)
