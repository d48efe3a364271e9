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
    measured = lite.write(embedder, tmp_path, lite.KINDS, images.astype("float32"), expected)
    for kind, tolerance in (("float32", 1e-5), ("float16", 2e-2)):
        content = (tmp_path / "assets.extra" / f"{kind}.tflite").read_bytes()
        run = lite.open_model(content)
        found = np.concatenate([run(images=image[None].astype("float32"))["embedding"] for image in images])
        np.testing.assert_allclose(found, expected, atol=tolerance)
        assert measured[kind].bytes == len(content)
        assert measured[kind].cosine == pytest.approx((found * expected).sum(1).min(), abs=1e-5)
        assert measured[kind].milliseconds > 0
    assert measured["float16"].bytes < 0.75 * measured["float32"].bytes
    assert measured["float16"].cosine > 0.99


def test_a_kind_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="Expected lite to list some of float32, float16, got"):
        lite.check_kinds(["int4"])
