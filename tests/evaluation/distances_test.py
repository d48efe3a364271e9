import math
from fractions import Fraction

import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.evaluation.distances import FeatureDistances

METRICS = ("cosine", "euclidean")


def features(count, width, seed, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=(count, width))).astype(np.float32)


def distance(query, feature, metric):
    """One distance, from sums without rounding."""
    query, feature = ([Fraction(float(value)) for value in vector] for vector in (query, feature))
    product = sum(a * b for a, b in zip(query, feature, strict=True))
    squares = [sum(a * a for a in vector) for vector in (query, feature)]
    if metric == "euclidean":
        return math.sqrt(sum((a - b) ** 2 for a, b in zip(query, feature, strict=True)))
    if not all(squares):
        return 1.0
    return 1 - float(product) / math.sqrt(squares[0] * squares[1])


def all_distances(query, gallery, metric):
    return np.array([[distance(q, g, metric) for g in gallery] for q in query])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("metric", METRICS)
def test_rows_and_exact_distances_agree_with_sums_without_rounding(metric, dtype):
    query, gallery = features(7, 20, 0).astype(dtype), features(31, 20, 1).astype(dtype)
    gallery[3] = query[2]
    gallery[4] = 0
    distances = FeatureDistances(query, gallery, metric)
    expected = all_distances(query, gallery, metric)
    assert distances.shape == (7, 31)
    # Next to 0 a Euclidean distance is the root of a difference, so its error is the root of float32's.
    rows = np.concatenate([distances.rows(0, 3), distances.rows(3, 7)])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, atol=1e-6 if metric == "cosine" else 5e-3)
    for row in range(7):
        np.testing.assert_allclose(distances.exact(row, np.arange(31)), expected[row], rtol=2e-7, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_float16_features_near_its_largest_number_do_not_overflow(metric):
    # The largest float16 is 65,504: twice 40,000, and the length of four of them, are beyond it.
    query = np.array([[4e4, 4e4, -4e4, 4e4], [1, 2, 3, 4]], np.float16)
    gallery = np.array([[4e4, 4e4, -4e4, 3.9e4], [-6e4, 6e4, 6e4, 6e4], [4, 3, 2, 1]], np.float16)
    distances = FeatureDistances(query, gallery, metric)
    expected = all_distances(query.astype(float).tolist(), gallery.astype(float).tolist(), metric)
    np.testing.assert_allclose(distances.rows(0, 2), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(distances.exact(0, np.arange(3)), expected[0], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_a_gallery_in_memory_and_one_on_disk_are_at_the_same_distances(metric, tmp_path):
    query, gallery = features(3, 8, 0), features(20, 8, 1)
    np.save(tmp_path / "gallery.npy", gallery)
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    distances = [FeatureDistances(query, each, metric) for each in (gallery, mapped)]
    np.testing.assert_array_equal(*[each.rows(0, 3) for each in distances])
    np.testing.assert_array_equal(*[each.exact(1, np.arange(20)) for each in distances])


@pytest.mark.parametrize("metric", METRICS)
def test_exact_distances_do_not_depend_on_what_is_asked_together(metric, monkeypatch):
    query, gallery = features(2, 300, 0), features(60, 300, 1)
    whole = FeatureDistances(query, gallery, metric).exact(1, np.arange(60))
    monkeypatch.setattr("kdas_tf.evaluation.distances._BLOCK", 7)
    distances = FeatureDistances(query, gallery, metric)
    np.testing.assert_array_equal(distances.exact(1, np.arange(60)), whole)
    np.testing.assert_array_equal([distances.exact(1, np.array([column]))[0] for column in range(60)], whole)
    backwards = np.arange(59, -1, -1)
    np.testing.assert_array_equal(distances.exact(1, backwards), whole[backwards])


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_what_lies_beyond_the_window_is_nearer_or_farther_also_exactly(metric, scale, shift):
    # A shift makes all features nearly the same direction, so that the products lose most of their digits.
    query, gallery = (features(count, 100, count, scale) + np.float32(shift * scale) for count in (20, 400))
    gallery[::7] = query[0]
    distances = FeatureDistances(query, gallery, metric)
    rows = distances.rows(0, 20)
    for row in range(20):
        exact = distances.exact(row, np.arange(400))
        low, high = distances.window(row, rows[row])
        assert (low <= rows[row]).all() and (rows[row] <= high).all()
        for column in range(0, 400, 9):
            assert (exact[rows[row] < low[column]] < exact[column]).all()
            assert (exact[rows[row] > high[column]] > exact[column]).all()


def test_the_window_of_unit_features_is_narrow():
    query = features(2, 512, 0)
    distances = FeatureDistances(query, query)
    low, high = distances.window(0, np.float32([0.5]))
    assert 0 < high[0] - low[0] < 6e-5


def test_cosine_ignores_lengths():
    query, gallery = features(4, 9, 0), features(11, 9, 1)
    lengths = 10.0 ** np.arange(-5, 6)
    scaled = (gallery * lengths[:, None]).astype(np.float32)
    rows = [FeatureDistances(query, each).rows(0, 4) for each in (gallery, scaled)]
    np.testing.assert_allclose(*rows, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_photograph_is_at_distance_zero_and_no_distance_is_below(metric):
    query = features(50, 64, 0, scale=7.0)
    distances = FeatureDistances(query, query, metric)
    assert distances.rows(0, 50).min() >= 0
    np.testing.assert_array_equal([distances.exact(row, np.array([row]))[0] for row in range(50)], np.zeros(50))


def test_rows_are_the_callers_own():
    query = features(3, 4, 0)
    distances = FeatureDistances(query, query)
    kept = distances.rows(0, 3)
    expected = kept.copy()
    distances.rows(0, 3)[:] = np.inf
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(distances.rows(0, 3), expected)


@pytest.mark.parametrize(
    ("query", "gallery", "metric", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "cosine", "same width, got 3 and 4"),
        (np.ones((2, 3)), np.ones((2, 3)), "manhattan", "cosine, euclidean, got 'manhattan'"),
        (np.ones((2, 3)), np.full((2, 3), 1e20), "cosine", "gallery features of a length.*got length 1.73.*row 0 of 2"),
        (np.full((2, 3), 1e-20), np.ones((2, 3)), "euclidean", "query features of a length"),
    ],
)
def test_what_has_no_distance_is_refused_with_the_reason(query, gallery, metric, message):
    with pytest.raises(UserError, match=message):
        FeatureDistances(query, gallery, metric)
