import numpy as np
import pytest

from kdas_tf.evaluation import neighbours
from kdas_tf.evaluation.neighbours import nearest_and_farthest


def plain(points, count):
    """All distances in float64, sorted: the neighbours by distance, then by index, and the largest."""
    wide = points.astype(np.float64)
    distances = np.array([((wide - point) ** 2).sum(1) for point in wide])
    order = np.argsort(distances, axis=1, kind="stable")[:, :count]
    return order, distances.max(1)


def assert_right(points, count):
    nearest, farthest = nearest_and_farthest(points, count)
    order, largest = plain(points, count)
    np.testing.assert_array_equal(nearest, order)
    np.testing.assert_allclose(farthest, largest, rtol=1e-5, atol=1e-4)


def random_points(count, width=32, seed=0):
    return np.random.default_rng(seed).standard_normal((count, width), np.float32)


@pytest.mark.parametrize(("points", "count"), [(1, 1), (2, 2), (300, 1), (300, 21), (300, 300), (1500, 5)])
def test_neighbours_and_farthest_distances_are_those_of_a_full_sort_in_float64(points, count):
    assert_right(random_points(points), count)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_neighbours_do_not_depend_on_how_the_points_are_cut(block, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    monkeypatch.setattr(neighbours, "_PAIRS", 7)
    assert_right(random_points(130), 9)


def test_points_at_the_same_distance_are_ordered_by_index():
    # Corners of a cube, each six times, the six moved apart along axes of their own: no two points are equal, and each
    # has 15 others at exactly the same distance, all of it exact in binary.
    corners = np.array(list(np.ndindex(2, 2, 2)), np.float32)
    points = np.concatenate([np.repeat(corners, 6, 0), np.tile(np.eye(6, dtype=np.float32), (8, 1)) / 1024], 1)
    for count in (2, 5, 13, 40):
        assert_right(points[np.random.default_rng(0).permutation(len(points))], count)


@pytest.mark.parametrize("copies", [2, 9, 60])
def test_equal_points_have_the_same_neighbours_lower_indices_first(copies):
    points = np.concatenate([random_points(40), np.repeat(random_points(3, seed=1), copies, 0)])
    points = points[np.random.default_rng(2).permutation(len(points))]
    points[0, 0] = 0
    points[-1] = points[0]
    points[-1, 0] = -0.0  # equal to 0, though its bytes are not
    assert_right(points, 12)


def test_more_near_points_than_float32_can_tell_apart_are_told_apart():
    # Clusters whose points differ in the last digits: float32 products round their distances to nothing.
    points = np.repeat(random_points(4) + 1, 40, 0)
    points += np.float32(2e-6) * random_points(160, seed=1)
    assert len(np.unique(points, axis=0)) > 150
    assert_right(points, 10)


def test_distances_of_pairs_are_symmetric_and_do_not_depend_on_the_other_pairs():
    points = random_points(50, width=33)
    rows, columns = np.divmod(np.arange(2500), 50)
    together = neighbours.squared_distances(points, rows, columns)
    np.testing.assert_array_equal(together.reshape(50, 50), together.reshape(50, 50).T)
    alone = [neighbours.squared_distances(points, rows[i : i + 1], columns[i : i + 1])[0] for i in range(2500)]
    np.testing.assert_array_equal(together, alone)


def test_progress_ends_with_all_points():
    calls = []
    nearest_and_farthest(random_points(40), 3, progress=lambda *call: calls.append(call))
    assert calls == [(40, 40)]
