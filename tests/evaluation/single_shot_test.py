import collections

import numpy as np
import pytest

from kdas_tf.evaluation.distances import FeatureDistances
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.matching import Matching
from kdas_tf.evaluation.single_shot import SingleShot


def on_a_line(points, name="query"):
    places, identities, cameras = (np.array(column) for column in zip(*points, strict=True))
    return Embeddings(places[:, None].astype(np.float32), identities, cameras, name)


def drawn_ranks(query, gallery, repeats, seed=0, row=0):
    query, gallery = on_a_line(query), on_a_line(gallery, "gallery")
    matching = Matching(query, gallery)
    distances = FeatureDistances(query.features, gallery.features, "euclidean")
    shots = SingleShot(matching, repeats, seed)
    values = distances.rows(row, row + 1)[0]
    values[matching.junk] = values[matching[row].removed] = np.inf
    return shots.ranks(distances, row, values)


def expected_shares(query, gallery):
    """Chances of the first match's rank, over all galleries of one kept image for each identity."""
    (_, identity, camera) = query
    groups = collections.defaultdict(list)
    for image, (place, who, where) in enumerate(gallery):
        if who != -1 and (who, where) != (identity, camera):
            groups[who].append((abs(place - query[0]), image))
    shares = collections.Counter()
    for match in groups[identity]:
        # The number of other people whose image is nearer is a sum of independent yes and no.
        chances = np.ones(1)
        for who, images in groups.items():
            if who != identity:
                nearer = sum(image < match for image in images) / len(images)
                chances = np.convolve(chances, [1 - nearer, nearer])
        for rank, chance in enumerate(chances, 1):
            shares[rank] += chance / len(groups[identity])
    return shares


def test_ranks_come_as_often_as_chance_has_it():
    query = (0, 5, 1)
    gallery = [(3, 5, 2), (1, 6, 1), (5, 6, 2), (2, 7, 1), (-3, 7, 1), (9, 7, 2), (6, 5, 3), (1, 5, 1), (4, 8, 2)]
    gallery += [(0, -1, 2), (1, 0, 1), (2, 0, 1), (8, 0, 1)]
    ranks = drawn_ranks([query], gallery, repeats=4000)
    expected = expected_shares(query, gallery)
    assert sum(expected.values()) == pytest.approx(1)
    for rank in range(1, 7):
        assert (ranks == rank).mean() == pytest.approx(expected[rank], abs=0.03)


def test_draws_depend_on_the_seed_and_the_query_alone():
    arguments = [(0, 5, 1)] * 2, [(2, 5, 2), (1, 6, 1), (3, 6, 2), (1, 7, 2), (4, 7, 2)]
    np.testing.assert_array_equal(drawn_ranks(*arguments, 20, seed=4), drawn_ranks(*arguments, 20, seed=4))
    assert (drawn_ranks(*arguments, 20, seed=4) != drawn_ranks(*arguments, 20, seed=5)).any()
    assert (drawn_ranks(*arguments, 20, row=0) != drawn_ranks(*arguments, 20, row=1)).any()
