import csv
import os

import numpy as np
import pytest

from kdas_tf.evaluation import printing
from kdas_tf.evaluation.printing import Row


def test_the_table_has_the_columns_of_the_paper_and_the_conventions_below():
    rows = [
        Row("KDAS-ReID", 0.7701, 0.9111, 0.9696, 0.9789, 14_333_000),
        Row("re-ranked", 1.0, 0.0, 0.00049, 0.0005001, None),
    ]
    assert printing.format_table(rows, ["AP: step", "Queries without a match: left out (3)"]).splitlines() == [
        "             mAP  Rank-1  Rank-5  Rank-10  Params (M)",
        "KDAS-ReID   77.0    91.1    97.0     97.9        14.3",
        "re-ranked  100.0     0.0     0.0      0.1           -",
        "AP: step",
        "Queries without a match: left out (3)",
    ]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [(25_100_000, "25.1"), (2_257_984, "2.3"), (100_000, "0.1"), (99_400, "0.099"), (4_212, "0.004"), (None, "-")],
)
def test_parameters_are_in_millions(parameters, text):
    assert printing.millions(parameters) == text


@pytest.mark.parametrize(("fraction", "text"), [(0.76543, "76.5"), (0.0, "0.0"), (float("nan"), "-"), (None, "-")])
def test_fractions_are_in_percent(fraction, text):
    assert printing.percent(fraction) == text


def test_a_name_cannot_break_the_table():
    lines = printing.format_table([Row("a\nb\x1b[31m", 0.5, 0.5, 0.5, 0.5)]).splitlines()
    assert len(lines) == 2
    assert "\x1b" not in lines[1]


COLUMNS = {
    "identities": np.array([7, 12]),
    "cameras": np.array([1, 6]),
    "average_precisions": np.array([5 / 6, np.nan]),
    "first_match_ranks": np.array([1, 0]),
    "inverse_negative_penalties": np.array([2 / 3, np.nan]),
    "matches": np.array([2, 0]),
}


def test_the_csv_has_a_line_for_each_query_and_is_empty_where_there_is_no_match(tmp_path):
    path = tmp_path / "evaluate" / "per_query.csv"
    printing.write_per_query_csv(path, queries=["0007_c1.jpg", "0012_c6.jpg"], **COLUMNS)
    assert path.read_text().splitlines() == [
        "query,identity,camera,average_precision,first_match_rank,inverse_negative_penalty,matches",
        "0007_c1.jpg,7,1,0.8333333333333334,1,0.6666666666666666,2",
        "0012_c6.jpg,12,6,,,,0",
    ]
    assert os.listdir(path.parent) == ["per_query.csv"]


@pytest.mark.parametrize("rank", [np.nan, np.inf, 0, -1])
def test_no_rank_is_empty_however_it_is_written(tmp_path, rank):
    columns = {**COLUMNS, "first_match_ranks": [3.0, rank]}
    printing.write_per_query_csv(tmp_path / "q.csv", queries=range(2), **columns)
    with open(tmp_path / "q.csv", newline="") as file:
        assert [line["first_match_rank"] for line in csv.DictReader(file)] == ["3", ""]


def test_names_come_back_from_the_csv_whatever_they_hold(tmp_path):
    names = ['a "b", c\nd.jpg', os.fsdecode(b"caf\xe9.jpg")]
    printing.write_per_query_csv(tmp_path / "q.csv", queries=names, **COLUMNS)
    with open(tmp_path / "q.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert [line["query"] for line in csv.DictReader(file)] == names


def test_columns_of_another_length_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="Expected 3 values in each column"):
        printing.write_per_query_csv(tmp_path / "q.csv", queries=range(3), **COLUMNS)
    assert os.listdir(tmp_path) == []
