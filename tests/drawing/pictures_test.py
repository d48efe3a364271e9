import math

import numpy as np
import pytest
from matplotlib import image as png

from kdas_tf.drawing import pictures
from kdas_tf.errors import UserError
from kdas_tf.genotype import AUTO_REID, GDAS_V1, PRIMITIVES


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_heat_map_shows_every_weight_and_frames_the_two_edges_of_each_node():
    alpha = np.zeros((14, 7))
    alpha[2, 3], alpha[4, 4] = math.log(6), math.log(12)  # weights 6/12 and 12/18
    figure = pictures.alpha_heatmap(alpha, "normal cell")
    (axes,) = figure.axes
    assert axes.get_title() == "normal cell"
    assert len(axes.texts) == 14 * 7
    assert texts(figure)[2 * 7 + 3] == "0.500"
    assert texts(figure)[4 * 7 + 4] == "0.667"
    assert [label.get_text() for label in axes.get_yticklabels()][:3] == ["0→2", "1→2", "0→3"]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(PRIMITIVES)
    frames = [patch for patch in axes.patches if not patch.get_fill()]
    assert len(frames) == 8
    assert {int(frame.get_x()) for frame in frames} == {1, 3, 4}


def test_a_heat_map_of_diverged_alphas_is_refused():
    with pytest.raises(UserError, match="finite"):
        pictures.alpha_heatmap(np.full((14, 7), np.nan), "normal cell")


@pytest.mark.parametrize(("genotype", "operations"), [(GDAS_V1, 4), (AUTO_REID, 5)])
def test_a_genotype_is_drawn_with_a_label_on_each_arrow_and_one_colour_for_each_operation(genotype, operations):
    figure = pictures.draw_genotype(genotype, "a genotype")
    expected = [name.replace("_connect", "").replace("_aware", "") for name, _ in genotype.normal + genotype.reduce]
    expected = [name.replace("_conv_", " ").replace("_pool_", " ") for name in expected]
    words = texts(figure)
    assert all(words.count(name) == expected.count(name) for name in set(expected))
    assert {"normal cell", "reduction cell", "$c_k$"} <= set(words)
    handles = figure.legends[0].legend_handles
    assert len(handles) == operations + 1
    assert len({handle.get_color() for handle in handles}) == operations + 1


def test_the_concatenation_has_an_arrow_from_each_of_its_nodes():
    count = [len(axes.patches) for axes in pictures.draw_genotype(GDAS_V1, "").axes]
    assert count == [7 + 8 + 4] * 2  # nodes, operations, concatenation


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_grid_shows_images_as_they_are(dtype):
    images = np.zeros((9, 20, 10, 3), dtype)
    images[1] = (250, 120, 3)
    figure = pictures.image_grid(images, list("abcdefghi"))
    sheet = figure.axes[0].images[0].get_array()
    assert texts(figure) == list("abcdefghi")
    assert (sheet == (250, 120, 3)).all(axis=-1).sum() == 20 * 10
    assert (sheet == 0).all(axis=-1).sum() == 8 * 20 * 10
    assert sheet.shape[0] > 2 * 20
    assert sheet.shape[1] < 9 * 10 + 9 * 2  # eight images and nine gaps


def test_a_grid_clips_what_no_pixel_can_be():
    image = np.array([-40.0, 254.6, 999.0]).reshape(1, 1, 1, 3)
    sheet = pictures.image_grid(image, [""]).axes[0].images[0].get_array()
    assert (sheet == (0, 255, 255)).all(axis=-1).any()


def test_the_array_and_the_file_hold_the_same_pixels(tmp_path):
    figure = pictures.image_grid(np.random.default_rng(0).uniform(0, 255, (2, 20, 10, 3)), ["", ""])
    array = pictures.to_array(figure)
    assert array.dtype == np.uint8 and array.ndim == 3
    assert array.std() > 1
    path = tmp_path / "folder" / "grid.png"
    pictures.save(figure, path)
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]
    np.testing.assert_array_equal(np.round(png.imread(path)[..., :3] * 255), array)
