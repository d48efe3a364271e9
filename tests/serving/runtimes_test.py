import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.serving import runtimes
from kdas_tf.serving.checking import Comparison
from tests.serving import networks


def test_a_copy_is_written_and_measured_and_one_of_another_network_is_refused(tmp_path):
    network, images = networks.student(), networks.photographs().astype("float32")
    expected = networks.embeddings(network, images)
    comparison = Comparison(0.0, len(images), expected.shape[1], images, expected)
    path = runtimes.write(network, tmp_path, "onnx", image_size=networks.SIZE)
    assert path == tmp_path / "assets.extra" / "float32.onnx"
    measured = runtimes.measure(path, comparison)
    assert measured.file == "assets.extra/float32.onnx"
    assert measured.bytes == path.stat().st_size > 1000
    assert measured.milliseconds > 0
    assert measured.cosine == pytest.approx(1, abs=1e-5)
    assert measured.difference < 1e-5
    with pytest.raises(UserError, match=r"The embeddings of float32\.onnx differ by"):
        runtimes.measure(path, comparison._replace(expected=np.roll(expected, 1, axis=0)))


@pytest.mark.parametrize("given", [("onnx", "tensorrt"), "onnx"])
def test_a_runtime_that_there_is_not_is_refused(given):
    with pytest.raises(UserError, match=r"Expected runtimes to list some of onnx, onnx_int8, litert_float32, .*, got"):
        runtimes.check(given)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("float32.onnx", b""),
        ("float32.onnx", b"\x80\x05no model"),
        ("float32.tflite", b"\x00" * 100),
        ("float32.tflite", b"\x1c\x00\x00\x00TFL3" + b"\xff" * 100),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(file, content, tmp_path):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=r"a network that gin/export\.gin wrote, but it cannot be loaded") as caught:
        runtimes.open_file(tmp_path / file)
    assert "\n" not in str(caught.value)
