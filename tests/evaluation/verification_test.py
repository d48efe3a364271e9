import json

import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.evaluation import verification
from kdas_tf.evaluation.distances import FeatureDistances
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.ranking import evaluate
from kdas_tf.evaluation.verification import Verification, VerificationSettings


def judged(same, different, *, rows=1, max_fpr=0.01, distance="cosine"):
    """The result for these distances, given as those of a few queries."""
    collector = Verification(VerificationSettings(max_fpr), distance)
    collector.begin(len(different))
    for row, (wanted, others) in enumerate(
        zip(np.array_split(same, rows), np.array_split(different, rows), strict=True)
    ):
        values = np.concatenate([others, np.full(3, np.inf), wanted]).astype(np.float32)
        collector.add(row, values, np.arange(len(others) + 3, len(values)))
    return collector.result()


def random_pairs(seed=0, same=300, different=60_000):
    random = np.random.default_rng(seed)
    return random.normal(0.4, 0.1, same).astype(np.float32), random.normal(1, 0.15, different).astype(np.float32)


def rates(same, different, threshold):
    """TPR and FPR by the definition."""
    return np.mean(same <= np.float32(threshold)), np.mean(different <= np.float32(threshold))


def test_rates_and_threshold_by_hand():
    # Of 200 pairs of different people two may be accepted at 1e-2: those at 0.1 and 0.3, not the one at 0.5.
    different = [0.5, 0.1, 0.3] + [2.0] * 197
    result = judged([0.2, 0.4, 0.5, 0.6], different)
    (point,) = [point for point in result.points if point.asked == 1e-2]
    assert point.threshold == np.nextafter(np.float32(0.5), np.float32(0))
    assert (point.fpr, point.tpr) == (2 / 200, 2 / 4)
    assert (result.same, result.different) == (4, 200)
    # At 1e-3 none may be.
    assert result.points[1].threshold == np.nextafter(np.float32(0.1), np.float32(0))


def test_pairs_at_one_distance_are_accepted_or_refused_together():
    # Two may be accepted, but three are at the second distance: accepting one would accept all three.
    different = [0.1, 0.3, 0.3, 0.3] + [2.0] * 196
    result = judged([0.05, 0.2, 0.3], different)
    point = result.points[0]
    assert point.threshold < np.float32(0.3)
    assert (point.fpr, point.tpr) == (1 / 200, 2 / 3)


@pytest.mark.parametrize("rows", [1, 7, 200])
def test_the_threshold_is_the_largest_that_keeps_the_rate(rows):
    same, different = random_pairs()
    result = judged(same, different, rows=rows)
    for point in (*result.points, *(point for point in result.curve if point.asked <= 1e-2)):
        threshold = np.float32(point.threshold)
        assert rates(same, different, threshold)[1] <= point.asked * (1 + 1e-9)
        assert rates(same, different, np.nextafter(threshold, np.float32(9)))[1] > point.asked
        tpr, fpr = rates(same, different, point.threshold)
        assert (point.tpr, point.fpr) == (pytest.approx(tpr), pytest.approx(fpr))
    assert [point.asked for point in result.points] == [1e-2, 1e-3, 1e-4]


def test_the_curve_is_short_rises_and_is_right():
    same, different = random_pairs(different=600_000)
    result = judged(same, different, rows=300)
    curve = np.array(result.curve)
    assert len(curve) < 150
    assert (np.diff(curve, axis=0) >= 0).all()
    assert curve[0, 2] == 0 and tuple(curve[-1, 2:]) == (1, 1)
    for point in result.curve:
        tpr, fpr = rates(same, different, point.threshold)
        assert point.tpr == pytest.approx(tpr)
        # Exact up to max_fpr; above it from one pair in two.
        assert point.fpr == pytest.approx(fpr, rel=1e-9 if point.asked <= 1e-2 else 0.05)


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(verification, "_SAMPLE", 1000)
    _, different = random_pairs(different=200_000)
    collector = Verification()
    collector.begin(len(different))
    for row, values in enumerate(np.split(different, 200)):
        collector.add(row, values.copy(), np.array([0]) if row == 0 else np.array([], int))
        # The nearest hundredth, as much again, and one row.
        assert sum(map(len, collector._nearest)) <= 2 * 2001 + 1000
        assert sum(map(len, collector._sample)) <= 1500


def test_every_point_is_exact_where_all_pairs_are_kept():
    same, different = random_pairs(different=5000)
    result = judged(same, different, max_fpr=1)
    for point in result.curve:
        assert point.fpr == rates(same, different, np.float32(point.threshold))[1]
    assert rates(same, different, result.curve[-1].threshold) == (1, 1)


def test_the_pairs_are_those_of_the_ranking():
    random = np.random.default_rng(0)

    def split(count, lowest, name):
        features = random.normal(size=(count, 16)).astype(np.float32)
        return Embeddings(features, random.integers(lowest, 9, count), random.integers(1, 4, count), name)

    query, gallery = split(30, 1, "query"), split(400, -1, "gallery")
    distances = FeatureDistances(query.features, gallery.features)
    collector = Verification()
    evaluate(distances, query, gallery, verification=collector, memory=5000)
    result = collector.result()
    same = query.identities[:, None] == gallery.identities
    own = same & (query.cameras[:, None] == gallery.cameras)
    rows = distances.rows(0, 30)
    wanted, others = rows[same & ~own], rows[~same & (gallery.identities != -1)]
    assert (result.same, result.different) == (len(wanted), len(others))
    for point in result.points:
        tpr, fpr = rates(wanted, others, point.threshold)
        assert (point.tpr, point.fpr) == (pytest.approx(tpr), pytest.approx(fpr))
    # A collector may be used again.
    evaluate(distances, query, gallery, verification=collector, memory=5000)
    assert collector.result().points == result.points


def test_the_file_holds_all_points_and_says_how_a_threshold_is_used(tmp_path):
    result = judged(*random_pairs(), distance="euclidean")
    result.save(tmp_path / "verification.json")
    content = json.loads((tmp_path / "verification.json").read_text())
    assert (content["distance"], content["accept"]) == ("euclidean", "distance <= threshold")
    assert (content["pairs_of_one_person"], content["pairs_of_different_people"]) == (300, 60_000)
    assert [tuple(point.values()) for point in content["points"]] == list(result.points)
    assert list(zip(*content["curve"].values(), strict=True)) == list(result.curve)


@pytest.mark.parametrize("max_fpr", [0, -1, 1.5])
def test_a_max_fpr_out_of_range_is_refused(max_fpr):
    with pytest.raises(UserError, match="max_fpr to be above 0 and at most 1"):
        VerificationSettings(max_fpr)


@pytest.mark.parametrize(("same", "different"), [([], [0.5]), ([0.5], [])])
def test_a_threshold_needs_pairs_of_both_kinds(same, different):
    with pytest.raises(UserError, match=f"got {len(same)} and {len(different)}"):
        judged(same, different)


@pytest.mark.parametrize("pairs", [([0.5], [0.5]), ([0.2] * 3, [0.1] * 5), ([0.1], [0.2, 0.3, 0.4])])
def test_a_handful_of_pairs_has_a_curve(pairs):
    result = judged(*pairs)
    for point in result.curve:
        assert (point.tpr, point.fpr) == pytest.approx(rates(*map(np.float32, pairs), point.threshold))
    assert result.curve[-1].fpr == 1
