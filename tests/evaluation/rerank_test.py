import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.evaluation import rerank
from kdas_tf.evaluation.rerank import RerankedDistances, Reranking

CASES = ("default", "small_k")


def reranked(query, gallery, **settings):
    return RerankedDistances(query, gallery, Reranking(**settings))


def people(identities, photographs, width=24, noise=0.7, seed=0):
    """Unit features around one centre per person, and how many of them are queries."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((identities, width), np.float32)
    features = np.tile(centres, (photographs, 1)) + noise * generator.standard_normal(
        (identities * photographs, width), np.float32
    )
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


def plain(query, gallery, k1, k2, weight):
    """The rules with sets, dictionaries and full matrices in float64."""
    points = np.concatenate([query, gallery]).astype(np.float64)
    original = np.array([((points - point) ** 2).sum(1) for point in points])
    order = np.argsort(original, axis=1, kind="stable").tolist()
    original /= original.max(1, keepdims=True)

    def reciprocal(p, k):
        return {g for g in order[p][: k + 1] if p in order[g][: k + 1]}

    encodings = []
    for p in range(len(points)):
        core = reciprocal(p, k1)
        halves = [reciprocal(c, int(np.around(k1 / 2))) for c in core]
        members = core.union(*(half for half in halves if len(half & core) > 2 / 3 * len(half)))
        shares = {g: np.exp(-original[p, g]) for g in members}
        encodings.append({g: share / sum(shares.values()) for g, share in shares.items()})
    dense = np.zeros_like(original)
    for p in range(len(points)):
        for g in order[p][:k2]:
            for entry, share in encodings[g].items():
                dense[p, entry] += share / k2
    queries = len(query)
    shared = np.array([[np.minimum(a, b).sum() for b in dense[queries:]] for a in dense[:queries]])
    return (1 - weight) * (1 - shared / (2 - shared)) + weight * original[:queries, queries:]


def whole(distances):
    queries, gallery = distances.shape
    exact = np.array([distances.exact(row, np.arange(gallery)) for row in range(queries)])
    return distances.rows(0, queries), exact


@pytest.mark.parametrize("case", CASES)
def test_distances_agree_with_the_code_of_zhong_et_al(case, reference):
    arrays = reference("rerank.npz")
    settings = Reranking(
        k1=int(arrays[f"{case}/k1"]), k2=int(arrays[f"{case}/k2"]), weight=float(arrays[f"{case}/lambda"])
    )
    distances = RerankedDistances(arrays[f"{case}/query_features"], arrays[f"{case}/gallery_features"], settings)
    expected = arrays[f"{case}/reranked_distances"]
    assert distances.shape == expected.shape
    rows, exact = whole(distances)
    assert rows.dtype == np.float32
    assert exact.dtype == np.float64
    np.testing.assert_allclose(rows, expected, atol=2e-6)
    np.testing.assert_allclose(exact, expected, atol=2e-6)


@pytest.mark.parametrize(
    ("k1", "k2", "weight"),
    [(20, 6, 0.3), (5, 3, 0.3), (1, 1, 0.5), (9, 1, 0), (9, 4, 1), (3, 15, 0.2), (119, 6, 0.3)],
)
def test_distances_agree_with_a_plain_version_of_the_rules(k1, k2, weight):
    features = people(10, 12)
    rows, exact = whole(reranked(features[:30], features[30:], k1=k1, k2=k2, weight=weight))
    expected = plain(features[:30], features[30:], k1, k2, weight)
    np.testing.assert_allclose(exact, expected, atol=1e-6)
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_the_matches_of_a_person_come_nearer():
    features = people(30, 12, noise=0.9)
    query, gallery = features[:30], features[30:]
    same = np.arange(30)[:, None] == np.tile(np.arange(30), 11)
    plain_order = np.argsort(-query @ gallery.T, axis=1)
    order = np.argsort(reranked(query, gallery, k1=10, k2=4).rows(0, 30), axis=1)
    precision = [np.take_along_axis(same, ranks, 1)[:, :11].mean() for ranks in (plain_order, order)]
    assert precision[1] > precision[0] + 0.05


def test_rows_and_exact_distances_do_not_depend_on_what_is_asked_for_together(monkeypatch):
    features = people(20, 10)
    distances = RerankedDistances(features[:40], features[40:])
    rows, exact = whole(distances)
    monkeypatch.setattr(rerank, "_PAIRS", 100)
    np.testing.assert_allclose(distances.rows(0, 40), rows, atol=1e-6)
    for first, last in ((0, 1), (3, 17), (39, 40), (5, 5)):
        np.testing.assert_allclose(distances.rows(first, last), rows[first:last], atol=1e-6)
    columns = np.array([159, 3, 3, 77])
    for row in (0, 39):
        np.testing.assert_array_equal(distances.exact(row, columns), exact[row, columns])
        assert distances.exact(row, columns[:0]).shape == (0,)


def test_rows_are_the_callers_own():
    features = people(10, 5)
    distances = reranked(features[:10], features[10:], k1=5)
    before = distances.rows(0, 10)
    changed = distances.rows(0, 10)
    changed[:] = np.inf
    np.testing.assert_array_equal(distances.rows(0, 10), before)


@pytest.mark.parametrize("weight", [0, 0.3, 1])
def test_windows_hold_every_image_whose_order_rows_leave_open(weight):
    # All gallery images are one step from the queries, which are close to each other: distances differ in last digits.
    generator = np.random.default_rng(0)
    steps = generator.standard_normal((300, 200))
    gallery = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    query = 1e-8 * generator.standard_normal((4, 200))
    distances = reranked(query, gallery, weight=weight)
    reversed_pairs = 0
    for row in range(4):
        values, exact = distances.rows(row, row + 1)[0], distances.exact(row, np.arange(300))
        low, high = distances.window(row, values)
        assert low.dtype == high.dtype == np.float32
        assert (high - low).max() < 1e-4
        nearer, reversed_ = exact[:, None] < exact, values[:, None] > values
        assert not (nearer & (values[:, None] > high)).any()
        assert not (nearer & (values < low[:, None])).any()
        reversed_pairs += (nearer & reversed_).sum()
    assert reversed_pairs > 100 or not weight


def test_gallery_images_with_equal_features_are_at_equal_distances():
    features = people(8, 10)
    gallery = np.concatenate([features[16:], features[16:20], np.repeat(features[30:31], 40, 0)])
    distances = RerankedDistances(features[:16], gallery)
    _, exact = whole(distances)
    np.testing.assert_array_equal(exact[:, 64:68], exact[:, :4])
    np.testing.assert_array_equal(exact[:, 68:], np.repeat(exact[:, 14:15], 40, 1))


def test_a_network_that_maps_all_images_to_one_point_gets_equal_distances():
    features = np.tile(people(1, 1), (60, 1))
    rows, exact = whole(RerankedDistances(features[:5], features[5:]))
    np.testing.assert_array_equal(rows, rows[0, 0])
    np.testing.assert_array_equal(exact, exact[0, 0])


@pytest.mark.parametrize("change", [lambda f: f * 1e6, lambda f: f.astype(np.float64) * 1e-6, lambda f: f + 3])
def test_distances_do_not_depend_on_scale_and_place_of_the_features(change):
    features = people(10, 10)
    expected = RerankedDistances(features[:20], features[20:]).rows(0, 20)
    moved = change(features)
    np.testing.assert_allclose(RerankedDistances(moved[:20], moved[20:]).rows(0, 20), expected, atol=1e-5)


def test_half_precision_features_are_ranked():
    features = people(10, 10).astype(np.float16)
    rows = RerankedDistances(features[:20], features[20:]).rows(0, 20)
    np.testing.assert_allclose(rows, plain(features[:20], features[20:], 20, 6, 0.3), atol=1e-6)


def test_the_full_matrix_is_never_made():
    tracemalloc = pytest.importorskip("tracemalloc")
    features = people(250, 20, width=8)
    tracemalloc.start()
    try:
        distances = RerankedDistances(features[:2500], features[2500:])
        for first in range(0, 2500, 50):
            distances.rows(first, first + 50)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5000 * 5000  # a byte a pair; the full matrices of the rules are several of 4 bytes a pair


def test_progress_counts_every_point():
    calls = []
    features = people(10, 5)
    RerankedDistances(features[:5], features[5:], progress=lambda *call: calls.append(call))
    assert calls == [(50, 50)]


@pytest.mark.parametrize(("k1", "k2", "largest"), [(30, 6, "k1 to at most 29 and k2 to at most 30"), (5, 31, "k1 to")])
def test_too_few_photographs_are_refused_in_one_line(k1, k2, largest):
    features = people(10, 3)
    with pytest.raises(UserError, match=f"at least 31 photographs.*got 30. Lower {largest}") as error:
        reranked(features[:5], features[5:], k1=k1, k2=k2)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "value"), [("k1", 0), ("k2", 0), ("weight", 1.5), ("weight", float("nan"))])
def test_numbers_out_of_range_are_refused_when_they_are_set(name, value):
    with pytest.raises(UserError, match=f"Reranking.{name} to be .*got {value}"):
        Reranking(**{name: value})


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (np.ones((5, 3), np.float32), r"same width, got arrays of shape \(5, 3\) and \(25, 24\)"),
        (np.ones(24, np.float32), "same width"),
        (np.full((5, 24), np.nan, np.float32), "Expected finite features"),
        (np.full((5, 24), np.inf, np.float32), "Expected finite features"),
        (np.full((5, 24), 1e300), "Expected finite features"),
        (np.full((5, 24), 1e18, np.float32), "Expected finite features"),
    ],
)
def test_features_that_do_not_fit_are_refused_in_one_line(query, message):
    with pytest.raises(UserError, match=message) as error:
        RerankedDistances(query, people(5, 5))
    assert "\n" not in str(error.value)
