import keras
import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.models.teacher_network import Teacher, TeacherTable, backbones

SIZE = (32, 32)
ALPHA = {"alpha": 0.35}


def small(**kwargs):
    return Teacher("MobileNetV2", 5, **{"image_size": SIZE, "backbone_arguments": ALPHA, **kwargs})


@pytest.fixture(scope="module")
def teacher():
    keras.utils.set_random_seed(0)
    return small()


@pytest.fixture
def images():
    return np.random.default_rng(0).uniform(0, 255, (2, *SIZE, 3)).astype("float32")


def test_the_backbones_of_keras_applications_are_known():
    assert set(backbones()) == {name for name in dir(keras.applications) if name[0].isupper()}
    preprocess = keras.applications.mobilenet_v3.preprocess_input
    assert backbones()["MobileNetV3Small"] == (keras.applications.MobileNetV3Small, preprocess)
    assert backbones()["ResNet152"] == (keras.applications.ResNet152, keras.applications.resnet.preprocess_input)
    assert {"ResNet50", "ResNet152", "MobileNetV2", "DenseNet121", "EfficientNetB0", "ConvNeXtTiny"} <= set(backbones())


def test_an_unknown_backbone_is_refused_naming_the_known_ones():
    with pytest.raises(UserError, match=r"ResNet50.*got 'ResNet18'"):
        Teacher("ResNet18", 5, image_size=SIZE)


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({"backbone_arguments": {"beta": 1}}, "unexpected keyword argument 'beta'"),
        ({"image_size": (16, 16)}, "at least 32x32"),
        ({"weights": "nowhere.weights.h5"}, 'Expected weights to be "imagenet", a file or None.*nowhere.weights.h5'),
        ({"weights": "imagenett"}, "there is no file imagenett"),
        ({"last_stride": 1}, "last_stride can be 1 or 2, and only for ResNet50.*mobilenet"),
    ],
)
def test_arguments_that_the_backbone_cannot_have_are_refused(arguments, expected):
    with pytest.raises(UserError, match=expected) as caught:
        small(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["file.weights.h5", "file.h5", "file.txt", "file.keras"])
def test_a_weights_file_that_holds_no_weights_is_refused(tmp_path, name):
    (tmp_path / name).write_text("not weights\n")
    with pytest.raises(UserError, match=f"{name} do not fit MobileNetV2 without top") as caught:
        small(weights=str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path, teacher):
    other = keras.Sequential([keras.Input((*SIZE, 3)), keras.layers.Conv2D(4, 3)])
    for number, network in enumerate((other, teacher)):
        path = tmp_path / f"{number}.weights.h5"
        network.save_weights(path)
        with pytest.raises(UserError, match="do not fit MobileNetV2 without top"):
            small(weights=str(path))


def test_weights_of_a_backbone_are_loaded_from_a_file(tmp_path, teacher, images):
    teacher.backbone.save_weights(tmp_path / "backbone.weights.h5")
    loaded = small(weights=str(tmp_path / "backbone.weights.h5"))
    np.testing.assert_array_equal(loaded(images).features, teacher(images).features)


def test_outputs_have_the_backbones_width_and_a_logit_for_each_identity(teacher, images):
    output = teacher(images)
    assert [tuple(value.shape) for value in output] == [(2, 1280), (2, 1280), (2, 5)]  # MobileNetV2 always ends in 1280
    assert np.isfinite(output.logits).all()


def test_images_of_another_size_are_resized_to_what_the_backbone_sees(teacher, images):
    larger = images.repeat(2, 1).repeat(2, 2)  # every pixel becomes four: its bilinear reduction is the image itself
    np.testing.assert_allclose(teacher(larger).features, teacher(images).features, rtol=1e-4, atol=1e-5)
    assert teacher(images[:, :16, :8]).logits.shape == (2, 5)


def test_a_teacher_from_config_and_weights_gives_identical_outputs(teacher, images, tmp_path):
    for variable in teacher.head.neck.variables:
        variable.assign(np.random.default_rng(1).uniform(0.5, 2, variable.shape))
    teacher.save_weights(tmp_path / "teacher.weights.h5")
    again = Teacher.from_config(teacher.get_config())
    again.load_weights(tmp_path / "teacher.weights.h5")
    for before, after in zip(teacher(images), again(images), strict=True):
        np.testing.assert_array_equal(before, after)


def test_the_backbone_sees_preprocessed_images(teacher, images):
    expected = np.mean(teacher.backbone(images / 127.5 - 1), (1, 2))  # MobileNetV2's, from -1 to 1
    np.testing.assert_allclose(teacher(images).features, expected, rtol=1e-4, atol=1e-5)


def test_resnet50_with_the_heads_of_market1501_has_the_parameters_of_table_1():
    with keras.StatelessScope():  # counts without allocating
        teacher = Teacher("ResNet50", 751, image_size=(384, 128))
        finer = Teacher("ResNet50", 751, image_size=(384, 128), last_stride=1)
    for network in (teacher, finer):
        assert round(sum(np.prod(v.shape) for v in network.trainable_variables) / 1e6, 1) == 25.1


def test_a_last_stride_of_1_doubles_resnets_last_map_and_keeps_the_weights(tmp_path):
    usual = Teacher("ResNet50", 5, image_size=(64, 32))
    usual.backbone.save_weights(tmp_path / "resnet.weights.h5")
    finer = Teacher("ResNet50", 5, image_size=(64, 32), last_stride=1, weights=str(tmp_path / "resnet.weights.h5"))
    assert usual.backbone.output_shape == (None, 2, 1, 2048)
    assert finer.backbone.output_shape == (None, 4, 2, 2048)
    assert len(finer.weights) == len(usual.weights)
    for before, after in zip(usual.backbone.get_weights(), finer.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", ["DenseNet121", "ResNet50V2"])
def test_a_last_stride_is_refused_where_the_last_stage_has_none(name):
    with keras.StatelessScope(), pytest.raises(UserError, match="last_stride"):
        Teacher(name, 5, image_size=(64, 64), last_stride=1)


LOGITS = np.arange(6, dtype="float32").reshape(3, 2)
NAMES = ["a.jpg", "b.jpg", "c.jpg"]


def test_a_table_looks_up_the_rows_of_a_batch():
    table = TeacherTable(LOGITS)
    np.testing.assert_array_equal(table(np.array([2, 0, 2])), [[4, 5], [0, 1], [4, 5]])
    assert not table.trainable_variables


def test_a_table_keeps_float32_in_mixed_precision():
    table = TeacherTable(LOGITS + np.float32(1e-3), dtype="mixed_float16")
    np.testing.assert_array_equal(table(np.array([1])), LOGITS[1:2] + np.float32(1e-3))
