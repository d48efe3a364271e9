import json

import numpy as np
import pytest

from kdas_tf.client import thresholds
from kdas_tf.errors import UserError
from kdas_tf.evaluation import verification


@pytest.fixture
def file(tmp_path):
    """As the evaluate stage writes it: 1000 pairs of different people at 0.001, 0.002, ..., one of the same at 0."""
    collected = verification.Verification(verification.VerificationSettings(max_fpr=0.5), "euclidean")
    collected.begin(1000)
    collected.add(0, np.array([0, *np.arange(1, 1001) / 1000], np.float32), np.array([0]))
    collected.result().save(tmp_path / "verification.json")
    return tmp_path / "verification.json"


@pytest.mark.parametrize(("fpr", "refused"), [(0.0, 1), (0.001, 2), (0.0019, 2), (0.01, 11)])
def test_the_threshold_is_just_below_the_first_pair_that_must_be_refused(file, fpr, refused):
    threshold = thresholds.read(file, fpr)
    assert threshold.value == np.nextafter(np.float32(refused / 1000), np.float32(0))
    assert threshold.distance == "euclidean"
    assert threshold.source == f"{file} at a rate of {fpr:g}"


@pytest.mark.parametrize("fpr", [-0.1, 0.6, float("nan")])
def test_a_rate_without_a_threshold_is_refused(file, fpr):
    with pytest.raises(UserError, match=r"Expected a false-positive rate from 0 to 0\.5"):
        thresholds.read(file, fpr)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "format 2, expected 1"),
        ({"points": 5}, "TypeError"),
        ({"curve": {"fpr": [0.0], "threshold": []}}, "ValueError"),
        ({"max_fpr": 10**400}, "OverflowError"),
        ({"conditions": {"flip": True}}, "averaged with those of the mirror images.*Evaluate without flip"),
        ({"distance": "reranked"}, "for the distance 'reranked'; expected one of cosine, euclidean"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(file, change, reason):
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=reason) as caught:
        thresholds.read(file, 0.001)
    assert "\n" not in str(caught.value)
