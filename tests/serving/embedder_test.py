"""The exported model, as whoever loads it sees it."""

import concurrent.futures
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kdas_tf.data import decoding
from kdas_tf.serving.embedder import SIGNATURES, Embedder, count_operations, normalizations_left
from tests import pictures
from tests.serving import networks

C_API = Path(__file__).with_name("c_api.py")


@pytest.fixture(scope="module")
def student():
    return networks.student()


@pytest.fixture(scope="module")
def folder(student, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "1"
    Embedder(student, image_size=networks.SIZE).save(folder)
    return folder


@pytest.fixture(scope="module")
def signatures(folder):
    return tf.saved_model.load(str(folder)).signatures


def test_the_signatures_are_those_that_clients_are_told(signatures):
    assert set(signatures) == set(SIGNATURES)
    for name, argument, dtype, rank in (
        ("serving_default", "images", tf.uint8, 4),
        ("embed", "images", tf.uint8, 4),
        ("embed_jpeg", "image_bytes", tf.string, 1),
    ):
        _, inputs = signatures[name].structured_input_signature
        assert {key: (spec.dtype, spec.shape.rank) for key, spec in inputs.items()} == {argument: (dtype, rank)}
        outputs = signatures[name].structured_outputs
        assert {key: (spec.dtype, tuple(spec.shape)) for key, spec in outputs.items()} == {
            "embedding": (tf.float32, (None, 96)),
            "error": (tf.string, (None,)),
        }


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_embeddings_are_those_of_the_network_whatever_the_batch(batch, student, signatures):
    images = networks.photographs(batch)
    found = signatures["serving_default"](images=tf.constant(images))["embedding"].numpy()
    np.testing.assert_allclose(found, networks.embeddings(student, images), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-6)
    contents = [tf.io.encode_png(image).numpy() for image in images]
    np.testing.assert_allclose(
        signatures["embed_jpeg"](image_bytes=tf.constant(contents))["embedding"], found, atol=1e-6
    )


def test_turned_files_have_the_embedding_of_the_pixels_that_training_sees(student, signatures):
    upright = networks.photographs(1, (40, 20))[0]
    expected = networks.embeddings(student, np.asarray(tf.image.resize(upright[None], networks.SIZE, antialias=True)))
    # How each orientation stores an upright picture (TIFF 6.0, section 8).
    stored = [upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1]]
    stored += [each.transpose(1, 0, 2) for each in stored]  # 6: row 0 is the right-hand side, column 0 the top
    contents = [pictures.turned_file("PNG", number, pixels) for number, pixels in enumerate(stored, start=1)]
    found = signatures["embed_jpeg"](image_bytes=tf.constant(contents))["embedding"]
    np.testing.assert_allclose(found, np.repeat(expected, 8, axis=0), atol=1e-5)
    for content in contents:
        np.testing.assert_array_equal(decoding.pixels(content), upright)
    ignored = signatures["embed_jpeg"](image_bytes=tf.constant([pictures.saved(stored[2], "PNG")]))["embedding"]
    assert np.abs(ignored - expected).max() > 1e-3


def test_nothing_is_left_of_normalisations_and_training(folder, student):
    assert normalizations_left(folder) == 0
    counts = count_operations(folder)
    assert not {"Rsqrt", "VarHandleOp", "ReadVariableOp", "AssignVariableOp", "PyFunc", "EagerPyFunc"} & set(counts)
    assert counts["Conv2D"] == 36  # once, not once a signature; counted by hand in plain_test.py
    classifier = student.head.classifier.kernel.numpy().tobytes()
    assert classifier not in (folder / "saved_model.pb").read_bytes()


def test_normalisations_that_are_left_are_counted(tmp_path):
    class Kept(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 2])])
        def call(self, x):
            ones = tf.ones([2])
            return tf.compat.v1.nn.fused_batch_norm(x, ones, ones, ones, ones, is_training=False)[0]

    tf.saved_model.save(Kept(), str(tmp_path))
    assert normalizations_left(tmp_path) == 1


def test_a_teachers_variables_become_constants(tmp_path):
    network = networks.teacher()
    Embedder(network, image_size=(32, 32)).save(tmp_path)
    assert normalizations_left(tmp_path) == 0
    assert not {"VarHandleOp", "ReadVariableOp"} & set(count_operations(tmp_path))
    embed = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    networks.check(network, lambda images: embed(images=tf.constant(images))["embedding"])


def test_a_wrong_file_leaves_the_requests_alone_that_a_server_batches_with_it(folder, student):
    embed = tf.saved_model.load(str(folder)).signatures["embed_jpeg"]
    images = networks.photographs(8)
    files = [tf.io.encode_png(image).numpy() for image in images]
    files[3] = files[3][:60]

    # The operation behind TensorFlow Serving's batching (batching_session.cc): it waits until 8 requests are together.
    @tf.nondifferentiable_batch_function(num_batch_threads=1, max_batch_size=8, batch_timeout_micros=10_000_000)
    def batched(contents):
        outputs = embed(image_bytes=contents)
        return outputs["embedding"], outputs["error"], tf.fill(tf.shape(contents), tf.size(contents))

    request = tf.function(batched, input_signature=[tf.TensorSpec([None], tf.string)])

    def ask(content):
        return [each.numpy() for each in request(tf.constant([content]))]

    with concurrent.futures.ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(ask, files))
    expected = networks.embeddings(student, images)
    for i, (rows, errors, together) in enumerate(answers):
        assert together.item() == 8
        assert errors[0].startswith(b"The file is damaged") if i == 3 else errors[0] == b""
        np.testing.assert_allclose(rows[0], 0 * expected[i] if i == 3 else expected[i], atol=1e-5)


def test_the_old_signature_can_be_had(student, tmp_path):
    Embedder(student, image_size=networks.SIZE, tells_errors=False).save(tmp_path)
    embed = tf.saved_model.load(str(tmp_path)).signatures["embed_jpeg"]
    good = tf.io.encode_png(networks.photographs(1)[0]).numpy()
    assert set(embed.structured_outputs) == {"embedding"}
    assert embed(image_bytes=tf.constant([good]))["embedding"].shape == (1, 96)
    with pytest.raises(tf.errors.InvalidArgumentError, match="The file is damaged"):
        embed(image_bytes=tf.constant([good, good[:60]]))


def test_the_loader_of_tensorflow_serving_gives_the_same_and_survives_bad_requests(folder, student, tmp_path):
    good, large = networks.photographs(3), networks.photographs(1, (100, 60))
    wrong = [good[..., :1], np.concatenate([good, good[..., :1]], -1), np.zeros((1, 0, 0, 3), np.uint8), good[0]]
    requests = [good, *wrong, large, good]
    files = [tmp_path / f"{i}.npy" for i in range(len(requests))]
    for file, images in zip(files, requests, strict=True):
        np.save(file, images)
    content = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    signature = content.meta_graphs[0].signature_def["serving_default"]
    tensors = signature.inputs["images"].name, signature.outputs["embedding"].name
    command = [sys.executable, C_API, folder, *tensors, *files, tmp_path / "found.npz"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "found.npz", allow_pickle=False) as found:
        assert sorted(found) == sorted(["0", *(f"error_{i}" for i in (1, 2, 4)), "3", "5", "6"])
        assert found["3"].shape == (1, 96) and not found["3"].any()  # an image without pixels: a row of zeros
        expected = networks.embeddings(student, good)
        np.testing.assert_allclose(found["0"], expected, atol=1e-5)
        np.testing.assert_array_equal(found["6"], found["0"])
        assert found["5"].shape == (1, 96)
