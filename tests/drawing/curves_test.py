import numpy as np
import pytest

from kdas_tf.drawing import curves
from kdas_tf.drawing.pictures import to_array


def lines(axes):
    return {line.get_label(): line for line in axes.lines if line.get_gid() == "curve"}


def legend(axes):
    return [text.get_text() for text in axes.figure.legends[0].get_texts()]


def test_a_cmc_curve_begins_at_rank_one_and_marks_one_five_and_ten():
    cmc = 1 - 0.5 ** np.arange(1, 51)
    (axes,) = curves.cmc_curve({"student": cmc, "re-ranked": np.sqrt(cmc)}).axes
    line = lines(axes)["student"]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 51))
    np.testing.assert_array_equal(line.get_ydata(), cmc)
    assert [line.get_xdata()[i] for i in line.get_markevery()] == [1, 5, 10]
    assert legend(axes) == ["student", "re-ranked"]
    assert list(axes.get_xticks()) == [1, *range(5, 51, 5)]
    assert len({line.get_linestyle() for line in lines(axes).values()}) == 2


@pytest.mark.parametrize(
    ("cmc", "limits"),
    [([0.0, 0.0], (0, 0.1)), ([0.06, 0.31], (0, 0.4)), ([0.947, 0.99], (0.9, 1.005)), ([0.91, 1.0], (0.8, 1.005))],
)
def test_the_axis_of_a_cmc_curve_holds_the_curve_and_little_else(cmc, limits):
    (axes,) = curves.cmc_curve({"a": cmc}).axes
    assert axes.get_ylim() == pytest.approx(limits)


def test_ticks_are_whole_percentages():
    figure = curves.cmc_curve({"a": [0.03, 0.14]})
    to_array(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    values = [round(100 * tick, 6) for tick in figure.axes[0].get_yticks()]
    assert labels == [f"{value:.0f} %" for value in values]
    assert all(value == int(value) for value in values)


def test_a_roc_curve_shows_for_each_rate_what_is_reached_without_exceeding_it():
    fpr, tpr = np.array([0.0, 1e-4, 1e-2, 1.0]), np.array([0.1, 0.3, 0.6, 1.0])
    points = [(1e-4, 0.3), (1e-2, 0.6)]
    (axes,) = curves.roc_curve("student", fpr, tpr, points).axes
    line = lines(axes)["student"]
    for rate, reached in zip(line.get_xdata(), line.get_ydata(), strict=True):
        assert reached == max(t for f, t in zip(fpr, tpr, strict=True) if f <= rate)
    assert axes.get_xscale() == "log"
    assert axes.get_xlim() == pytest.approx((1e-4, 1))
    assert line.get_drawstyle() == "steps-post"
    assert [text.get_text() for text in axes.texts] == ["30.0 %", "60.0 %"]
    marked = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert marked == points


def test_a_roc_curve_of_a_million_pairs_has_few_points_and_a_readable_axis():
    fpr = np.linspace(0, 1, 1 << 20) ** 3
    (axes,) = curves.roc_curve("a", fpr, np.sqrt(fpr)).axes
    assert len(lines(axes)["a"].get_xdata()) < 2000
    assert axes.get_xlim()[0] == pytest.approx(1e-6)


def test_a_roc_curve_that_begins_above_all_small_rates_is_at_zero_there():
    (axes,) = curves.roc_curve("a", [0.5, 1.0], [0.7, 1.0]).axes
    assert lines(axes)["a"].get_ydata()[0] == 0
    assert axes.get_xlim()[0] == pytest.approx(1e-3)


def test_names_are_shown_as_they_are():
    names = ["_hidden", "a $x^$ b"]
    for figure, shown in (
        (curves.cmc_curve({name: [0.5, 1.0] for name in names}), names),
        (curves.roc_curve(names[1], [0.0, 1.0], [0.5, 1.0]), names[1:]),
    ):
        assert legend(figure.axes[0]) == shown
        assert to_array(figure).std() > 1


def test_a_point_without_false_positives_stands_at_the_left_edge():
    figure = curves.roc_curve("a", [0.0, 0.01, 1.0], [0.2, 0.5, 1.0], [(0.0, 0.2), (0.01, 0.5)])
    (axes,) = figure.axes
    marked = [line for line in axes.lines if line.get_marker() == "o"]
    assert [float(line.get_xdata()[0]) for line in marked] == [axes.get_xlim()[0], 0.01]
    to_array(figure)  # drawn without matplotlib's warning that the axes have no room
