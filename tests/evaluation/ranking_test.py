import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.evaluation.ranking import evaluate_ranking

CASES = ("market_like", "hard", "few_positives")
NAMES = ("query_features", "query_pids", "query_camids", "gallery_features", "gallery_pids", "gallery_camids")


def arguments_of(arrays, case):
    return [arrays[f"{case}/{name}"] for name in NAMES]


def on_a_line(query, gallery, **kwargs):
    """Ranks points on a line: (place, identity, camera) of the queries and of the gallery."""

    def columns(points):
        places, identities, cameras = zip(*points, strict=True)
        return np.array(places, np.float32)[:, None], np.array(identities), np.array(cameras)

    return evaluate_ranking(*columns(query), *columns(gallery), metric="euclidean", **kwargs)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("case", CASES)
def test_ranking_agrees_with_torchreid(case, metric, reference):
    arrays = reference("ranking.npz")
    result = evaluate_ranking(*arguments_of(arrays, case), metric=metric)
    assert result.mAP == pytest.approx(float(arrays[f"{case}/mAP"]), abs=1e-6)
    assert result.mINP == pytest.approx(float(arrays[f"{case}/mINP"]), abs=1e-6)
    np.testing.assert_allclose(result.cmc[:20], arrays[f"{case}/cmc"], atol=1e-6)
    assert result.invalid_queries == arrays[f"{case}/invalid_queries"]


@pytest.mark.parametrize("chunk", [1, 1000, 7777])
def test_the_result_does_not_depend_on_how_the_distances_are_cut(chunk, reference, monkeypatch):
    arguments = arguments_of(reference("ranking.npz"), "market_like")
    whole = evaluate_ranking(*arguments)
    monkeypatch.setattr("kdas_tf.evaluation.ranking._GALLERY_BLOCK", 37)
    cut = evaluate_ranking(*arguments, chunk=chunk)
    assert (cut.mAP, cut.mINP) == (whole.mAP, whole.mINP)
    np.testing.assert_array_equal(cut.cmc, whole.cmc)


def test_average_precision_and_inverse_negative_penalty_of_one_query_by_hand():
    # Matches at ranks 1, 3 and 6: AP = (1/1 + 2/3 + 3/6) / 3 = 13/18, INP = 3/6.
    gallery = [(1, 5, 2), (2, 7, 2), (3, 5, 2), (4, 7, 2), (5, 7, 2), (6, 5, 2)]
    result = on_a_line([(0, 5, 1)], gallery)
    assert result.mAP == pytest.approx(13 / 18)
    assert result.mINP == pytest.approx(1 / 2)
    assert result.rank1 == result.rank5 == result.rank10 == 1


def test_ranks_count_the_queries_with_a_match_so_far():
    # The first query's match is the 3rd image, the second's the 6th.
    gallery = [(1, 9, 2), (2, 9, 2), (3, 5, 2), (4, 9, 2), (5, 9, 2), (6, 6, 2)]
    result = on_a_line([(0, 5, 1), (0, 6, 1)], gallery)
    assert (result.rank1, result.rank5, result.rank10) == (0, 0.5, 1)
    np.testing.assert_array_equal(result.cmc[:6], [0, 0, 0.5, 0.5, 0.5, 1])
    assert result.mAP == pytest.approx((1 / 3 + 1 / 6) / 2)


def test_images_of_the_same_person_and_camera_and_junk_are_no_part_of_the_gallery():
    # Without the two in front, the distractor and the match are ranks 1 and 2.
    result = on_a_line([(0, 5, 1)], [(1, 5, 1), (2, -1, 2), (3, 0, 1), (4, 5, 2)])
    assert result.rank1 == 0
    assert result.mAP == pytest.approx(1 / 2)


def test_other_people_from_the_same_camera_stay():
    assert on_a_line([(0, 5, 1)], [(1, 6, 1), (2, 5, 2)]).mAP == pytest.approx(1 / 2)


def test_queries_without_a_match_are_left_out_and_counted():
    result = on_a_line([(0, 5, 1), (0, 6, 1), (0, 7, 1)], [(1, 5, 2), (2, 6, 1), (3, 0, 2)])
    assert result.invalid_queries == 2
    assert result.mAP == result.rank1 == 1


def test_ties_keep_the_order_of_the_gallery():
    # Four images at one distance, on both sides of the query; the matches are the 2nd and the 4th.
    result = on_a_line([(0, 5, 1)], [(1, 6, 2), (-1, 5, 2), (1, 7, 2), (-1, 5, 2)])
    assert result.mAP == pytest.approx((1 / 2 + 2 / 4) / 2)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_network_that_maps_all_images_to_one_point_gets_the_order_of_the_gallery(metric):
    features = np.tile(np.random.default_rng(0).normal(size=300).astype(np.float32), (41, 1))
    identities = np.array([5] + [6] * 30 + [5] + [6] * 9)
    cameras = np.array([1] + [2] * 40)
    result = evaluate_ranking(
        features[:1], identities[:1], cameras[:1], features[1:], identities[1:], cameras[1:], metric=metric
    )
    assert result.mAP == pytest.approx(1 / 31)


def test_cosine_ignores_lengths_and_euclidean_does_not():
    query, gallery = np.array([[1.0, 0.0]]), np.array([[1.0, 0.1], [9.0, 0.0]])
    for metric, expected in (("cosine", 1.0), ("euclidean", 0.5)):
        assert evaluate_ranking(query, [5], [1], gallery, [6, 5], [2, 2], metric=metric).mAP == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: np.full((2, 3), np.nan)}, "finite query features.*2 of 2"),
        ({3: np.array([[1, 2, 3], [1, np.inf, 0]])}, "finite gallery features.*1 of 2, the first at 1"),
        ({3: np.ones((2, 4))}, "same width, got 3 and 4"),
        ({0: np.ones(3)}, r"\[images, D\]"),
        ({1: [5]}, "each of 2 query features"),
        ({5: [1, 2, 3]}, "each of 2 gallery features"),
        ({1: [0, 5]}, "identities from 1 on"),
        ({4: [7, 8]}, "none of 2"),
        ({0: np.ones((0, 3)), 1: [], 2: []}, "none of 0"),
        ({3: np.ones((0, 3)), 4: [], 5: []}, "none of 2"),
    ],
)
def test_what_cannot_be_ranked_is_refused_with_the_reason(change, message):
    arguments = [np.ones((2, 3)), [5, 6], [1, 1], np.ones((2, 3)), [5, 6], [2, 2]]
    with pytest.raises(UserError, match=message):
        evaluate_ranking(*[change.get(i, argument) for i, argument in enumerate(arguments)])


@pytest.mark.parametrize("bad", [{"metric": "manhattan"}, {"chunk": 0}])
def test_unknown_metrics_and_empty_chunks_are_refused(bad):
    with pytest.raises(UserError, match="cosine, euclidean"):
        evaluate_ranking(np.ones((1, 2)), [1], [1], np.ones((1, 2)), [1], [2], **bad)
