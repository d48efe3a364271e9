import importlib.util
import sys

import numpy as np
import pytest

from kdas_tf.evaluation import neighbours

LIBRARIES = [
    pytest.param(
        "faiss", marks=pytest.mark.skipif(importlib.util.find_spec("faiss") is None, reason="faiss is not installed")
    ),
    "keras",
]


@pytest.fixture(params=LIBRARIES)
def library(request, monkeypatch):
    """Searches with one library; importing the other fails, as where it is not installed."""
    monkeypatch.setitem(sys.modules, "faiss" if request.param == "keras" else "keras", None)
    return request.param


def plain(points, count):
    """All distances in float64, sorted: the neighbours by distance, then by index, and the distances."""
    wide = points.astype(np.float64)
    distances = np.array([((wide - point) ** 2).sum(1) for point in wide])
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(distances, order, 1), distances.max(1)


def assert_nearest(points, count):
    found, distances = neighbours.nearest(points, count)
    order, expected, _ = plain(points, count)
    np.testing.assert_array_equal(found, order)
    np.testing.assert_allclose(distances, expected, rtol=1e-12, atol=1e-300)


def random_points(count, width=32, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width), np.float32)


@pytest.mark.parametrize("count", [1, 21, 300])
def test_neighbours_are_those_of_a_full_sort_in_float64(library, count):
    assert_nearest(random_points(300), count)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_neighbours_and_farthest_distances_do_not_depend_on_how_the_points_are_cut(library, block, monkeypatch):
    points = random_points(130)
    whole = neighbours.nearest(points, 9), neighbours.farthest(points)
    for name in ("_BLOCK", "_FAISS_BLOCK", "_PAIRS"):
        monkeypatch.setattr(neighbours, name, block)
    cut = neighbours.nearest(points, 9), neighbours.farthest(points)
    np.testing.assert_array_equal(cut[0][0], whole[0][0])
    np.testing.assert_array_equal(cut[0][1], whole[0][1])
    np.testing.assert_allclose(cut[1], whole[1], rtol=1e-6)


def test_points_at_the_same_distance_are_ordered_by_index(library):
    # Corners of a cube, each six times, the six moved apart along axes of their own: no two points are equal, and each
    # has 15 others at exactly the same distance, all of it exact in binary.
    corners = np.array(list(np.ndindex(2, 2, 2)), np.float32)
    points = np.concatenate([np.repeat(corners, 6, 0), np.tile(np.eye(6, dtype=np.float32), (8, 1)) / 1024], 1)
    for count in (2, 5, 13, 40):
        assert_nearest(points[np.random.default_rng(0).permutation(len(points))], count)


@pytest.mark.parametrize("copies", [2, 9, 60])
def test_equal_points_have_the_same_neighbours_lower_indices_first(library, copies):
    points = np.concatenate([random_points(40), np.repeat(random_points(3, seed=1), copies, 0)])
    points = points[np.random.default_rng(2).permutation(len(points))]
    points[0, 0] = 0
    points[-1] = points[0]
    points[-1, 0] = -0.0  # equal to 0, though its bytes are not
    assert_nearest(points, 12)


def test_more_near_points_than_float32_can_tell_apart_are_told_apart(library):
    # Clusters whose points differ in the last digits: float32 products round their distances to nothing.
    points = np.repeat(random_points(4) + 1, 40, 0)
    points += np.float32(2e-6) * random_points(160, seed=1)
    assert len(np.unique(points, axis=0)) > 150
    assert_nearest(points, 10)


def test_points_too_far_from_the_origin_for_products_in_float64_get_their_neighbours(library):
    # A point and one step from it along each of 60 axes; the squares of the lengths have more than 53 bits.
    points = np.random.default_rng(0).integers(2**22, 2**23, 512) + np.eye(61, 512, k=-1)
    assert_nearest(points.astype(np.float32), 10)


def test_a_thousand_equal_points_are_compared_once(library, monkeypatch):
    pairs = []
    compare = neighbours.squared_distances
    monkeypatch.setattr(
        neighbours, "squared_distances", lambda points, *pair: pairs.append(len(pair[0])) or compare(points, *pair)
    )
    found, distances = neighbours.nearest(np.ones((1000, 4), np.float32), 3)
    np.testing.assert_array_equal(found, np.tile([0, 1, 2], (1000, 1)))
    assert not distances.any()
    assert sum(pairs) == 1
    assert not neighbours.farthest(np.zeros((1000, 4), np.float32)).any()


@pytest.mark.parametrize("count", [1, 2, 1500])
def test_farthest_distances_are_those_of_all_pairs(count):
    points = random_points(count)
    np.testing.assert_allclose(neighbours.farthest(points), plain(points, 1)[2], rtol=1e-5, atol=1e-4)


def test_distances_of_pairs_are_symmetric_and_do_not_depend_on_the_other_pairs():
    points = random_points(50, width=33)
    rows, columns = np.divmod(np.arange(2500), 50)
    together = neighbours.squared_distances(points, rows, columns)
    np.testing.assert_array_equal(together.reshape(50, 50), together.reshape(50, 50).T)
    alone = [neighbours.squared_distances(points, rows[i : i + 1], columns[i : i + 1])[0] for i in range(2500)]
    np.testing.assert_array_equal(together, alone)


def test_progress_ends_with_all_points(library):
    calls = []
    neighbours.nearest(random_points(40), 3, progress=lambda *call: calls.append(call))
    neighbours.farthest(random_points(40), progress=lambda *call: calls.append(call))
    assert calls == [(40, 40), (40, 40)]
