"""The client against servers on real sockets: gRPC with tensorflow-serving-api's service, and REST."""

import concurrent.futures
import contextlib
import io
import os
import re
import socket
import subprocess
import sys
import threading
import time
import types

import grpc
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from kdas_tf.client.client import Client, ServerError, Unavailable
from kdas_tf.errors import UserError
from tests import pictures
from tests.serving import networks

pytest.importorskip("tensorflow_serving.apis")
from tests.serving import servers

PHOTOGRAPHS = networks.photographs(7, (40, 20))
GOOD = tf.io.encode_jpeg(PHOTOGRAPHS[0]).numpy()
DAMAGED = GOOD[:-100]  # its header is whole


def flat_png(side):
    """A whole PNG file of one colour: a bit a pixel."""
    file = io.BytesIO()
    PIL.Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(params=["grpc", "http"])
def address(request, ports):
    return f"{request.param}://localhost:{ports[1][request.param]}"


@pytest.fixture
def client(address, served):
    with Client(address, batch_size=4) as client:
        yield client


@pytest.fixture(scope="module")
def expected(network):
    resized = tf.image.resize(PHOTOGRAPHS, networks.SIZE, antialias=True)
    return networks.embeddings(network, tf.clip_by_value(resized, 0, 255))


def is_usable(client):
    """One good request, as after every bad one."""
    rows = client.embed([GOOD])
    return rows.shape == (1, 96) and abs(np.linalg.norm(rows) - 1) < 1e-5


def test_embeddings_are_those_of_the_network_in_the_order_of_the_images(client, served, expected):
    contents = [tf.io.encode_png(image).numpy() for image in PHOTOGRAPHS]
    embeddings = client.embed(contents)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=1e-5)
    assert networks.spread(embeddings) > 1e-3
    assert served.requests == [{"image_bytes": 4}, {"image_bytes": 3}]
    np.testing.assert_allclose(client.embed(contents[::-1]), expected[::-1], atol=1e-5)


def test_files_bytes_and_arrays_go_together(client, expected, tmp_path):
    png, jpeg = (tmp_path / name for name in ("a b.png", "b.jpg"))
    png.write_bytes(tf.io.encode_png(PHOTOGRAPHS[1]).numpy())
    jpeg.write_bytes(GOOD)
    embeddings = client.embed([PHOTOGRAPHS[0], png, str(jpeg), png.read_bytes()])
    np.testing.assert_allclose(embeddings[[0, 1, 3]], expected[[0, 1, 1]], atol=1e-5)
    assert embeddings[2] @ expected[0] > 0.9  # JPEG loses something


def test_grey_images_and_such_with_an_alpha_channel_are_embedded_as_rgb(client):
    image = PHOTOGRAPHS[0]
    grey = image[..., :1]
    alpha = np.concatenate([image, np.full_like(grey, 7)], -1)
    embeddings = client.embed([grey, grey[..., 0], np.repeat(grey, 3, -1), alpha, image])
    np.testing.assert_allclose(embeddings[:2], embeddings[[2, 2]], atol=1e-6)
    np.testing.assert_allclose(embeddings[3], embeddings[4], atol=1e-6)
    files = client.embed([tf.io.encode_png(pixels).numpy() for pixels in (grey, alpha)])
    np.testing.assert_allclose(files, embeddings[[0, 3]], atol=1e-6)


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        ([b"no image"], "image 0 cannot be sent: not an image in one of the formats"),
        ([b"GIF89a" + bytes(40)], "image 0 cannot be sent: a GIF, and servers take JPEG and PNG"),
        ([flat_png(8)[:30]], "image 0 cannot be sent: a PNG that is cut short"),
        ([GOOD, b""], "image 1 cannot be sent: an empty file"),
        ([flat_png(6000)], "image 0 cannot be sent: 6000 x 6000 pixels are more than 33,554,432"),
        ([GOOD, pictures.many_scans(400)], "image 1 cannot be sent: a JPEG of 400 scans"),
        (["/no/such/file.jpg"], "there is no /no/such/file.jpg"),
        ([os.curdir], r"^Expected a JPEG or PNG file, but \. is a folder or a device"),
        ([GOOD + bytes(1 << 25)], "at most 33,554,432 bytes"),
        ([PHOTOGRAPHS[0].astype(np.float32)], r"array 0 is float32 \[40, 20, 3\]"),
        ([np.zeros((0, 4, 3), np.uint8)], r"array 0 is \[0, 4, 3\]"),
        ([None], "got NoneType at position 0"),
        ([], "at least one image"),
        ("photo.jpg", "a list of images"),
    ],
)
def test_what_is_no_photograph_is_refused_before_anything_is_sent(served, ports, images, reason):
    with Client(f"grpc://localhost:{ports[1]['grpc']}") as client:
        with pytest.raises(UserError, match=reason) as caught:
            client.embed(images)
        assert "\n" not in str(caught.value)
        assert not served.requests
        assert is_usable(client)


def test_a_damaged_file_is_named_and_the_others_are_embedded(client, served):
    with pytest.raises(UserError, match=r"cannot read image 1: The file is damaged.*, and 1 more images$") as caught:
        client.embed([GOOD, DAMAGED, DAMAGED])
    assert "\n" not in str(caught.value)
    assert len(served.requests) == 1
    rows, errors = client.embed_each([GOOD, DAMAGED, GOOD])
    assert list(errors) == [1] and errors[1][0] == "image 1"
    np.testing.assert_array_equal(rows[[0, 2]], client.embed([GOOD, GOOD]))
    assert not rows[1].any()
    assert is_usable(client)


def test_an_export_that_tells_no_errors_is_understood(client, served, monkeypatch):
    predict = served.predict

    def without_errors(*arguments):
        version, outputs = predict(*arguments)
        return version, {"embedding": outputs["embedding"]}

    expected = client.embed([GOOD])
    monkeypatch.setattr(served, "predict", without_errors)
    rows, errors = client.embed_each([GOOD])
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert not errors


def test_requests_are_no_larger_than_the_server_and_a_file_may_be(address, served):
    with Client(address, batch_size=5) as client:
        with pytest.raises(UserError, match=r"larger than maximum input batch size 4.* smaller batch_size"):
            client.embed([GOOD] * 5)
        assert len(served.requests) == 1
    served.calm()
    with Client(address, max_bytes=2 * len(GOOD) + 1) as client:
        assert client.embed([GOOD] * 5).shape == (5, 96)
    assert [request["image_bytes"] for request in served.requests] == [2, 2, 1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"model": "gates"}, "serves no model 'gates'.*models.config"),
        ({"version": 2}, "serves no model 'kdas_reid'.*2"),
        ({"model": "narrow", "width": 96}, "Expected embeddings of 96 numbers, but those of 'narrow' .* have 16"),
    ],
)
def test_another_model_than_the_expected_is_an_error_at_once(address, served, arguments, reason):
    with Client(address, **arguments) as client, pytest.raises(UserError, match=reason):
        client.embed([GOOD])
    assert len(served.requests) == 1
    with Client(address, width=96, version=3) as client:
        assert is_usable(client)


def test_a_model_that_was_exported_by_something_else_is_said(client, served, monkeypatch):
    other = types.SimpleNamespace(signatures={"serving_default": None})
    monkeypatch.setitem(served.models, "kdas_reid", (3, other))
    with pytest.raises(UserError, match=r"\"embed_jpeg\" not found.*Is it a model that kdas_tf exported\?$"):
        client.embed([GOOD])


def test_a_server_that_is_down_is_said_and_the_client_waits_for_it_to_come_back(served, address):
    scheme = address.split(":")[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Client(f"{scheme}://127.0.0.1:{port}", retries=2, deadline=30) as client:
        with pytest.raises(Unavailable, match=r"refused.*tried 3 times") as caught:
            client.embed([GOOD])
        assert "\n" not in str(caught.value)
    embeddings = []
    with Client(f"{scheme}://127.0.0.1:{port}", retries=30, deadline=30) as patient:
        thread = threading.Thread(target=lambda: embeddings.append(patient.embed([GOOD])))
        thread.start()
        time.sleep(0.3)
        serving = servers.serving_grpc if scheme == "grpc" else servers.serving_rest
        with serving(served, port):
            thread.join()
    assert embeddings[0].shape == (1, 96)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_server_that_is_too_busy_is_asked_again(client, served, code):
    served.faults = [code] * 2
    assert is_usable(client)
    assert len(served.requests) == 3
    served.faults = [code] * 9
    with pytest.raises(Unavailable, match=r"told to fail.*tried 5 times"):
        client.embed([GOOD])
    assert len(served.requests) == 3 + 5


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, UserError),
        (grpc.StatusCode.NOT_FOUND, UserError),
        (grpc.StatusCode.INTERNAL, ServerError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, ServerError),
    ],
)
def test_after_other_errors_nothing_is_sent_again(client, served, code, error):
    served.faults = [code]
    with pytest.raises(error):
        client.embed([GOOD])
    assert len(served.requests) == 1
    assert is_usable(client)


def test_no_answer_in_time_is_an_error_in_time(address, served):
    since = time.monotonic()
    served.delay = 5.0
    with Client(address, timeout=0.3) as client, pytest.raises(ServerError, match=r"no answer within 0\.3 s"):
        client.embed([GOOD])
    assert time.monotonic() - since < 4


def test_retries_and_further_batches_end_with_the_deadline(address, served):
    served.faults = [grpc.StatusCode.UNAVAILABLE] * 99
    since = time.monotonic()
    with Client(address, deadline=0.5, retries=99) as client, pytest.raises(Unavailable, match="until the deadline"):
        client.embed([GOOD])
    assert time.monotonic() - since < 5  # 99 retries would take minutes
    served.calm()
    served.delay = 0.2
    with Client(address, deadline=0.5, batch_size=1) as client:
        with pytest.raises(ServerError, match=r"no answer within|no time is left"):
            client.embed([GOOD] * 20)
        assert 1 <= len(served.requests) <= 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows[:-1], r"array \[1, 96\] to 2 images"),
        (lambda rows: rows[:, 0], r"array \[2\] to 2 images"),
        (lambda rows: rows * np.float32("nan"), "NaN or infinite"),
        (lambda rows: rows[:, :0], r"array \[2, 0\] to 2 images"),
        (lambda rows: rows * 0, "of a length other than 1, such as 0:"),
        (lambda rows: rows * 3, "of a length other than 1, such as 3:"),
    ],
)
def test_an_answer_that_would_spoil_a_gallery_is_refused(client, served, change, reason):
    served.change = change
    with pytest.raises(ServerError, match=reason):
        client.embed([GOOD, GOOD])


def test_a_model_that_changes_between_two_batches_is_noticed(ports, served, monkeypatch):
    loaded = served.models["kdas_reid"][1]

    def change(rows):
        monkeypatch.setitem(served.models, "kdas_reid", (4, loaded))  # from the next request on
        return rows

    served.change = change
    client = Client(f"grpc://localhost:{ports[1]['grpc']}", batch_size=1)
    with client, pytest.raises(ServerError, match="changed its model between two requests"):
        client.embed([GOOD] * 3)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_the_other_interfaces_port_is_noticed(ports, scheme):
    other = {"grpc": "http", "http": "grpc"}[scheme]
    client = Client(f"{scheme}://127.0.0.1:{ports[1][other]}", retries=0, timeout=5)
    with client, pytest.raises(ServerError, match=f"{other}://"):
        client.embed([GOOD])


PAGE = b"HTTP/1.1 %d Title\r\nContent-Length: 6\r\n\r\n<html>"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"


@contextlib.contextmanager
def answering(*parts):
    """The address of a server that answers a request with parts of bytes, waits between them, and closes."""

    def answer():
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):  # the client has seen enough
            request = b""
            while not request.endswith(b"]}"):  # closing before all is read would break the connection off
                request += connection.recv(1 << 16)
            for part in parts:
                connection.sendall(part)
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("parts", "error", "reason"),
    [
        ([PAGE % 200], ServerError, "is it TensorFlow Serving"),
        ([PAGE % 301], UserError, "is no TensorFlow Serving.*HTTP 301"),
        ([PAGE % 401], UserError, "does not let this client in.*HTTP 401"),
        ([PAGE % 404], UserError, "is no TensorFlow Serving.*HTTP 404"),
        ([PAGE % 502], ServerError, "HTTP 502"),
        ([HEAD, *[b" "] * 40], ServerError, r"no answer within 0\.4 s"),
        ([], Unavailable, "closed before an answer"),
        ([HEAD + b"[["], ServerError, "IncompleteRead"),
    ],
)
def test_another_web_server_and_an_answer_that_drips_or_breaks_off_are_errors_in_time(parts, error, reason):
    since = time.monotonic()
    with answering(*parts) as address, Client(address, retries=0, timeout=0.4) as client:
        with pytest.raises(error, match=reason):
            client.embed([GOOD])
        assert time.monotonic() - since < 4


def test_many_threads_may_use_one_client(client):
    alone = client.embed(list(PHOTOGRAPHS[:3]))
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        embeddings = list(threads.map(client.embed, [list(PHOTOGRAPHS[:3])] * 6))
    np.testing.assert_allclose(embeddings, [alone] * 6, atol=1e-6)


IMPORTS = """
import importlib, pkgutil, sys
import kdas_tf.client
for module in pkgutil.iter_modules(kdas_tf.client.__path__, "kdas_tf.client."):
    importlib.import_module(module.name)
print(*sys.modules)
"""


def test_it_needs_neither_tensorflow_nor_keras_nor_the_rest_of_the_package():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True, timeout=60)
    loaded = done.stdout.split()
    assert "kdas_tf.client.over_grpc" in loaded and "kdas_tf.client.over_rest" in loaded
    assert not [name for name in loaded if re.match(r"(tensorflow|keras|gin|matplotlib)", name)]
    ours = {name.split(".")[1] for name in loaded if name.startswith("kdas_tf.")}
    assert ours == {"client", "errors", "files", "formats"}


@pytest.mark.parametrize(
    "server",
    ["", "localhost:8500", "ftp://localhost", "grpc://", "grpc://localhost:x", "http://localhost:99999",
     "grpc://localhost:8500/v1", "http://me:secret@localhost", "http://[::1"],
)  # fmt: skip
def test_an_address_that_is_none_is_refused(server):
    with pytest.raises(UserError, match="grpc://localhost:8500"):
        Client(server)


@pytest.mark.parametrize(
    "arguments",
    [{"timeout": 0}, {"deadline": float("nan")}, {"retries": -1}, {"batch_size": 0}, {"width": 0}, {"model": "a/b"}],
)
def test_an_argument_that_cannot_be_is_refused(arguments):
    with pytest.raises(UserError, match="Expected"):
        Client("grpc://localhost", **arguments)
