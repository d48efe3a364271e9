"""ONNX files against the Keras networks that they were made from, in ONNX Runtime."""

import collections
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from kdas_tf.errors import UserError
from kdas_tf.serving.graphs import onnx_files
from tests.serving import networks

NETWORKS = {
    "all operations": lambda: networks.student(genotype=networks.ALL, image_size=(64, 32)),
    "all operations, odd sizes": lambda: networks.student(genotype=networks.ALL, image_size=(75, 37)),
    "whole blocks of channels": lambda: networks.student(channels=16),
    "small images": lambda: networks.student(image_size=(12, 8), stem="cifar"),
    "ResNet-18": networks.resnet,
    "ResNet-50": lambda: networks.resnet(50, conv_bias=False, last_stride=1),
}


def written(network, folder):
    path = folder / "float32.onnx"
    path.write_bytes(onnx_files.convert(network, networks.size_of(network)))
    return path


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n == "ResNet-50")) for n in NETWORKS])
def test_an_onnx_file_gives_the_networks_embeddings(name, tmp_path):
    network = NETWORKS[name]()
    runner = onnx_files.OnnxRunner(written(network, tmp_path), threads=1)
    assert runner.image_size == networks.size_of(network)
    networks.check(network, runner)
    networks.check(network, lambda images: np.concatenate([runner(image[None]) for image in images]))


def test_onnx_runtime_keeps_the_maps_of_a_student_in_blocks_of_channels(tmp_path):
    """Where it does not, it rearranges them, and sums and ReLUs are no longer part of the convolutions."""
    network = networks.student(channels=32, image_size=(64, 32))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(written(network, tmp_path)), options)
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    if not any(node.domain == "com.microsoft.nchwc" for node in nodes):
        pytest.skip("this processor has no blocks of channels in ONNX Runtime")
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert all(node.domain == "com.microsoft.nchwc" for node in convolutions)
    counts = collections.Counter(node.op_type for node in nodes)
    # In: the two halves of what part_aware spreads. Out: the strips' means, the last map.
    assert (counts["ReorderInput"], counts["ReorderOutput"]) == (2, 2)
    # Nodes whose map is needed with and without ReLU, each in one of the three cells, and the rows of part_aware.
    assert counts["Relu"] <= 12
    summed = [node for node in convolutions if len(node.input) == 4 and node.input[3]]
    assert len(summed) >= 4 + 3 + 4 - 1


def test_integers_make_a_smaller_file_with_similar_embeddings(tmp_path):
    network = networks.student(channels=16)
    images, examples = networks.photographs(), networks.photographs(16, seed=5).astype("float32")
    content, expected = onnx_files.convert(network, networks.SIZE), networks.embeddings(network, images)
    path = tmp_path / "int8.onnx"
    path.write_bytes(onnx_files.quantized(content, examples))
    assert path.stat().st_size < 0.9 * len(content)  # so small a network is half description
    made = onnx.load(path)
    integers = {node.output[0] for node in made.graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in made.graph.node if node.op_type == "Conv"]
    assert convolutions
    assert all(set(node.input[:2]) <= integers for node in convolutions)
    others = (expected @ expected.T)[~np.eye(len(expected), dtype=bool)]
    cosines = (onnx_files.OnnxRunner(path, threads=1)(images) * expected).sum(1)
    assert cosines.min() > max(0.98, others.max())


def test_a_teacher_has_no_onnx_file():
    with pytest.raises(UserError, match="known to TensorFlow only"):
        onnx_files.convert(networks.teacher(), (32, 32))


@pytest.mark.parametrize(
    ("shape", "outputs"), [(["batch", 4, 4], 1), (["batch", "height", 4, 3], 1), ([1, 4, 4, 3], 2)]
)
def test_another_network_is_refused_by_what_goes_in_and_out(shape, outputs, tmp_path):
    tensor, number = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    nodes = [onnx.helper.make_node("Relu", ["x"], [f"y{i}"]) for i in range(outputs)]
    inputs, results = [tensor("x", number, shape)], [tensor(f"y{i}", number, shape) for i in range(outputs)]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "other", inputs, results), ir_version=10)
    model.opset_import[0].version = 18
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UserError, match=r"expected images \[batch, height, width, 3\] in and embeddings out, got"):
        onnx_files.OnnxRunner(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("onnx", lambda: onnx_files.convert(networks.student(), networks.SIZE)),
        ("onnxruntime", onnx_files.import_runtime),
    ],
)
def test_a_missing_package_is_named(package, use, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"pip install '\.\[onnx\]'"):
        use()


def test_a_file_that_takes_channels_first_is_refused_in_one_line(tmp_path):
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    images = helper.make_tensor_value_info("images", float32, ["n", 3, 64, 32])
    rows = helper.make_tensor_value_info("rows", float32, ["n", 3])
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["rows"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [images], [rows]), ir_version=8)
    model.opset_import[0].version = 17
    onnx.save(model, str(tmp_path / "first.onnx"))
    with pytest.raises(UserError, match=r"expected images \[batch, height, width, 3\] in.*'n', 3, 64, 32") as caught:
        onnx_files.OnnxRunner(tmp_path / "first.onnx")
    assert "\n" not in str(caught.value)
