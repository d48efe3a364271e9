import logging
import math

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from kdas_tf.drawing import ranked_lists
from kdas_tf.drawing.pictures import to_array
from kdas_tf.drawing.ranked_lists import RIGHT, WRONG, RankedQuery, Shown, thumbnail, worst_and_best
from tests import pictures

NAN = math.nan


def test_the_worst_and_the_best_queries_come_in_order_and_those_without_a_match_are_left_out():
    assert worst_and_best([0.5, NAN, 0.1, 0.9, 0.3, 1.0, 0.2], range(7), 2) == ([2, 6], [5, 3])


def test_queries_at_the_same_precision_keep_their_order_and_none_is_shown_twice():
    assert worst_and_best([1.0, 1.0, 1.0, 1.0], range(4), 3) == ([0, 1], [2, 3])
    assert worst_and_best([1.0, 0.5, 1.0], range(3), 1) == ([1], [0])
    assert worst_and_best([0.4], [5], 6) == ([0], [])
    assert worst_and_best([NAN, NAN], [5, 6], 6) == worst_and_best([], [], 6) == ([], [])


def test_each_person_is_shown_once_among_the_worst_and_once_among_the_best():
    assert worst_and_best([0.1, 0.2, 0.3, 0.8, 0.9, 1.0], [5, 5, 6, 6, 7, 7], 2) == ([0, 2], [5, 3])


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "0001_c1.png"
    Image.new("RGB", (64, 128), (10, 200, 30)).save(path)
    return path


def row(photograph, correct=(False, True)):
    found = [Shown(photograph, 40 + i, 2, 0.25 * (i + 1), flag) for i, flag in enumerate(correct)]
    return RankedQuery(Shown(photograph, 41, 1), found, 0.5, 2)


def test_a_ranked_list_tells_right_from_wrong_by_colour_mark_and_line(photograph):
    figure = ranked_lists.ranked_list([row(photograph), row(photograph, [True])], "worst of $1$")
    (axes,) = figure.axes
    frames = [(to_hex(patch.get_edgecolor()), patch.get_linestyle()) for patch in axes.patches]
    query, wrong, right = frames[0], frames[1], frames[2]
    assert (wrong[0], right[0]) == (WRONG, RIGHT)
    assert len({wrong[1], right[1]}) == 2
    assert frames == [query, wrong, right, query, right]
    words = [text.get_text() for text in axes.texts]
    assert words == [
        "worst of $1$",
        "query",
        "AP 50.0 %\nfirst: 2\nid 41\ncam 1",
        "1 ✗",
        "0.250\nid 40\ncam 2",
        "2 ✓",
        "0.500\nid 41\ncam 2",
        "query",
        "AP 50.0 %\nfirst: 2\nid 41\ncam 1",
        "1 ✓",
        "0.250\nid 40\ncam 2",
    ]


def test_every_photograph_of_a_ranked_list_is_seen_and_nothing_overlaps(photograph):
    figure = ranked_lists.ranked_list([row(photograph, [True] * 10)] * 2, "best")
    pixels = to_array(figure)
    shown = (np.abs(pixels.astype(int) - (10, 200, 30)) < 3).all(2).sum()
    assert shown == pytest.approx(22 * 72 * 144, rel=0.02)
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts]
    boxes += [patch.get_window_extent(renderer) for patch in figure.axes[0].patches]
    assert not [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= pixels.shape[1] for box in boxes)


def test_distractors_and_queries_that_found_nothing_are_named(photograph):
    nothing = RankedQuery(Shown(photograph, 7, 1), [Shown(photograph, 0, 3, 0.1)], 0.0, None)
    words = [text.get_text() for text in ranked_lists.ranked_list([nothing], "").axes[0].texts]
    assert "AP 0.0 %\nfirst: none\nid 7\ncam 1" in words
    assert "0.100\ndistractor\ncam 3" in words


def test_a_list_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one query"):
        ranked_lists.ranked_list([], "none")


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 128), (72, 144)), ((300, 300), (72, 72)), ((10, 10), (20, 20)), ((1, 900), (1, 144))]
)
def test_a_thumbnail_fits_keeps_its_shape_and_is_enlarged_at_most_twice(size, expected, tmp_path):
    Image.new("RGB", size).save(tmp_path / "a.png")
    assert thumbnail(tmp_path / "a.png").size == expected


def test_a_thumbnail_that_needs_no_other_size_is_the_photograph(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (128, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(thumbnail(str(tmp_path / "a.png"), (64, 128))), pixels)


def test_a_photograph_that_cannot_be_read_is_grey_and_named_in_the_log(tmp_path, caplog):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    caplog.set_level(logging.WARNING)
    for path in (tmp_path / "a.jpg", tmp_path / "missing.jpg"):
        assert np.asarray(thumbnail(path)).std() == 0
    assert ["a.jpg" in caplog.text, "missing.jpg" in caplog.text] == [True, True]


def test_a_photograph_is_shown_as_the_network_sees_it(tmp_path):
    grey = np.repeat(np.linspace(0, 65535, 144)[:, np.newaxis], 72, axis=1).astype(np.uint16)
    (tmp_path / "grey.png").write_bytes(pictures.saved(grey, "PNG"))
    np.testing.assert_array_equal(np.asarray(thumbnail(tmp_path / "grey.png"))[..., 0], grey >> 8)
    wide = np.repeat(np.arange(144, dtype=np.uint8)[np.newaxis, :, np.newaxis], 72, axis=0).repeat(3, axis=2)
    (tmp_path / "turned.png").write_bytes(pictures.turned_file("PNG", 6, wide))
    np.testing.assert_array_equal(np.asarray(thumbnail(tmp_path / "turned.png")), np.rot90(wide, -1))
