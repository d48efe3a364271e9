import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.genotype import PRIMITIVES
from kdas_tf.space.mixed import MixedFanOut
from tests.space import recorded
from tests.space.operations_test import relative_error

pytestmark = pytest.mark.both_graphs  # the recorded references


@pytest.mark.parametrize("stride", [1, 2])
def test_mixed_operation_agrees_with_the_recorded_original(stride, reference):
    arrays = recorded.group(reference("mixed_op.npz"))[f"mixed_stride{stride}"]
    x, alpha = tf.constant(arrays["input"]), tf.constant(arrays["alpha"])
    mixed = MixedFanOut(x.shape[-1], stride=stride, affine=False)
    mixed.build(x.shape)
    slots = {}
    for name, operation in mixed.candidates.items():
        slots |= recorded.weight_slots(operation, prefix=f"{name}.")
    recorded.assign(slots, recorded.weights_of(arrays))

    with tf.GradientTape() as tape:
        tape.watch([x, alpha])
        output = mixed(x, tf.nn.softmax(alpha)[None], training=True)[0]
        loss = tf.reduce_sum(output * arrays["cotangent"])
    x_gradient, alpha_gradient = tape.gradient(loss, [x, alpha])

    assert relative_error(output, arrays["output_train"]) < 1e-4
    assert relative_error(x_gradient, arrays["input_grad"]) < 1e-4
    assert relative_error(alpha_gradient, arrays["alpha_grad"]) < 1e-4


def test_every_edge_mixes_with_weights_of_its_own():
    x = np.random.default_rng(0).normal(size=(2, 8, 4, 6)).astype("float32")
    mixed = MixedFanOut(6, edges=2, affine=False)
    mixed.build(x.shape)
    weights = np.zeros((2, len(PRIMITIVES)), np.float32)
    weights[0, PRIMITIVES.index("skip_connect")] = 0.25
    weights[1, PRIMITIVES.index("sep_conv_3x3")] = 1.0
    output = mixed(x, weights, training=True)
    np.testing.assert_allclose(output[0], 0.25 * x, rtol=1e-5, atol=1e-6)
    separable = np.array(mixed.candidates["sep_conv_3x3"](x, training=True)[1])
    # One batch normalisation ends all candidates together.
    expected = (separable - separable.mean((0, 1, 2))) / np.sqrt(separable.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(output[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_edges_of_two_nodes_are_those_of_each_alone(stride):
    x = np.random.default_rng(0).normal(size=(2, 3, 9, 5, 6)).astype("float32")
    weights = np.random.default_rng(1).dirichlet(np.ones(len(PRIMITIVES)), 4).astype("float32")
    both = MixedFanOut(6, edges=4, sources=2, stride=stride)
    both.build(x.shape[1:])
    cotangent = np.random.default_rng(2).normal(size=both.compute_output_shape(x.shape[1:])).astype("float32")
    found = gradients(both, x, weights, cotangent)
    for source, edges in enumerate((slice(0, 2), slice(2, 4))):
        alone = MixedFanOut(6, edges=2, stride=stride)
        alone.build(x.shape[1:])
        for ours, theirs in zip(alone.trainable_variables, both.trainable_variables, strict=True):
            ours.assign(theirs[edges])
        expected = gradients(alone, x[source], weights[edges], cotangent[edges])
        np.testing.assert_allclose(found["output"][edges], expected["output"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found["x"][source], expected["x"], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found["weights"][edges], expected["weights"], rtol=1e-3, atol=1e-3)
        for ours, theirs in zip(found["variables"], expected["variables"], strict=True):
            np.testing.assert_allclose(ours[edges], theirs, rtol=1e-3, atol=1e-3)


def gradients(mixed, x, weights, cotangent):
    """The output, and the gradients of its product with the cotangent."""
    x, weights = tf.constant(x), tf.constant(weights)
    variables = [variable.value for variable in mixed.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch([x, weights])
        output = mixed(x, weights, training=True)
        loss = tf.reduce_sum(output * cotangent)
    of_x, of_weights, of_variables = tape.gradient(loss, [x, weights, variables])
    return {"output": output, "x": of_x, "weights": of_weights, "variables": of_variables}
