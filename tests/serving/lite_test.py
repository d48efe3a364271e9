import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.serving import lite
from kdas_tf.serving.export import Embedder
from tests.serving import networks


@pytest.mark.slow
@pytest.mark.parametrize("make", [networks.student, networks.teacher])
def test_converted_networks_give_the_same_embeddings(make, tmp_path):
    network = make()
    size = tuple(network.get_config()["image_size"])
    images = networks.photographs(size=size)
    expected = networks.embeddings(network, images)
    embedder = Embedder(network, image_size=size)
    sizes = {}
    for precision, tolerance in (("float32", 1e-5), ("float16", 2e-2)):
        path = tmp_path / f"{precision}.tflite"
        path.write_bytes(lite.convert(embedder, precision))
        runner = lite.LiteRunner(path, threads=1)
        assert runner.image_size == size
        np.testing.assert_allclose(runner(images), expected, atol=tolerance)
        sizes[precision] = path.stat().st_size
    assert sizes["float16"] < 0.75 * sizes["float32"]


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 100])
def test_what_is_no_model_is_refused_in_one_line(content, tmp_path):
    path = tmp_path / "float32.tflite"
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"to be a network that gin/export\.gin wrote, but it cannot be loaded"
    ) as caught:
        lite.LiteRunner(path)
    assert "\n" not in str(caught.value)
