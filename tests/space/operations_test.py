import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.candidates import CANDIDATES
from kdas_tf.errors import UserError
from kdas_tf.serving.graphs.targets import TensorFlowTarget
from kdas_tf.space.mixed import make_operation
from kdas_tf.space.operations import PointwiseConv
from kdas_tf.space.plain_form import as_map
from tests.serving import networks
from tests.space import recorded

pytestmark = pytest.mark.both_graphs  # the recorded references

CASES = sorted(recorded.group(dict.fromkeys(np.load("tests/reference/candidate_ops.npz").files)))


# By hand, of one image and one edge from 9x5 pixels of 6 channels, at stride 1 (45 pixels) and 2 (5x3 = 15 pixels):
# a depthwise convolution takes size * size * 6 for a pixel, a 1x1 convolution 6 * 6.
MULTIPLY_ADDS = {
    "max_pool_3x3": (0, 0),
    "avg_pool_3x3": (0, 0),
    "skip_connect": (0, 15 * 36),
    "sep_conv_3x3": (45 * 2 * (54 + 36), 15 * 2 * (54 + 36)),
    "sep_conv_5x5": (45 * 2 * (150 + 36), 15 * 2 * (150 + 36)),
    "dil_conv_3x3": (45 * (54 + 36), 15 * (54 + 36)),
    "dil_conv_5x5": (45 * (150 + 36), 15 * (150 + 36)),
    # 4 strips of 2 features: from 6 channels, keys and queries, to 6 channels; K Q^T and the sum that it weighs.
    "part_aware": tuple(4 * 2 * (6 + 2 * 2 + 6) + 2 * 4 * 4 * 2 + pixels * 36 for pixels in (45, 15)),
}


def build(name, stride, shape, **kwargs):
    operation = make_operation(name, shape[-1], stride=stride, **kwargs)
    operation.build(shape)
    return operation


def relative_error(actual, expected):
    return np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-12)


@pytest.mark.parametrize("case", CASES)
def test_operation_agrees_with_the_recorded_original_in_outputs_gradients_and_statistics(case, reference):
    arrays = recorded.group(reference("candidate_ops.npz"))[case]
    name, stride = case.replace("_odd", "").rsplit("_stride", 1)
    x = tf.constant(arrays["input"])
    supernet = {"normalize": True, "affine": False} if "pool" in name else {}
    operation = build(name, int(stride), x.shape, **supernet)
    slots, weights = recorded.weight_slots(operation), recorded.weights_of(arrays)
    recorded.assign(slots, weights)

    with tf.GradientTape() as tape:
        tape.watch(x)
        output = operation(x, training=True)[0]
        loss = tf.reduce_sum(output * arrays["cotangent"])
    sources = {n[: -len("_grad")]: v for n, v in weights.items() if n.endswith("_grad")}
    gradients = tape.gradient(loss, [x] + [slots[n][0].value for n in sources])

    assert relative_error(output, arrays["output_train"]) < 1e-4
    assert relative_error(gradients[0], arrays["input_grad"]) < 1e-4
    for (n, expected), gradient in zip(sources.items(), gradients[1:], strict=True):
        actual = np.array(gradient)[slots[n][1]].reshape(expected.shape)
        assert relative_error(actual, expected) < 1e-4, n
    assert relative_error(operation(x, training=False)[0], arrays["output_eval_after_one_step"]) < 1e-4


@pytest.mark.parametrize("shape", [(2, 8, 4, 6), (2, 11, 7, 6), (3, 5, 9, 6)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", CANDIDATES)
def test_every_operation_keeps_the_contract(name, stride, shape, tmp_path):
    """Shapes, symbolic shapes, config round trip, save and load, gradients, edges on their own."""
    keras.utils.set_random_seed(1)
    operation = build(name, stride, shape, edges=3)
    x = keras.random.normal(shape, seed=2)
    with tf.GradientTape() as tape:
        output = operation(x, training=True)
        loss = tf.reduce_sum(output**2)
    assert output.shape == operation.compute_output_shape(shape)
    assert output.shape[0] == operation.maps
    assert operation.maps in (1, 3)
    assert output.shape[1:] == (shape[0], -(-shape[1] // stride), -(-shape[2] // stride), shape[3])
    for variable, gradient in zip(
        operation.trainable_variables,
        tape.gradient(loss, [v.value for v in operation.trainable_variables]),
        strict=True,
    ):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path

    inputs = keras.Input(batch_shape=(None, *shape[1:]))
    restored = type(operation).from_config(operation.get_config())
    model = keras.Model(inputs, restored(inputs))
    for source, target in zip(operation.variables, restored.variables, strict=True):
        target.assign(source)
    model.save(tmp_path / "operation.keras")
    loaded = keras.saving.load_model(tmp_path / "operation.keras")
    np.testing.assert_allclose(loaded(x), operation(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CANDIDATES)
def test_multiply_adds_are_those_counted_by_hand(name):
    for stride, expected in zip((1, 2), MULTIPLY_ADDS[name], strict=True):
        for edges in (1, 3):
            assert build(name, stride, (1, 9, 5, 6), edges=edges).multiply_adds((1, 9, 5, 6)) == edges * expected


@pytest.mark.parametrize("size", [(8, 6), (9, 7), (11, 4)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", CANDIDATES)
def test_the_plain_form_gives_what_the_layer_gives(name, stride, size):
    check_plain_form(make_operation(name, 6, stride=stride), size)


@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "skip_connect"])
def test_plain_normalisations_may_have_no_scale_or_follow_a_pool_or_be_missing(name):
    check_plain_form(make_operation(name, 6, stride=2, affine=False, normalize=True), (8, 6))
    check_plain_form(make_operation(name, 6, stride=2, normalize=False), (8, 6))


def test_the_input_of_a_cell_changes_width_in_its_plain_form_too():
    check_plain_form(PointwiseConv(4), (5, 3))


def check_plain_form(operation, size):
    operation.build((None, *size, 6))
    generator = np.random.default_rng(0)
    for weight in operation.weights:  # biases too start as zeros
        weight.assign(generator.uniform(-0.5, 0.5, weight.shape))
    networks.untrained(keras.Sequential([operation]))
    x = generator.normal(size=(2, *size, 6)).astype("float32")
    expected = operation(x, training=False)[0]
    target = TensorFlowTarget()
    plain = operation.plain(target)(as_map(target, tf.constant(x)))
    np.testing.assert_allclose(plain.raw, expected, atol=2e-5)
    np.testing.assert_allclose(plain.relu, np.maximum(expected, 0), atol=2e-5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", CANDIDATES)
def test_parallel_edges_equal_one_operation_per_edge(name, stride):
    x = keras.random.normal((2, 8, 6, 6), seed=3)
    together = build(name, stride, x.shape, edges=3)
    for edge in range(3):
        alone = build(name, stride, x.shape)
        for many, one in zip(together.variables, alone.variables, strict=True):
            one.assign(many[edge : edge + 1] if many.shape[0] == 3 else many)
        output = together(x, training=True)
        np.testing.assert_allclose(
            output[min(edge, output.shape[0] - 1)], alone(x, training=True)[0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("name", CANDIDATES)
def test_operation_computes_in_bfloat16_with_float32_weights(name):
    operation = build(name, 2, (2, 8, 4, 6), dtype="mixed_bfloat16")
    assert operation(keras.random.normal((2, 8, 4, 6), seed=4), training=True).dtype == "bfloat16"
    assert {v.dtype for v in operation.variables} <= {"float32"}


def test_max_pooling_at_stride_two_never_lets_the_padding_win():
    pooled = build("max_pool_3x3", 2, (1, 4, 4, 1))(-np.ones((1, 4, 4, 1), np.float32) * 7)
    np.testing.assert_array_equal(pooled, np.full((1, 1, 2, 2, 1), -7.0))


def test_average_pooling_does_not_count_padding():
    for stride in (1, 2):
        pooled = build("avg_pool_3x3", stride, (1, 5, 4, 1))(np.full((1, 5, 4, 1), 3.0, np.float32))
        np.testing.assert_allclose(pooled, np.full(pooled.shape, 3.0), rtol=1e-6)


def test_part_aware_needs_as_many_rows_as_parts():
    with pytest.raises(UserError, match=r"4 strips.*got 3"):
        build("part_aware", 1, (1, 3, 4, 6))


@pytest.mark.parametrize("bad", [{"stride": 3}, {"edges": 0}])
def test_operation_refuses_impossible_arguments(bad):
    with pytest.raises(UserError, match="equally many for each source, and a stride of 1 or 2"):
        make_operation("skip_connect", 4, **bad)
