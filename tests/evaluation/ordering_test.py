import numpy as np
import pytest

from kdas_tf.evaluation import ordering

ERROR = 1e-4


class Table:
    """Distances given as numbers, whose rows are wrong by up to `ERROR`."""

    def __init__(self, values, seed=0):
        self.values = np.asarray(values, np.float64)[None]
        noise = np.random.default_rng(seed).uniform(-ERROR, ERROR, self.values.shape)
        self.noisy = (self.values + noise).astype(np.float32)
        self.shape = self.values.shape
        self.asked = 0

    def rows(self, first, last):
        return self.noisy[first:last].copy()

    def exact(self, row, columns):
        self.asked += len(columns)
        return self.values[row, columns]

    def window(self, row, values):
        return values - np.float32(2.1 * ERROR), values + np.float32(2.1 * ERROR)


def places(values, wanted, kept):
    order = [image for image in np.argsort(values, kind="stable") if kept[image]]
    return sorted(order.index(image) + 1 for image in wanted)


SHAPES = {
    "spread": lambda random: random.uniform(0, 1, 700),
    "ties": lambda random: random.integers(0, 12, 700) * ERROR / 3,
    "one point": lambda random: np.full(700, 0.25),
    "below zero": lambda random: random.normal(0, 0.01, 700),
    "far images": lambda random: np.where(random.random(700) < 0.5, 1e14, random.uniform(0, 0.01, 700)),
    "few": lambda random: random.integers(0, 4, 9) * ERROR,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("seed", range(4))
def test_ranks_are_those_of_a_full_stable_sort_of_the_exact_distances(shape, count, seed):
    random = np.random.default_rng(seed)
    table = Table(SHAPES[shape](random), seed)
    images = table.shape[1]
    wanted = np.sort(random.choice(images, count, replace=False))
    kept = random.random(images) < 0.8
    kept[wanted] = True
    values = np.where(kept, table.rows(0, 1)[0], np.float32(np.inf))
    expected = places(table.values[0], wanted, kept)
    np.testing.assert_array_equal(ordering.ranks(table, 0, values, wanted), expected)
    # The same among the kept images alone, of which the places in the gallery are told.
    columns = np.flatnonzero(kept)
    found = ordering.ranks(table, 0, values[columns], np.searchsorted(columns, wanted), columns)
    np.testing.assert_array_equal(found, expected)


def test_exact_distances_are_asked_only_near_wanted_images():
    table = Table(np.arange(1000) / 1000)  # ten times farther apart than the error
    ranks = ordering.ranks(table, 0, table.rows(0, 1)[0], np.array([3, 500]))
    np.testing.assert_array_equal(ranks, [4, 501])
    assert table.asked == 0


def test_rows_without_error_settle_all_but_ties():
    table = Table([3, 1, 2, 1, 5, 1])
    table.noisy = table.values.astype(np.float32)
    table.window = lambda row, values: (values, values)
    ranks = ordering.ranks(table, 0, table.rows(0, 1)[0], np.array([0, 3]))
    np.testing.assert_array_equal(ranks, [2, 5])
    assert table.asked == 4
