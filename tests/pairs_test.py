import itertools

from tests.pairs import all_pairs


def test_every_two_values_of_two_axes_are_together_in_a_row():
    axes = ("abcdefg", "hi", "jklm", "no")
    rows = all_pairs(*axes)
    for first, second in itertools.combinations(range(4), 2):
        assert {(row[first], row[second]) for row in rows} == set(itertools.product(axes[first], axes[second]))
    assert 7 * 4 <= len(rows) < 7 * 2 * 4 * 2 / 3  # the two longest axes alone need 28


def test_rows_that_are_not_allowed_are_left_out():
    rows = all_pairs("ab", "cd", "ef", allowed=lambda first, second, third: (first, second) != ("a", "d"))
    assert ("a", "d") not in {row[:2] for row in rows}
    assert {row[1:] for row in rows} == {("c", "e"), ("c", "f"), ("d", "e"), ("d", "f")}
