import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.space.edges import EdgeBatchNorm

SHAPE = (2, 4, 6, 5, 3)


@pytest.mark.parametrize(("policy", "dtype"), [("mixed_bfloat16", "bfloat16"), ("mixed_float16", "float16")])
def test_in_mixed_precision_a_normalisation_is_that_of_float64_within_the_rounding_of_its_type(policy, dtype):
    rng = np.random.default_rng(0)
    x = tf.cast(rng.normal(3.0, 2.0, SHAPE), dtype)
    upstream = tf.cast(rng.normal(size=SHAPE), dtype)
    layer = EdgeBatchNorm(affine=False, dtype=policy)
    layer.build(SHAPE)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = layer(x, training=True)
    gradient = tape.gradient(output, x, output_gradients=upstream)
    assert output.dtype == gradient.dtype == dtype
    exact = tf.cast(x, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(exact)
        mean, variance = tf.nn.moments(exact, (1, 2, 3), keepdims=True)
        expected = (exact - mean) / tf.sqrt(variance + 1e-5)
    expected_gradient = tape.gradient(expected, exact, output_gradients=tf.cast(upstream, tf.float64))
    rounding = 2.0 ** -(8 if dtype == "bfloat16" else 11)  # half a unit in the last place
    for found, exactly in ((output, expected), (gradient, expected_gradient)):
        error = np.linalg.norm(tf.cast(found, tf.float64) - exactly) / np.linalg.norm(exactly)
        assert error < rounding
    # The statistics are float32's, whatever the type of the maps: a tenth of the way from 0 to the mean.
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-5)


def test_in_mixed_precision_what_is_kept_for_the_gradient_has_two_bytes_a_number():
    specification = tf.TensorSpec(SHAPE, tf.bfloat16)
    layer = EdgeBatchNorm(affine=False, dtype="mixed_bfloat16")
    layer.build(SHAPE)

    @tf.function
    def gradient(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(x, training=True)
        return tape.gradient(output, x, output_gradients=upstream)

    graph = gradient.get_concrete_function(specification, specification).graph
    # Maps are cast to float32 for the statistics and for the output, and in the backward pass: upstream and what is
    # kept of the output.
    casts = [op for op in graph.get_operations() if op.type == "Cast" and op.outputs[0].dtype == tf.float32]
    kept = [op.inputs[0].dtype for op in casts if op.outputs[0].shape == SHAPE]
    assert kept == [tf.bfloat16] * 4
