import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kdas_tf.errors import UserError
from kdas_tf.evaluation.distances import FeatureDistances
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.ranking import Rules, evaluate, nearest
from tests.evaluation import plain_ranking

CASES = ("market_like", "hard", "few_positives")
NAMES = ("query_features", "query_pids", "query_camids", "gallery_features", "gallery_pids", "gallery_camids")
KEYS = {"cosine": plain_ranking.cosine_key, "euclidean": plain_ranking.euclidean_key}


def split(features, identities, cameras, name="query"):
    return Embeddings(np.asarray(features, np.float32), np.asarray(identities), np.asarray(cameras), name)


def ranked(query, gallery, metric="euclidean", **kwargs):
    query, gallery = split(*query), split(*gallery, name="gallery")
    return evaluate(FeatureDistances(query.features, gallery.features, metric), query, gallery, **kwargs)


def case_of(arrays, case):
    values = [arrays[f"{case}/{name}"] for name in NAMES]
    return values[:3], values[3:]


def on_a_line(points):
    """Columns of (place, identity, camera)."""
    places, identities, cameras = zip(*points, strict=True)
    return np.array(places, np.float32)[:, None], identities, cameras


def ranked_on_a_line(query, gallery, **kwargs):
    return ranked(on_a_line(query), on_a_line(gallery), **kwargs)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("case", CASES)
def test_ranking_agrees_with_torchreid(case, metric, reference):
    arrays = reference("ranking.npz")
    result = ranked(*case_of(arrays, case), metric)
    assert result.mAP == pytest.approx(float(arrays[f"{case}/mAP"]), abs=1e-6)
    assert result.mINP == pytest.approx(float(arrays[f"{case}/mINP"]), abs=1e-6)
    np.testing.assert_allclose(result.cmc[:20], arrays[f"{case}/cmc"], atol=1e-6)
    assert result.invalid_queries == arrays[f"{case}/invalid_queries"]


class Products:
    """Distances as the MATLAB rules were recorded with: 1 - products of features that are of length 1 up to float32."""

    def __init__(self, query, gallery):
        self.values = 1 - query.astype(np.float64) @ gallery.T.astype(np.float64)
        self.shape = self.values.shape

    def rows(self, first, last):
        return self.values[first:last].astype(np.float32)

    def exact(self, row, columns):
        return self.values[row, columns]

    def window(self, row, values):
        return values - np.float32(1e-6), values + np.float32(1e-6)


@pytest.mark.parametrize("case", CASES)
def test_the_trapezoid_with_unmatched_queries_at_zero_agrees_with_the_matlab_rules(case, reference):
    # In market_like two images are at distances from query 30 that differ by 2e-8. torchreid's numbers were recorded
    # with one before the other and these with the other before the one, so the distances must be those of the record.
    arrays = reference("ranking.npz")
    query, gallery = (split(*columns) for columns in case_of(arrays, case))
    rules = Rules(average_precision="trapezoid", unmatched="zero")
    result = evaluate(Products(query.features, gallery.features), query, gallery, rules=rules)
    assert result.mAP == pytest.approx(float(arrays[f"{case}/mAP_matlab_trapezoid"]), abs=1e-6)
    ours = evaluate(FeatureDistances(query.features, gallery.features), query, gallery, rules=rules)
    assert ours.mAP == pytest.approx(result.mAP, abs=1e-5 if case == "market_like" else 1e-12)


def photographs(draw, count, *, identities):
    vectors = st.lists(st.integers(-2, 2), min_size=3, max_size=3)
    rows = [(draw(vectors), draw(identities), draw(st.integers(1, 2))) for _ in range(count)]
    return tuple(zip(*rows, strict=True))


@st.composite
def sets_of_photographs(draw):
    """Few places for many photographs, so that most are at the distance of others, and many at the same place."""
    query = photographs(draw, draw(st.integers(1, 4)), identities=st.integers(1, 3))
    gallery = photographs(draw, draw(st.integers(1, 25)), identities=st.integers(-1, 3))
    return query, gallery


@settings(max_examples=150, deadline=None)
@given(
    sets=sets_of_photographs(),
    metric=st.sampled_from(["cosine", "euclidean"]),
    trapezoid=st.booleans(),
    zero=st.booleans(),
    memory=st.sampled_from([1, 200, 1 << 20]),
)
def test_ranking_agrees_with_a_plain_version_where_most_distances_tie(sets, metric, trapezoid, zero, memory):
    query, gallery = sets
    rules = Rules(average_precision="trapezoid" if trapezoid else "step", unmatched="zero" if zero else "skip")
    try:
        result = ranked(query, gallery, metric, rules=rules, memory=memory)
    except UserError:
        assert not any(any(plain_ranking.kept_order(KEYS[metric], *sets, row)[1]) for row in range(len(query[0])))
        assume(False)
    mAP, mINP, cmc, invalid = plain_ranking.judge(KEYS[metric], query, gallery, trapezoid=trapezoid, zero=zero)
    assert (result.mAP, result.mINP) == (pytest.approx(mAP), pytest.approx(mINP))
    np.testing.assert_allclose(result.cmc, cmc, atol=1e-12)
    assert result.invalid_queries == invalid


def nearly_one_point(count, seed):
    """Photographs of a network that has collapsed: most differ in the last digits of float32, some not at all."""
    random = np.random.default_rng(seed)
    features = np.float32(0.05) * (1 + random.integers(0, 3, (count, 64)).astype(np.float32) * 2.0**-22)
    features[::5] = features[0]
    return features, random.integers(1, 4, count), random.integers(1, 3, count)


@pytest.mark.parametrize("memory", [1, 1000, 1 << 20])
def test_differences_that_float32_products_cannot_see_decide_the_order(memory):
    query, gallery = nearly_one_point(6, seed=1), nearly_one_point(150, seed=2)
    result = ranked(query, gallery, memory=memory)
    mAP, mINP, cmc, _ = plain_ranking.judge(plain_ranking.euclidean_key, query, gallery)
    assert (result.mAP, result.mINP) == (pytest.approx(mAP, abs=1e-12), pytest.approx(mINP, abs=1e-12))
    np.testing.assert_allclose(result.cmc, cmc, atol=1e-12)


@pytest.mark.parametrize("memory", [1, 4000, 31000])
@pytest.mark.parametrize("rules", [Rules(), Rules(single_gallery_shot=True)])
def test_the_result_does_not_depend_on_how_the_distances_are_cut(memory, rules, reference):
    sets = case_of(reference("ranking.npz"), "market_like")
    whole, cut = ranked(*sets, "cosine", rules=rules), ranked(*sets, "cosine", rules=rules, memory=memory)
    assert (cut.mAP, cut.mINP) == (whole.mAP, whole.mINP)
    np.testing.assert_array_equal(cut.cmc, whole.cmc)
    np.testing.assert_array_equal(cut.average_precisions, whole.average_precisions)


def test_average_precision_and_inverse_negative_penalty_of_one_query_by_hand():
    # Matches at ranks 1, 3 and 6: AP = (1/1 + 2/3 + 3/6) / 3 = 13/18, INP = 3/6.
    gallery = [(1, 5, 2), (2, 7, 2), (3, 5, 2), (4, 7, 2), (5, 7, 2), (6, 5, 2)]
    result = ranked_on_a_line([(0, 5, 1)], gallery)
    assert result.mAP == pytest.approx(13 / 18)
    assert result.mINP == pytest.approx(1 / 2)
    assert result.rank1 == result.rank5 == result.rank10 == 1
    # The trapezoids: (1 + 1)/2, (1/2 + 2/3)/2, (2/5 + 3/6)/2, each of width 1/3.
    trapezoid = ranked_on_a_line([(0, 5, 1)], gallery, rules=Rules(average_precision="trapezoid"))
    assert trapezoid.mAP == pytest.approx((1 + 7 / 12 + 9 / 20) / 3)


def test_ranks_count_the_queries_with_a_match_so_far():
    # The first query's match is the 3rd image, the second's the 6th.
    gallery = [(1, 9, 2), (2, 9, 2), (3, 5, 2), (4, 9, 2), (5, 9, 2), (6, 6, 2)]
    result = ranked_on_a_line([(0, 5, 1), (0, 6, 1)], gallery)
    assert (result.rank1, result.rank5, result.rank10) == (0, 0.5, 1)
    np.testing.assert_array_equal(result.cmc[:6], [0, 0, 0.5, 0.5, 0.5, 1])
    assert result.cmc.shape == (50,)
    assert result.mAP == pytest.approx((1 / 3 + 1 / 6) / 2)


def test_images_of_the_same_person_and_camera_and_junk_are_no_part_of_the_gallery():
    # Without the two in front, the distractor and the match are ranks 1 and 2.
    result = ranked_on_a_line([(0, 5, 1)], [(1, 5, 1), (2, -1, 2), (3, 0, 1), (4, 5, 2)])
    assert result.rank1 == 0
    assert result.mAP == pytest.approx(1 / 2)


def test_other_people_from_the_same_camera_stay():
    assert ranked_on_a_line([(0, 5, 1)], [(1, 6, 1), (2, 5, 2)]).mAP == pytest.approx(1 / 2)


def test_queries_without_a_match_are_left_out_and_counted_or_kept_with_zero():
    sets = [(0, 5, 1), (0, 6, 1), (0, 7, 1)], [(1, 5, 2), (2, 6, 1), (3, 0, 2)]
    skipped, kept = (ranked_on_a_line(*sets, rules=Rules(unmatched=choice)) for choice in ("skip", "zero"))
    assert skipped.invalid_queries == kept.invalid_queries == 2
    assert skipped.mAP == skipped.mINP == skipped.rank1 == 1
    assert kept.mAP == kept.mINP == kept.rank1 == pytest.approx(1 / 3)


def test_every_query_has_its_own_numbers():
    gallery = [(1, 9, 2), (2, 5, 2), (3, 5, 2), (4, 6, 2)]
    result = ranked_on_a_line([(0, 5, 1), (0, 7, 1), (0, 6, 1)], gallery)
    np.testing.assert_allclose(result.average_precisions, [(1 / 2 + 2 / 3) / 2, np.nan, 1 / 4])
    np.testing.assert_allclose(result.inverse_negative_penalties, [2 / 3, np.nan, 1 / 4])
    np.testing.assert_array_equal(result.first_ranks, [2, 0, 4])
    np.testing.assert_array_equal(result.matches, [2, 0, 1])


def test_ties_keep_the_order_of_the_gallery():
    # Four images at one distance, on both sides of the query; the matches are the 2nd and the 4th.
    result = ranked_on_a_line([(0, 5, 1)], [(1, 6, 2), (-1, 5, 2), (1, 7, 2), (-1, 5, 2)])
    assert result.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_network_that_maps_all_images_to_one_point_gets_the_order_of_the_gallery(metric):
    features = np.tile(np.random.default_rng(0).normal(size=300).astype(np.float32), (41, 1))
    identities, cameras = [6] * 30 + [5] + [6] * 9, [2] * 40
    result = ranked((features[:1], [5], [1]), (features[1:], identities, cameras), metric)
    assert result.mAP == pytest.approx(1 / 31)


def test_single_gallery_shot_draws_one_image_of_each_identity_that_is_kept():
    # In front of the match are five images of one person, of which one is drawn, and one from the query's own camera.
    gallery = [(1, 5, 1), (2, 9, 2), (3, 9, 2), (4, 9, 2), (5, 9, 2), (6, 9, 2), (7, 5, 2), (8, 8, 2)]
    result = ranked_on_a_line([(0, 5, 1)], gallery, rules=Rules(single_gallery_shot=True))
    np.testing.assert_array_equal(result.cmc[:3], [0, 1, 1])
    assert result.mAP == pytest.approx(1 / 6)  # of the whole gallery
    assert result.first_ranks == [6]


def test_single_gallery_shot_draws_anew_and_as_the_seed_says():
    # Of the two matches one is nearer than all others and one farther: rank 1 in about half of the draws.
    gallery = [(1, 5, 2), (2, 9, 2), (3, 5, 2)]

    def rank1(seed, repeats):
        rules = Rules(single_gallery_shot=True, repeats=repeats, seed=seed)
        return ranked_on_a_line([(0, 5, 1), (0, 5, 3)], gallery, rules=rules).rank1

    assert rank1(0, 2000) == pytest.approx(1 / 2, abs=0.05)
    assert rank1(3, 7) == rank1(3, 7)
    assert len({rank1(seed, 7) for seed in range(9)}) > 1
    assert rank1(0, 1) in (0, 1 / 2, 1)


def test_conventions_name_what_was_counted():
    texts = Rules(single_gallery_shot=True, repeats=3, seed=8, average_precision="trapezoid", unmatched="zero")
    told = " ".join(texts.conventions().values())
    for expected in ("trapezoid", "kept with 0", "single gallery shot", "3 draws", "seed 8", "own camera"):
        assert expected in told
    assert Rules().conventions()["average_precision"] == "step"


def test_progress_is_told_after_every_block():
    told = []
    gallery = [(1, 5, 2), (2, 5, 2)]
    ranked_on_a_line([(0, 5, 1)] * 5, gallery, memory=16, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_nearest_images_are_in_order_without_what_is_left_out(metric):
    random = np.random.default_rng(0)
    query = random.integers(-2, 3, (5, 3)), random.integers(1, 4, 5), random.integers(1, 3, 5)
    gallery = random.integers(-2, 3, (60, 3)), random.integers(-1, 4, 60), random.integers(1, 3, 60)
    sets = split(*query), split(*gallery)
    distances = FeatureDistances(sets[0].features, sets[1].features, metric)
    for row in range(5):
        order, matches = plain_ranking.kept_order(KEYS[metric], query, gallery, row)
        for count in (1, 10, 100):
            found, correct = nearest(distances, row, *sets, count=count)
            np.testing.assert_array_equal(found, order[:count])
            np.testing.assert_array_equal(correct, matches[:count])


def test_nothing_is_near_where_all_is_left_out():
    sets = split([[0]], [5], [1]), split([[1], [2]], [5, -1], [1, 2])
    found, correct = nearest(FeatureDistances(sets[0].features, sets[1].features, "euclidean"), 0, *sets)
    assert len(found) == len(correct) == 0


@pytest.mark.parametrize(
    ("query", "gallery", "message"),
    [
        ([(0, -1, 1)], [(1, 5, 2)], "query identities from 0 on.*got -1"),
        ([(0, 5, 1)], [(1, -2, 2)], "gallery identities from -1 on.*got -2"),
        ([(0, 5, 1), (0, 6, 1)], [(1, 7, 2)], "none of 2 shares an identity with any of 1"),
        (
            [(0, 5, 1), (0, 6, 1)],
            [(1, 5, 1), (2, 6, 1)],
            "2 of 2 .*only from their own camera.*a camera of its own each",
        ),
        ([(0, 5, 1), (0, 6, 1)], [(1, 5, 1), (2, 7, 2)], "1 of 2 .*only from their own.*the other 1 have none at all"),
    ],
)
def test_what_cannot_be_ranked_is_refused_with_the_reason(query, gallery, message):
    with pytest.raises(UserError, match=message) as error:
        ranked_on_a_line(query, gallery)
    assert "\n" not in str(error.value)


def test_empty_sets_have_no_match():
    nothing, something = (np.zeros((0, 1)), [], []), (np.ones((2, 1)), [5, 6], [2, 2])
    with pytest.raises(UserError, match="none of 0"):
        ranked(nothing, something)
    with pytest.raises(UserError, match="any of 0 gallery images"):
        ranked(something, nothing)


@pytest.mark.parametrize("bad", [{"average_precision": "area"}, {"unmatched": "one"}, {"repeats": 0}, {"seed": -1}])
def test_unknown_rules_are_refused_with_the_choices(bad):
    with pytest.raises(UserError, match=r"step, trapezoid|skip, zero|repeats >= 1"):
        Rules(**bad)


def test_distances_of_other_sets_are_refused():
    sets = split([[0]], [5], [1]), split([[1]], [5], [2])
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        evaluate(FeatureDistances(np.ones((1, 1)), np.ones((2, 1))), *sets)
