import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import UserError
from kdas_tf.serving import checking
from kdas_tf.serving.embedder import Embedder
from tests.serving import networks


def test_an_export_is_as_near_as_rounding_and_another_network_is_noticed(tmp_path):
    network = networks.student()
    Embedder(network, image_size=networks.SIZE).save(tmp_path)
    contents = checking.random_images(5, networks.SIZE)
    comparison = checking.compare(tmp_path, network, contents, image_size=networks.SIZE)
    assert (comparison.images, comparison.embedding_size) == (5, 96)
    assert 0 < comparison.difference < 1e-6
    kernel = network.stem.blocks[1].kernel
    kernel.assign(kernel.numpy() * np.where(np.arange(kernel.shape[-1]) == 0, 1.02, 1.0))
    with pytest.raises(UserError, match="Nothing was exported"):
        checking.compare(tmp_path, network, contents, image_size=networks.SIZE)
    with pytest.raises(UserError, match="differ by nan"):
        checking.check_difference("the exported model", float("nan"))


def test_random_images_have_several_sizes_within_the_limit():
    shapes = {tuple(tf.io.decode_png(content).shape) for content in checking.random_images(8, (32, 16))}
    assert len(shapes) == 4
    assert (32, 16, 3) in shapes
    few = checking.random_images(8, (32, 16), max_pixels=32 * 16)
    assert {tuple(tf.io.decode_png(content).shape) for content in few} == {(32, 16, 3), (16, 16, 3)}
    with pytest.raises(UserError, match=r"the network's own size, 32 x 16 = 512 pixels, got 100\. Set export\.run"):
        checking.random_images(8, (32, 16), max_pixels=100)


@pytest.fixture
def paths(tmp_path):
    """Nine photographs of 4x5, 4x6, ...; the fifth is of another format, and the last is missing."""
    paths = [tmp_path / f"{i}.png" for i in range(9)]
    for i, path in enumerate(paths[:8]):
        path.write_bytes(tf.io.encode_png(np.full((4, 5 + i, 3), i, np.uint8)).numpy())
    paths[4].write_bytes(b"BM")
    return list(map(str, paths))


def test_photographs_are_spread_over_the_list_and_must_be_of_a_kind_that_is_served(paths):
    with open(paths[0], "rb") as file:
        assert checking.readable(paths, 3) == [file.read()]
    assert len(checking.readable(paths, 100)) == 7
    assert checking.readable([], 3) == []


def test_photographs_that_the_export_would_refuse_are_not_compared(paths):
    assert len(checking.readable(paths, 100, max_pixels=4 * 7)) == 3
    with pytest.raises(UserError, match=r"at most max_pixels=19 pixels .*0\.png with 20 \(4 x 5\)\. Set export\.run"):
        checking.readable(paths, 100, max_pixels=19)
