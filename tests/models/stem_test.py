import keras
import numpy as np
import pytest

from kdas_tf.models.stem import IMAGENET_MEAN, IMAGENET_STD, STEMS, CifarStem, Stem, normalize


def test_pixels_are_centred_and_scaled_by_channel():
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, 5, 3)).astype(np.float32)
    expected = (images - np.float32(IMAGENET_MEAN)) / np.float32(IMAGENET_STD)
    np.testing.assert_allclose(normalize(keras.ops.convert_to_tensor(images)), expected, rtol=1e-6)
    assert normalize(keras.KerasTensor((None, None, None, 3))).shape == (None, None, None, 3)


@pytest.mark.parametrize("size", [(384, 128), (160, 60), (33, 17), (8, 9)])
def test_a_map_has_a_quarter_of_the_size_rounded_up(size):
    stem = Stem(4)
    stem.build((None, *size, 3))
    expected = (2, -(-size[0] // 4), -(-size[1] // 4), 4)
    assert stem.compute_output_shape((2, *size, 3)) == expected
    assert stem(np.zeros((2, *size, 3), np.float32)).shape == expected


def test_parameters_are_three_convolutions_and_their_normalisations():
    stem = Stem(8)
    stem.build((None, 16, 8, 3))
    convolutions = 9 * 3 * 4 + 9 * 4 * 8 + 9 * 8 * 8
    assert sum(np.prod(v.shape) for v in stem.trainable_variables) == convolutions + 2 * (4 + 8 + 8)


def test_padding_is_symmetric():
    # Kernels that pass on their centre only: where both sides are padded, output i stands on pixel 4 i.
    stem = Stem(6)
    images = np.random.default_rng(0).uniform(0, 255, (2, 12, 8, 3)).astype("float32")
    stem.build(images.shape)
    for layer in stem.blocks:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = np.zeros(layer.kernel.shape, np.float32)
            kernel[1, 1, :3, :3] = np.eye(3)
            layer.kernel.assign(kernel)
    centres = (images[:, ::4, ::4] - IMAGENET_MEAN) / IMAGENET_STD
    expected = np.maximum(centres, 0) / (1 + 1e-5) ** 1.5  # three normalisations of variance 1
    np.testing.assert_allclose(stem(images)[..., :3], expected, rtol=1e-4, atol=1e-5)


def test_the_last_normalisation_is_not_rectified():
    stem = Stem(8)
    stem.build((None, 32, 32, 3))
    images = np.random.default_rng(1).uniform(0, 255, (4, 32, 32, 3)).astype("float32")
    assert np.min(stem(images, training=True)) < 0


@pytest.mark.parametrize("size", [(32, 32), (33, 17)])
def test_the_stem_for_small_images_keeps_their_size(size):
    stem = CifarStem(4)
    stem.build((None, *size, 3))
    images = np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype("float32")
    assert stem.compute_output_shape((2, *size, 3)) == (2, *size, 12)
    output = stem(images, training=True)
    assert output.shape == (2, *size, 12)
    assert np.min(output) < 0  # not rectified
    assert sum(np.prod(v.shape) for v in stem.trainable_variables) == 9 * 3 * 12 + 2 * 12


@pytest.mark.parametrize("kind", STEMS.values())
def test_a_stem_made_from_its_config_is_the_same(kind):
    stem = kind(10, dtype="mixed_bfloat16")
    assert kind.from_config(stem.get_config()).get_config() == stem.get_config()
