import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.serving import runtimes
from kdas_tf.serving.checking import Comparison
from tests.serving import networks


@pytest.fixture(scope="module")
def network():
    return networks.student()


@pytest.fixture(scope="module")
def comparison(network):
    images = networks.photographs().astype("float32")
    expected = networks.embeddings(network, images)
    return Comparison(0.0, len(images), expected.shape[1], images, expected)


def test_a_copy_is_written_and_measured(network, comparison, tmp_path):
    path = runtimes.write(network, tmp_path, "onnx", image_size=networks.SIZE)
    assert path == tmp_path / "assets.extra" / "float32.onnx"
    measured = runtimes.measure(path, comparison)
    assert measured.file == "assets.extra/float32.onnx"
    assert measured.bytes == path.stat().st_size > 1000
    assert measured.milliseconds > 0
    assert measured.cosine == pytest.approx(1, abs=1e-5)
    assert measured.difference < 1e-5


def test_a_float32_copy_of_another_network_is_refused(network, comparison, tmp_path):
    path = runtimes.write(network, tmp_path, "onnx", image_size=networks.SIZE)
    other = comparison._replace(expected=np.roll(comparison.expected, 1, axis=0))
    with pytest.raises(UserError, match=r"The embeddings of float32\.onnx differ by"):
        runtimes.measure(path, other)


@pytest.mark.parametrize("given", [("onnx", "tensorrt"), "onnx"])
def test_a_runtime_that_there_is_not_is_refused(given):
    with pytest.raises(UserError, match=r"Expected runtimes to list some of onnx, onnx_int8, litert_float32, .*, got"):
        runtimes.check(given)
