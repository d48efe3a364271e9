import csv
import os

import numpy as np
import pytest

from kdas_tf.evaluation import printing
from kdas_tf.evaluation.embeddings import Embeddings
from kdas_tf.evaluation.printing import Score
from kdas_tf.evaluation.ranking import RankingResult


def test_the_table_has_the_columns_of_the_paper_and_the_conventions_below():
    rows = [
        Score("KDAS-ReID", 0.7701, 0.9111, 0.9696, 0.9789, 14_333_000, 0.3),
        Score("re-ranked", 1.0, 0.0, 0.00049, 0.0005001, None, 0.3),
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
    [(25_100_000, "25.1"), (2_257_984, "2.3"), (1e6, "1.0"), (999_400, "0.999"), (4_212, "0.004"), (None, "-")],
)
def test_parameters_are_in_millions(parameters, text):
    assert printing.millions(parameters) == text


@pytest.mark.parametrize(("fraction", "text"), [(0.76543, "76.5"), (0.0, "0.0"), (float("nan"), "-"), (None, "-")])
def test_fractions_are_in_percent(fraction, text):
    assert printing.percent(fraction) == text


def test_a_name_cannot_break_the_table():
    lines = printing.format_table([Score("a\nb\x1b[31m", 0.5, 0.5, 0.5, 0.5, None, 0.5)]).splitlines()
    assert len(lines) == 2
    assert "\x1b" not in lines[1]


QUERIES = Embeddings(np.ones((2, 3)), np.array([7, 12]), np.array([1, 6]))
RESULT = RankingResult(
    mAP=5 / 6,
    mINP=2 / 3,
    cmc=np.ones(50),
    invalid_queries=1,
    average_precisions=np.array([5 / 6, np.nan]),
    inverse_negative_penalties=np.array([2 / 3, np.nan]),
    first_ranks=np.array([1, 0]),
    matches=np.array([2, 0]),
)


def test_the_csv_has_a_line_for_each_query_and_is_empty_where_there_is_no_match(tmp_path):
    path = tmp_path / "evaluate" / "per_query.csv"
    printing.write_per_query_csv(path, ["0007_c1.jpg", "0012_c6.jpg"], QUERIES, RESULT)
    assert path.read_text().splitlines() == [
        "query,identity,camera,average_precision,first_match_rank,inverse_negative_penalty,matches",
        "0007_c1.jpg,7,1,0.8333333333333334,1,0.6666666666666666,2",
        "0012_c6.jpg,12,6,,,,0",
    ]
    assert os.listdir(path.parent) == ["per_query.csv"]


def test_names_come_back_from_the_csv_whatever_they_hold(tmp_path):
    names = ['a "b", c\nd.jpg', os.fsdecode(b"caf\xe9.jpg")]
    printing.write_per_query_csv(tmp_path / "q.csv", names, QUERIES, RESULT)
    with open(tmp_path / "q.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert [line["query"] for line in csv.DictReader(file)] == names


def test_names_of_other_queries_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        printing.write_per_query_csv(tmp_path / "q.csv", range(3), QUERIES, RESULT)
    assert os.listdir(tmp_path) == []
