import json

import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.evaluation import verification
from kdas_tf.evaluation.distances import FeatureDistances
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.ranking import evaluate
from kdas_tf.evaluation.verification import Verification


def judged(same, different, *, rows=1, **kwargs):
    """The result for these distances, given as those of a few queries."""
    collector = Verification(**kwargs)
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
    assert result.threshold_at(1e-3) == np.nextafter(np.float32(0.1), np.float32(0))


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
    for fpr in (0, 1e-4, 3.3e-4, 1e-3, 0.0071, 1e-2):
        threshold = np.float32(result.threshold_at(fpr))
        assert rates(same, different, threshold)[1] <= fpr * (1 + 1e-9)
        assert rates(same, different, np.nextafter(threshold, np.float32(9)))[1] > fpr
    for point in result.points:
        tpr, fpr = rates(same, different, point.threshold)
        assert (point.tpr, point.fpr) == (pytest.approx(tpr), pytest.approx(fpr))
        assert point.threshold == result.threshold_at(point.asked)
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


def test_every_rate_is_exact_where_all_pairs_are_kept():
    same, different = random_pairs(different=5000)
    result = judged(same, different, max_fpr=1)
    for fpr in (0.3, 0.5, 0.9):
        threshold = np.float32(result.threshold_at(fpr))
        assert rates(same, different, threshold)[1] == pytest.approx(fpr)
    assert rates(same, different, result.threshold_at(1)) == (1, 1)


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
    evaluate(distances, query, gallery, verification=collector)
    assert collector.result().points == result.points


def test_a_result_is_read_back_and_its_thresholds_never_exceed_the_rate(tmp_path):
    same, different = random_pairs()
    result = judged(same, different, distance="euclidean")
    result.save(tmp_path / "thresholds.json")
    read = verification.load(tmp_path / "thresholds.json")
    assert (read.points, read.curve) == (result.points, result.curve)
    assert (read.distance, read.same, read.different) == ("euclidean", 300, 60_000)
    for fpr in (0, 1e-5, 1e-4, 4e-4, 1e-3, 1e-2):
        threshold = read.threshold_at(fpr)
        assert rates(same, different, threshold)[1] <= fpr
        assert threshold <= result.threshold_at(fpr)
    for fpr in (1e-2, 1e-3, 1e-4):
        assert read.threshold_at(fpr) == result.threshold_at(fpr)
    assert json.loads((tmp_path / "thresholds.json").read_text())["accept"] == "distance <= threshold"


@pytest.mark.parametrize("fpr", [-0.1, 0.02, float("nan")])
def test_a_rate_beyond_what_was_kept_is_refused(fpr):
    with pytest.raises(UserError, match=r"from 0 to 0\.01.*max_fpr"):
        judged([0.1], [0.2, 0.3]).threshold_at(fpr)


@pytest.mark.parametrize("max_fpr", [0, -1, 1.5])
def test_a_max_fpr_out_of_range_is_refused(max_fpr):
    with pytest.raises(UserError, match="max_fpr above 0 and at most 1"):
        Verification(max_fpr)


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


def test_a_file_with_an_empty_curve_is_refused(tmp_path):
    path = tmp_path / "thresholds.json"
    judged([0.1], [0.2]).save(path)
    content = json.loads(path.read_text())
    content["curve"] = {name: [] for name in content["curve"]}
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="the curve is empty"):
        verification.load(path)


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", '{"format": 2}', '{"format": 1, "curve": {"asked": [1]}}', "\xff"]
)
def test_a_file_without_thresholds_is_refused_with_the_reason(content, tmp_path):
    path = tmp_path / "thresholds.json"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"Expected thresholds in .*Evaluate again") as error:
        verification.load(path)
    assert "\n" not in str(error.value)
