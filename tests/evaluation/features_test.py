import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.evaluation.features import collect, extract
from kdas_tf.models.heads import ReIDOutput
from tests.evaluation.pixels import PixelNetwork, batches_of, ten_images


@pytest.fixture
def images():
    return ten_images()


def test_embeddings_are_those_of_inference_in_order_and_of_length_one(images):
    network = PixelNetwork()
    network.head.neck.moving_mean.assign([100.0, 120.0, 140.0])
    network.head.neck.moving_variance.assign([4.0, 1.0, 9.0])
    features = extract(network, batches_of(images, 4), total=10)
    expected = (images.mean((1, 2)) - [100, 120, 140]) / np.sqrt(np.array([4, 1, 9]) + 1e-5)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [0, 2])
def test_a_function_that_gives_another_number_of_rows_than_images_is_refused(images, factor):
    with pytest.raises(ValueError, match="a row for each of 4 images, got an array of shape"):
        collect(lambda some: np.zeros((factor * len(some), 5)), batches_of(images, 4), total=10)


def test_progress_is_told_after_every_batch(images):
    told = []
    extract(PixelNetwork(), batches_of(images, 4), total=10, progress=lambda done, total: told.append((done, total)))
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_an_embedding_of_zeros_stays_finite():
    np.testing.assert_array_equal(
        extract(PixelNetwork(), [{"image": np.zeros((1, 2, 2, 3))}], total=1), np.zeros((1, 3))
    )


def test_no_batch_gives_no_row():
    assert extract(PixelNetwork(), [], total=0).shape == (0, 0)


def left_column(images):
    """An embedding that knows left from right, as any function that is no Keras model."""
    return images[:, :, 0, :].sum(1)


def test_any_function_of_images_can_be_judged(images):
    expected = images[:, :, 0].sum(1)
    expected /= np.sqrt((expected**2).sum(1, keepdims=True))
    np.testing.assert_allclose(extract(left_column, batches_of(images, 4), total=10), expected, rtol=1e-5)
    by_name = extract(
        lambda images: ReIDOutput(None, tf.constant(left_column(images)), None), batches_of(images, 4), total=10
    )
    np.testing.assert_allclose(by_name, expected, rtol=1e-5)


def test_flipping_averages_both_views_before_the_length_is_taken(images):
    images[0, :, 0], images[0, :, 1] = (3, 0, 0), (0, 4, 0)
    features = extract(left_column, batches_of(images, 4), total=10, flip=True)
    np.testing.assert_allclose(features[0], [0.6, 0.8, 0], rtol=1e-6)
    average = (images[:, :, 0].sum(1) + images[:, :, -1].sum(1)) / 2
    np.testing.assert_allclose(features, average / np.sqrt((average**2).sum(1, keepdims=True)), rtol=1e-5)


def test_flipping_leaves_what_a_network_returns_as_it_is():
    kept = np.ones((1, 3), np.float32)
    features = extract(lambda images: kept, [{"image": np.zeros((1, 2, 2, 3))}] * 2, total=2, flip=True)
    np.testing.assert_allclose(features, 1 / np.sqrt(3), rtol=1e-6)
    np.testing.assert_array_equal(kept, 1)


@pytest.mark.parametrize("total", [9, 11])
def test_another_number_of_images_than_expected_is_refused(images, total):
    with pytest.raises(ValueError, match=f"Expected {total} images, but the batches gave"):
        extract(left_column, batches_of(images, 4), total=total)
