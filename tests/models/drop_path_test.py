import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.models.drop_path import DropPath


def maps(batch=4000):
    return np.random.default_rng(0).normal(1, 1, (batch, 2, 1, 3)).astype("float32")


def test_whole_maps_are_left_out_and_the_others_scaled_so_that_the_expected_value_stays():
    x = maps()
    output = np.array(DropPath(0.3, seed=0)(x, training=True))
    kept = np.any(output != 0, (1, 2, 3))
    np.testing.assert_allclose(output[kept], x[kept] / 0.7, rtol=1e-5)
    # 4,000 draws: within four standard deviations of 70 %.
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.7 * 0.3 / len(x))
    assert abs(output.mean() - x.mean()) < 0.05


def test_inference_is_left_alone():
    x = maps(8)
    np.testing.assert_array_equal(DropPath(0.9)(x), x)


def test_the_rate_is_changed_without_compiling_again():
    layer, traced = DropPath(0.5, seed=0), []

    @tf.function
    def step(x):
        traced.append(x)
        return layer(x, training=True)

    x = tf.constant(maps(1000))
    shares = []
    for rate in (0.5, 0.0, 0.25):
        layer.rate.assign(rate)
        shares.append(np.any(step(x).numpy() != 0, (1, 2, 3)).mean())
    np.testing.assert_allclose(shares, [0.5, 1.0, 0.75], atol=0.06)
    assert len(traced) == 1
    layer.rate.assign(0.0)
    np.testing.assert_array_equal(step(x), x)


def test_batches_of_any_size_go_through_one_compiled_step():
    layer = DropPath(0.5)
    step = tf.function(lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((None, 2, 1, 3), tf.float32)])
    assert [step(maps(n)).shape[0] for n in (3, 5)] == [3, 5]


def test_the_same_seed_draws_the_same_maps_and_each_call_others():
    x, layers = maps(50), [DropPath(0.5, seed=7) for _ in range(2)]
    first, again = (np.array(layer(x, training=True)) for layer in layers)
    np.testing.assert_array_equal(first, again)
    assert np.any(first != np.array(layers[0](x, training=True)))


def test_draws_continue_from_a_checkpoint(tmp_path):
    x, layer = maps(50), DropPath(0.5, seed=7)
    layer(x, training=True)
    layer.rate.assign(0.4)
    path = tf.train.Checkpoint(network=layer).write(str(tmp_path / "checkpoint"))
    expected = [np.array(layer(x, training=True)) for _ in range(2)]
    other = DropPath(0.5, seed=8)
    tf.train.Checkpoint(network=other).read(path).assert_consumed()
    for value in expected:
        np.testing.assert_array_equal(other(x, training=True), value)


def test_two_replicas_draw_and_count_on():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = DropPath(0.5, seed=0)
    x = tf.constant(maps(1000))
    step = tf.function(lambda: strategy.run(layer, (x,), {"training": True}))
    first, second = (strategy.experimental_local_results(step()) for _ in range(2))
    assert np.any(first[0] != second[0])
    for output in (*first, *second):
        assert abs(np.any(output.numpy() != 0, (1, 2, 3)).mean() - 0.5) < 0.07


def test_half_precision_stays_half_precision():
    output = DropPath(0.5, dtype="mixed_bfloat16")(tf.cast(maps(8), "bfloat16"), training=True)
    assert output.dtype == tf.bfloat16


def test_a_layer_made_from_its_config_is_the_same():
    layer = DropPath(0.25, seed=3)
    assert DropPath.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2])
def test_rates_that_keep_nothing_are_refused(rate):
    with pytest.raises(UserError, match=f"drop_path to be from 0 to below 1, got {rate}"):
        DropPath(rate)
