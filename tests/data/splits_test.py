import numpy as np
import pytest

from kdas_tf.data.splits import half_split
from kdas_tf.errors import UserError

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(9), [2, 3, 4, 5, 6, 7, 2, 3, 11]))


def test_the_halves_are_disjoint_ascending_and_together_everything():
    train, val = half_split(LABELS, seed=3)
    assert sorted([*train, *val]) == list(range(len(LABELS)))
    assert (np.diff(train) > 0).all()
    assert (np.diff(val) > 0).all()


def test_sizes_differ_by_at_most_one_per_identity_and_overall():
    train, val = half_split(LABELS, seed=3)
    difference = np.bincount(LABELS[train], minlength=9) - np.bincount(LABELS[val], minlength=9)
    assert difference.tolist() == [0, 1, 0, -1, 0, 1, 0, -1, 1]
    assert min(np.bincount(LABELS[train])) >= 1
    assert len(train) - len(val) == 1


def test_the_split_depends_on_the_seed_only():
    first, again, other = (half_split(LABELS, seed)[0].tolist() for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_every_image_of_an_identity_is_equally_likely_in_either_half():
    hits = sum(np.isin(np.arange(6), half_split([0] * 6, seed)[0]) for seed in range(1000))
    assert (np.abs(hits - 500) < 80).all()  # five standard deviations of a fair coin


def test_an_identity_with_a_single_image_is_an_error():
    with pytest.raises(UserError, match="label 1 has 1"):
        half_split([0, 0, 1], seed=0)
