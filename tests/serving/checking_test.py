import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.serving import checking
from kdas_tf.serving.embedder import Embedder
from tests.serving import networks


@pytest.fixture(scope="module")
def network():
    return networks.student()


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    Embedder(network, image_size=networks.SIZE).save(folder)
    return folder


def test_an_export_is_as_near_as_rounding(folder, network):
    contents = checking.random_images(5, networks.SIZE)
    found = checking.compare(folder, network, contents, image_size=networks.SIZE)
    assert (found.images, found.embedding_size) == (5, 96)
    assert 0 < found.difference < 1e-6


def test_another_network_is_noticed(folder, network):
    variable = network.stem.blocks[1].kernel
    before = variable.numpy()
    variable.assign(before * np.where(np.arange(before.shape[-1]) == 0, 1.02, 1.0))
    try:
        with pytest.raises(UserError, match="Nothing was exported"):
            checking.compare(folder, network, checking.random_images(4, networks.SIZE), image_size=networks.SIZE)
    finally:
        variable.assign(before)


def test_a_network_that_gives_no_numbers_is_noticed(tmp_path, network):
    before = network.head.neck.gamma.numpy()
    network.head.neck.gamma.assign(before * np.nan)
    try:
        Embedder(network, image_size=networks.SIZE).save(tmp_path)
        with pytest.raises(UserError, match="differ by nan"):
            checking.compare(tmp_path, network, checking.random_images(4, networks.SIZE), image_size=networks.SIZE)
    finally:
        network.head.neck.gamma.assign(before)


def test_random_images_have_several_sizes():
    shapes = {tuple(tf.io.decode_png(content).shape) for content in checking.random_images(8, (32, 16))}
    assert len(shapes) == 4
    assert (32, 16, 3) in shapes


def test_photographs_are_spread_over_the_list_and_must_be_of_a_kind_that_is_served(tmp_path):
    paths = []
    for i in range(9):
        pixels = np.full((4, 4, 3), i, np.uint8)
        paths.append(str(tmp_path / f"{i}.png"))
        (tmp_path / f"{i}.png").write_bytes(tf.io.encode_png(pixels).numpy())
    (tmp_path / "4.png").write_bytes(b"BM")
    (tmp_path / "8.png").unlink()
    assert checking.readable(paths, 3) == [(tmp_path / "0.png").read_bytes()]
    assert len(checking.readable(paths, 100)) == 7
    assert checking.readable([], 3) == []
