import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.models.heads import ReIDHead


@pytest.fixture
def feature_map():
    return np.random.default_rng(0).normal(1, 2, (6, 4, 2, 5)).astype("float32")


def built(feature_map):
    head = ReIDHead(3)
    head.build(feature_map.shape)
    head.neck.gamma.assign([1.0, 2.0, 3.0, 4.0, 5.0])
    return head


def test_in_training_the_neck_normalises_the_pooled_features_by_the_batch(feature_map):
    head = built(feature_map)
    output = head(feature_map, training=True)
    features = feature_map.mean((1, 2))
    embedding = (features - features.mean(0)) / np.sqrt(features.var(0) + 1e-5) * [1, 2, 3, 4, 5]
    np.testing.assert_allclose(output.features, features, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(output.embedding, embedding, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(output.logits, embedding @ np.array(head.classifier.kernel), rtol=1e-4, atol=1e-5)


def test_in_inference_the_neck_uses_its_moving_statistics(feature_map):
    head = built(feature_map)
    head.neck.moving_mean.assign(np.arange(5.0))
    head.neck.moving_variance.assign([4.0] * 5)
    expected = (feature_map.mean((1, 2)) - np.arange(5)) / np.sqrt(4 + 1e-5) * [1, 2, 3, 4, 5]
    np.testing.assert_allclose(head(feature_map).embedding, expected, rtol=1e-4, atol=1e-5)


def test_the_neck_has_no_offset_and_the_classifier_no_bias(feature_map):
    assert {tuple(v.shape) for v in built(feature_map).trainable_variables} == {(5,), (5, 3)}


@pytest.mark.parametrize("identities", [1, 0, -3])
def test_fewer_than_two_identities_are_refused(identities):
    with pytest.raises(UserError, match=f"at least 2.*got {identities}"):
        ReIDHead(identities)
