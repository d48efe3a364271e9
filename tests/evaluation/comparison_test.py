import csv
import math

import numpy as np
import pytest

from kdas_tf.drawing import comparison_plot
from kdas_tf.evaluation import comparison
from kdas_tf.evaluation.comparison import Line, Table


def numbers(mean_ap, rank1, parameters=None):
    found = {"mAP": mean_ap, "rank1": rank1, "rank5": 2.0, "rank10": 3.0}
    return found | ({} if parameters is None else {"parameters": parameters})


THREE = [numbers(10.0, 20.0, 500_000), numbers(12.0, 24.0, 500_000), numbers(17.0, 22.0, 560_000)]
TABLES = [
    Table(
        "First",
        [Line("three", "Three | runs", THREE, [numbers(70.0, 80.0, 11.6e6)]), Line("none", "None yet")],
        ["A note."],
    ),
    Table("Second", [Line("one", "One run", [numbers(1.25, 2.5, 12_000_000)])]),
]


def test_the_spread_is_the_sample_standard_deviation():
    mean, spread = comparison.mean_and_spread([10.0, 12.0, 17.0])
    assert mean == 13.0
    assert spread == pytest.approx(math.sqrt((9 + 1 + 16) / 2))
    assert comparison.mean_and_spread([4.0]) == (4.0, None)
    assert comparison.mean_and_spread([]) == (None, None)


def runs_of(name, seeds, values):
    return Line(name, name.title(), [numbers(value, 50.0) for value in values], (), seeds)


def test_rows_are_compared_in_pairs_of_runs_with_one_seed():
    lines = [runs_of("ours", [0, 1, 2, 4], [12.0, 15.0, 18.0, 99.0]), runs_of("theirs", [2, 1, 0, 3], [14, 13, 11, 0])]
    found, rank1 = comparison.differences(Table("T", lines, compared="ours"))
    # Differences 1, 2, 4: mean 7/3, variance 7/3; t(0.975; 2 degrees of freedom) = 4.3027 in printed tables.
    half = 4.3027 * math.sqrt(7 / 3) / math.sqrt(3)
    assert (found.pairs, found.mean) == (3, pytest.approx(7 / 3))
    assert (found.low, found.high) == (pytest.approx(7 / 3 - half, abs=1e-4), pytest.approx(7 / 3 + half, abs=1e-4))
    assert found.verdict == "not told apart"
    assert (rank1.mean, rank1.verdict) == (0.0, "not told apart")


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((13.0, 13.1, 13.2), "higher"), ((9.0, 9.1, 9.2), "lower"), ((13.0,), "not told apart")],
)
def test_a_row_is_higher_or_lower_only_where_the_interval_leaves_out_zero(values, verdict):
    seeds = list(range(len(values)))
    lines = [runs_of("ours", seeds, values), runs_of("theirs", seeds, [11.0] * len(values)), runs_of("none", [], [])]
    found = comparison.differences(Table("T", lines, compared="ours"))
    assert [(each.other, each.verdict) for each in found] == [("theirs", verdict), ("theirs", "not told apart")]
    text = comparison.markdown([Table("T", lines, ["A note."], "ours")])
    assert f"mAP, Ours less Theirs, in pairs of {len(values)} seed" in text and f": {verdict}." in text
    assert not comparison.differences(Table("T", lines)) and "less" not in comparison.markdown([Table("T", lines)])


def table_cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]


def test_markdown_shows_mean_and_spread_beside_the_published_numbers_and_a_dash_for_what_is_missing():
    lines = comparison.markdown(TABLES).splitlines()
    first = [table_cells(line) for line in lines[2:6]]
    assert lines[0] == "## First"
    assert first[0] == [
        *("", "runs", "mAP", "Rank-1", "Rank-5", "Rank-10", "Params (M)"),
        *("paper: runs", "mAP", "Rank-1", "Rank-5", "Rank-10", "Params (M)"),
    ]
    # sqrt(26/2) = 3.6; 20, 24, 22 have a spread of 2; 500, 500, 560 thousand of 34.6.
    assert first[2] == [
        *("Three / runs", "3", "13.0 ± 3.6", "22.0 ± 2.0", "2.0 ± 0.0", "3.0 ± 0.0", "0.520 ± 0.035"),
        *("1", "70.0 ± -", "80.0 ± -", "2.0 ± -", "3.0 ± -", "11.6"),
    ]
    assert first[3] == ["None yet", "0", *"-----", *"------"]
    assert "A note." in lines


def test_a_table_of_which_nothing_is_published_has_no_columns_for_it():
    lines = comparison.markdown(TABLES).splitlines()
    second = lines[lines.index("## Second") + 2 :]
    assert table_cells(second[0])[-1] == "Params (M)" and len(table_cells(second[0])) == 7
    assert table_cells(second[2]) == ["One run", "1", "1.2 ± -", "2.5 ± -", "2.0 ± -", "3.0 ± -", "12.0"]


def test_the_lines_of_a_markdown_table_are_of_one_length_so_that_it_can_be_read_as_it_is():
    for text in comparison.markdown(TABLES).split("\n\n"):
        assert len({len(line) for line in text.splitlines() if line.startswith("|")}) <= 1


def test_csv_has_one_line_for_each_row_and_leaves_empty_what_is_missing(tmp_path):
    comparison.write_csv(tmp_path / "table.csv", TABLES)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["table"], line["row"], line["runs"]) for line in lines] == [
        ("First", "three", "3"),
        ("First", "none", "0"),
        ("Second", "one", "1"),
    ]
    three, none, one = lines
    assert (three["mAP_mean"], three["mAP_sd"], three["parameters_mean"]) == ("13.00", "3.61", "520000")
    assert (three["paper_runs"], three["paper_rank1_mean"], three["paper_rank1_sd"]) == ("1", "80.00", "")
    assert set(list(none.values())[3:]) == {"", "0"}
    assert (one["rank1_mean"], one["rank1_sd"]) == ("2.50", "")


def test_the_plot_shows_every_run_and_the_mean_with_its_spread():
    figure = comparison_plot.plot(TABLES)
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["Three | runs", "None yet", "One run"]
    dots = [line for line in left.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[10.0, 12.0, 17.0], [], [1.25]]
    bars = [container for container in left.containers if container.has_xerr]
    segment = bars[0].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 0], [13 - math.sqrt(13), 13 + math.sqrt(13)])
    assert next(line.get_xdata()[0] for line in right.lines if line.get_marker() == "|") == 22.0


def test_a_run_without_judgement_counts_as_a_run_without_numbers():
    (line,) = [
        row
        for row in comparison.markdown([Table("T", [Line("x", "X", [{"parameters": 2e6}])])]).splitlines()
        if "X" in row
    ]
    assert table_cells(line) == ["X", "1", "-", "-", "-", "-", "2.0"]
