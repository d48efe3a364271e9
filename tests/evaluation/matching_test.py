import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.matching import Matching


def split(identities, cameras, name="query"):
    return Embeddings(np.ones((len(identities), 2)), np.array(identities), np.array(cameras), name)


def test_matches_are_of_other_cameras_and_those_of_the_own_camera_are_removed():
    matching = Matching(split([5, 6, 7], [1, 2, 1]), split([6, 5, -1, 5, 0, 5, 6, -1], [1, 1, 1, 2, 1, 3, 2, 2]))
    assert [(list(each.wanted), list(each.removed)) for each in (matching[0], matching[1], matching[2])] == [
        ([3, 5], [1]),
        ([0], [6]),
        ([], []),
    ]
    assert list(matching.counts) == [2, 1, 0]
    assert list(matching.junk) == [2, 7]


def test_pairs_of_different_people_are_counted_with_distractors_and_without_junk():
    # Six images are no junk: three are of the first person, two of the second, none of the third.
    matching = Matching(split([5, 6, 7], [1, 2, 1]), split([6, 5, -1, 5, 0, 5, 6, -1], [1, 1, 1, 2, 1, 3, 2, 2]))
    assert matching.negatives == 3 + 4 + 6


def test_groups_are_the_images_of_each_identity_without_junk():
    images, starts = Matching(split([5], [1]), split([6, 5, -1, 5, 0, 0], [1, 1, 1, 2, 1, 3])).groups()
    assert list(images) == [4, 5, 1, 3, 0]
    assert list(starts) == [0, 2, 4]


def test_random_sets_agree_with_comparisons_of_all_pairs():
    random = np.random.default_rng(0)
    query = split(random.integers(1, 9, 40), random.integers(1, 4, 40))
    gallery = split(random.integers(-1, 9, 300), random.integers(1, 4, 300), "gallery")
    matching = Matching(query, gallery)
    negatives = 0
    for row in range(40):
        same = gallery.identities == query.identities[row]
        own = same & (gallery.cameras == query.cameras[row])
        np.testing.assert_array_equal(matching[row].wanted, np.flatnonzero(same & ~own))
        np.testing.assert_array_equal(matching[row].removed, np.flatnonzero(own))
        negatives += (~same & (gallery.identities != -1)).sum()
    assert matching.negatives == negatives


def test_a_set_without_any_match_is_refused_in_one_line():
    with pytest.raises(UserError, match="only from their own camera") as error:
        Matching(split([5, 6], [1, 1]), split([5, 6], [1, 1]))
    assert "\n" not in str(error.value)


def test_people_may_be_numbered_from_zero():
    matching = Matching(split([0, 3], [1, 1]), split([0, 0, 3, -1], [2, 1, 2, 2], "gallery"))
    assert [list(matching[row].wanted) for row in (0, 1)] == [[0], [2]]
    assert list(matching[0].removed) == [1]
