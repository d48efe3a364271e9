import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.losses.triplet import batch_hard_triplet_loss

pytestmark = pytest.mark.both_graphs  # the recorded references


def loss_and_gradient(features, labels, **kwargs):
    features = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = batch_hard_triplet_loss(features, labels, **kwargs)
    return float(loss), tape.gradient(loss, features).numpy()


@pytest.mark.parametrize("case", "abc")
def test_value_and_gradient_agree_with_tensorflow_addons(case, reference):
    arrays = reference("triplet_batch_hard.npz")
    loss, gradient = loss_and_gradient(arrays[f"{case}_features"], arrays[f"{case}_labels"], margin=0.3)
    assert loss == pytest.approx(float(arrays[f"{case}_loss"]), rel=1e-5)
    np.testing.assert_allclose(gradient, arrays[f"{case}_grad"], atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_value_is_the_mean_over_anchors_of_the_hardest_triplets_hinge(seed):
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(12, 6)).astype("float32"), np.repeat(np.arange(4), 3)
    margin = rng.uniform(0, 2)
    hinges = []
    for a in range(12):
        to = [
            np.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(features[a], row, strict=True))) for row in features
        ]
        furthest = max(to[p] for p in range(12) if labels[p] == labels[a] and p != a)
        nearest = min(to[n] for n in range(12) if labels[n] != labels[a])
        hinges.append(max(0.0, margin + furthest - nearest))
    loss, _ = loss_and_gradient(features, labels, margin=margin)
    assert loss == pytest.approx(sum(hinges) / 12, rel=1e-5)


def test_separated_identities_cost_nothing():
    # Distances of 1 within, at least 3 between: 0.3 + 1 - 3 < 0 for all four anchors.
    loss, gradient = loss_and_gradient([[0.0], [1.0], [4.0], [5.0]], np.array([0, 0, 1, 1]))
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros((4, 1)))


def test_an_anchor_without_positive_has_distance_zero_to_it():
    # Places 0 (alone), 1 and 2: (0.5 + 0 - 1)+ = 0; 0.5 + 1 - 1 = 0.5; (0.5 + 1 - 2)+ = 0.
    loss, _ = loss_and_gradient([[0.0], [1.0], [2.0]], np.array([7, 3, 3]), margin=0.5)
    assert loss == pytest.approx(0.5 / 3)


def test_a_batch_of_one_identity_costs_the_margin_and_moves_nothing():
    # Without negative the largest distance stands in, which is the hardest positive's: margin + d - d.
    loss, gradient = loss_and_gradient([[0.0], [1.0], [3.0]], np.array([3, 3, 3]), margin=0.5)
    assert loss == pytest.approx(0.5)
    np.testing.assert_allclose(gradient, np.zeros((3, 1)), atol=1e-6)  # exact but for rounding


def test_gradient_is_finite_where_embeddings_coincide():
    features = np.random.default_rng(0).normal(size=(8, 16)).astype("float32")
    features[1], features[4] = features[0], features[0]  # one of the same identity, one of another
    loss, gradient = loss_and_gradient(features, np.repeat(np.arange(4), 2))
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("place", [0.0, 0.1, 37.0])
def test_a_batch_that_collapsed_to_one_point_costs_the_margin_with_a_finite_gradient(place):
    loss, gradient = loss_and_gradient(np.full((8, 64), place, np.float32), np.repeat(np.arange(4), 2))
    assert loss == pytest.approx(0.3, rel=1e-5)
    assert np.isfinite(gradient).all()


def test_a_batch_of_unknown_size_gives_the_same_value():
    features, labels = np.random.default_rng(2).normal(size=(6, 4)).astype("float32"), np.array([0, 0, 1, 1, 2, 2])
    signature = [tf.TensorSpec([None, 4], tf.float32), tf.TensorSpec([None], tf.int32)]
    traced = tf.function(batch_hard_triplet_loss, input_signature=signature)
    expected, _ = loss_and_gradient(features, labels)
    assert float(traced(features, labels)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_features_give_a_finite_loss_in_float32(dtype):
    # Places 0, 300, 0, 300: squares of 300 have no float16; every anchor costs 0.3 + 300 - 0, every one has a twin.
    features = tf.cast([[0.0], [300.0], [0.0], [300.0]], dtype)
    loss = batch_hard_triplet_loss(features, np.array([0, 0, 1, 1]))
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(300.3, rel=1e-5)
