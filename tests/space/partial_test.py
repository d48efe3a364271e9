import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.space.partial import check_partial_channels, join_channels, pass_by, split_channels


def shuffled(x, groups):
    """PC-DARTS' `channel_shuffle`, one channel after another."""
    size = x.shape[-1] // groups
    output = np.empty_like(x)
    for group in range(groups):
        for channel in range(size):
            output[..., channel * groups + group] = x[..., group * size + channel]
    return output


def pooled(x):
    """The largest of each 2x2 pixels, fewer at the border of an odd size."""
    rows, columns = (-(-n // 2) for n in x.shape[1:3])
    windows = [[x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].max((1, 2)) for j in range(columns)] for i in range(rows)]
    return np.moveaxis(np.array(windows), 2, 0)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(2, 7, 5, 12)).astype("float32")


@pytest.mark.parametrize("parts", [2, 3, 4, 12])
def test_the_first_part_is_mixed_and_all_channels_are_shuffled(parts, x):
    mixed, beside = split_channels(x, parts)
    np.testing.assert_array_equal(mixed, x[..., : 12 // parts])
    joined = join_channels(tf.constant(2 * mixed), tf.constant(beside))
    factors = np.repeat([2.0, 1.0], [12 // parts, 12 - 12 // parts]).astype("float32")
    np.testing.assert_array_equal(joined, shuffled(factors * x, parts))


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 1), (3, 4)])
def test_what_passes_by_is_left_alone_at_stride_one_and_max_pooled_at_stride_two(size, x):
    x = x[:, : size[0], : size[1]] if size != (8, 6) else np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))) - 5
    assert pass_by(x, 1) is x
    np.testing.assert_array_equal(pass_by(tf.constant(x), 2), pooled(x))


def test_a_batch_of_unknown_size_is_joined():
    @tf.function(input_signature=[tf.TensorSpec([None, 3, 2, 3])])
    def join(mixed):
        return join_channels(mixed, tf.concat([mixed, mixed], -1))

    x = np.arange(36, dtype="float32").reshape(2, 3, 2, 3)
    np.testing.assert_array_equal(join(x), np.repeat(x, 3, -1))


@pytest.mark.parametrize(("parts", "channels"), [(0, 8), (-1, 8), (3, 8), (4, 8), (16, 8)])
def test_other_parts_are_refused(parts, channels):
    with pytest.raises(UserError, match=f"parts of at least 3, got partial_channels={parts} for {channels} channels"):
        check_partial_channels(parts, channels)
