import numpy as np
import pytest

from kdas_tf.data.sampler import BalancedSampler
from kdas_tf.errors import UserError

# Ten identities, not numbered in a row, with 2 to 11 images each, in random order.
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10) * 7, np.arange(2, 12)))


def identities(sampler, epoch, step, labels=LABELS):
    batch = labels[sampler.batch(epoch, step)].reshape(sampler.identities_per_batch, sampler.images_per_identity)
    assert (batch == batch[:, :1]).all(), "a batch is grouped by identity"
    return batch[:, 0].tolist()


def test_a_pass_shows_each_identity_at_most_once_and_drops_the_remainder():
    sampler = BalancedSampler(LABELS, 3, 2, seed=5)
    for number in range(4):  # 10 identities, 3 per batch: a pass has 3 batches
        shown = [identity for step in range(3) for identity in identities(sampler, 0, 3 * number + step)]
        assert len(set(shown)) == 9


def test_an_identity_with_too_few_images_shows_all_before_repeating():
    sampler = BalancedSampler([0, 0, 0], 1, 8, seed=5)
    batch = sampler.batch(0, 0)
    assert sorted(batch[:3]) == sorted(batch[3:6]) == [0, 1, 2]
    assert len(set(batch[6:])) == 2


def test_an_identity_shows_all_its_images_before_one_comes_again():
    labels = np.repeat([0, 1], 6)
    sampler = BalancedSampler(labels, 2, 2, seed=5)
    shown = np.concatenate([sampler.batch(4, step) for step in range(3)])
    assert sorted(shown) == list(range(12))


def test_a_batch_is_a_pure_function_of_seed_epoch_and_step():
    sampler = BalancedSampler(LABELS, 3, 2, seed=5)
    forward = [sampler.batch(epoch, step).tolist() for epoch in range(3) for step in range(4)]
    fresh = BalancedSampler(LABELS.tolist(), 3, 2, seed=5)
    backward = [fresh.batch(epoch, step).tolist() for epoch in (2, 1, 0) for step in (3, 2, 1, 0)]
    assert forward == backward[::-1]
    assert len(set(map(tuple, forward))) == len(forward)
    assert forward[0] != BalancedSampler(LABELS, 3, 2, seed=6).batch(0, 0).tolist()


def test_identities_are_shown_equally_often():
    sampler = BalancedSampler(LABELS, 2, 1, seed=5)
    # Ten passes of five batches.
    shown = [identity for step in range(50) for identity in identities(sampler, 0, step)]
    assert np.unique(shown, return_counts=True)[1].tolist() == [10] * 10


@pytest.mark.parametrize(("images", "steps"), [(4, 1), (24, 1), (25, 1), (47, 1), (48, 2)])
def test_an_epoch_has_as_many_batches_as_its_images_fill(images, steps):
    assert BalancedSampler(np.arange(images) % 4, 4, 6, seed=0).steps_per_epoch == steps


def test_fewer_identities_than_a_batch_needs_are_an_error():
    with pytest.raises(UserError, match="identities_per_batch = 3 identities, but the images show 2"):
        BalancedSampler([0, 0, 1], 3, 2, seed=0)
