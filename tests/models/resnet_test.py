import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.models.heads import ReIDOutput
from kdas_tf.models.networks import trainable_parameters
from kdas_tf.models.resnet import ResidualBlock, ResNet
from kdas_tf.models.teacher_network import Teacher


def counted(depth, **kwargs):
    """A network whose shapes are all that is looked at."""
    with keras.StatelessScope():
        return ResNet(depth, 751, **{"image_size": (64, 32), **kwargs})


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return ResNet(18, 5, image_size=(32, 16))


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (4, 32, 16, 3)).astype("float32")


@pytest.mark.parametrize(
    ("depth", "stages"),
    # Of torchvision's models, by layer: conv1 and bn1, layer1 to layer4.
    [
        (18, [9_536, 147_968, 525_568, 2_099_712, 8_393_728]),
        (34, [9_536, 221_952, 1_116_416, 6_822_400, 13_114_368]),
        (50, [9_536, 215_808, 1_219_584, 7_098_368, 14_964_736]),
    ],
)
def test_every_stage_has_the_parameters_of_torchvisions(depth, stages):
    network = counted(depth, conv_bias=False)
    found = [sum(trainable_parameters(layer) for layer in network.stem)]
    for stage in range(1, 5):
        blocks = [block for block in network.blocks if block.name.startswith(f"stage_{stage}_")]
        found.append(sum(map(trainable_parameters, blocks)))
    assert found == stages
    width = 2048 if depth == 50 else 512
    assert trainable_parameters(network) == sum(stages) + width + width * 751


@pytest.mark.parametrize(("depth", "millions"), [(18, 11.6), (34, 21.7), (50, 25.1)])
def test_parameters_are_those_of_table_1(depth, millions):
    assert round(trainable_parameters(counted(depth)) / 1e6, 1) == millions


def test_resnet_50_has_as_many_parameters_as_that_of_keras_applications():
    with keras.StatelessScope():
        other = Teacher("ResNet50", 751, image_size=(64, 32))
    assert trainable_parameters(counted(50)) == trainable_parameters(other)


@pytest.mark.parametrize(("depth", "width"), [(18, 512), (50, 2048)])
@pytest.mark.parametrize(("last_stride", "size"), [(None, (2, 1)), (2, (2, 1)), (1, (4, 2))])
def test_the_last_stage_halves_the_map_unless_its_stride_is_1(depth, width, last_stride, size):
    network = counted(depth, last_stride=last_stride)
    shape = (None, 64, 32, 3)
    for layer in (*network.stem, *network.blocks):
        shape = layer.compute_output_shape(shape)
    assert shape == (None, *size, width)


@pytest.mark.parametrize("size", [(32, 16), (75, 33)])
def test_outputs_are_features_embedding_and_logits_at_any_size(network, size):
    output = network(np.random.default_rng(0).uniform(0, 255, (2, *size, 3)).astype("float32"), training=True)
    assert isinstance(output, ReIDOutput)
    assert [tuple(value.shape) for value in output] == [(2, 512), (2, 512), (2, 5)]
    assert np.isfinite(np.concatenate(output, -1)).all()


def torch_conv(x, layers, name, stride=1):
    """Convolution with both sides padded, then the normalisation with its moving statistics."""
    found = {layer.name: layer for layer in layers}
    conv, norm = found[f"{name}_conv"], found[f"{name}_norm"]
    pad = conv.kernel.shape[0] // 2
    x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    x = tf.nn.conv2d(x, conv.kernel.value, stride, "VALID") + conv.bias.value
    x = (x - norm.moving_mean.value) / tf.sqrt(norm.moving_variance.value + 1e-5)
    return x * norm.gamma.value + norm.beta.value


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize(("widens", "stride"), [(False, 1), (True, 1), (False, 2)])
def test_a_block_is_convolutions_with_the_stride_in_the_first_of_3x3_added_to_its_input(widens, stride, bottleneck):
    block = ResidualBlock(6, stride=stride, bottleneck=bottleneck)
    x = y = randomize(block, (2, 9, 7, 4 if widens else block.channels))
    steps = [("reduce", 1), ("middle", stride), ("expand", 1)] if bottleneck else [("first", stride), ("second", 1)]
    for name, step in steps:
        y = torch_conv(y if y is x else tf.nn.relu(y), block.convolutions, name, step)
    shortcut = torch_conv(x, block.shortcut, "shortcut", stride) if widens or stride == 2 else x
    np.testing.assert_allclose(block(x), tf.nn.relu(y + shortcut), rtol=1e-4, atol=1e-4)
    assert block.compute_output_shape(x.shape) == y.shape


def randomize(block, shape):
    rng = np.random.default_rng(1)
    block.build(shape)
    for variable in block.variables:
        variable.assign(rng.uniform(0.2, 0.8, variable.shape) * rng.choice([1, 1 if "var" in variable.path else -1]))
    return tf.constant(rng.normal(size=shape).astype("float32"))


def test_weights_start_as_he_et_al_say():
    block = ResidualBlock(64)
    block.build((None, 8, 8, 64))
    (first, *_) = [layer for layer in block.convolutions if isinstance(layer, keras.layers.Conv2D)]
    np.testing.assert_allclose(np.std(first.kernel), np.sqrt(2 / (9 * 64)), rtol=0.03)
    norms = [layer for layer in block.convolutions if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-5, 0.9)}


def test_every_weight_receives_a_finite_gradient(network, images):
    with tf.GradientTape() as tape:
        output = network(images, training=True)
        loss = tf.reduce_mean(output.logits**2) + tf.reduce_mean(output.features**2)
    variables = network.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None and np.isfinite(gradient).all(), variable.path


def test_training_and_inference_differ(network, images):
    assert np.abs(network(images, training=True).embedding - network(images).embedding).max() > 1e-2


def test_it_computes_in_mixed_precision_with_float32_weights_and_outputs(images):
    network = ResNet(18, 5, image_size=(32, 16), dtype="mixed_bfloat16")
    output = network(images, training=True)
    assert {value.dtype for value in output} == {tf.float32}
    assert {variable.dtype for variable in network.variables} == {"float32"}
    assert {layer.compute_dtype for layer in network.blocks} == {"bfloat16"}


@pytest.mark.parametrize(
    ("depth", "arguments", "message"),
    [
        (101, {}, "depth to be one of 18, 34, 50.*depth=101"),
        (18, {"last_stride": 3}, "last_stride to be 1, 2 or None.*last_stride=3"),
        (18, {"image_size": (7, 16)}, r"at least 8 pixels.*\(7, 16\)"),
        (18, {"image_size": (32, 16, 3)}, r"\(height, width\)"),
    ],
)
def test_networks_that_cannot_be_are_refused(depth, arguments, message):
    with pytest.raises(UserError, match=message):
        ResNet(depth, 5, **arguments)
