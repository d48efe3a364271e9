"""LiteRT files against the Keras networks that they were made from, in LiteRT."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.serving.graphs import lite
from tests.serving import networks


def converted(network, path, precision, examples=()):
    path.write_bytes(lite.convert(network, networks.size_of(network), precision, examples))
    return lite.LiteRunner(path, threads=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make", [lambda: networks.student(genotype=networks.ALL, image_size=(75, 37)), networks.teacher]
)
def test_a_float32_file_gives_the_networks_embeddings(make, tmp_path):
    network = make()
    runner = converted(network, tmp_path / "float32.tflite", "float32")
    assert runner.image_size == networks.size_of(network)
    networks.check(network, runner)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_smaller_numbers_make_smaller_files_with_similar_embeddings(tmp_path):
    network = networks.student(channels=16)
    images, examples = networks.photographs(), networks.photographs(16, seed=5).astype("float32")
    expected = networks.embeddings(network, images)
    sizes, cosines = {}, {}
    for precision in lite.PRECISIONS:
        path = tmp_path / f"{precision}.tflite"
        runner = converted(network, path, precision, examples)
        sizes[precision], cosines[precision] = path.stat().st_size, (runner(images) * expected).sum(1).min()
    assert sizes["float16"] < 0.75 * sizes["float32"]
    assert sizes["int8"] < 0.75 * sizes["float32"]  # so small a network is half description
    assert cosines["float32"] > 0.99999 and cosines["float16"] > 0.9999
    others = (expected @ expected.T)[~np.eye(len(expected), dtype=bool)]
    assert cosines["int8"] > max(0.98, others.max())
    types = collections.Counter(
        (detail["dtype"], detail["quantization_parameters"]["quantized_dimension"])
        for detail in tf.lite.Interpreter(str(path)).get_tensor_details()
        if len(detail["quantization_parameters"]["scales"]) > 1
    )
    # A scale for each channel of every kernel (3 of a depthwise one), in int8; int32 are their biases.
    assert {kind for kind, _ in types} == {np.int8, np.int32}
    assert types[np.int8, 3] >= 20


def test_half_a_file_is_refused_wherever_it_ends(tmp_path):
    whole = lite.convert(networks.student(), networks.SIZE, "float32")
    path = tmp_path / "float32.tflite"
    for length in np.linspace(0, len(whole) - 1, 40, dtype=int):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="cannot be loaded"):
            lite.LiteRunner(path)
