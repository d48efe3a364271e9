import logging
import re

import pytest

from kdas_tf.data import counts, cuhk03, market1501, msmt17
from kdas_tf.data.records import Record, ReIDData

TINY = ReIDData(
    "tiny",
    train=(Record("a", 1, 1), Record("b", 1, 2), Record("c", 2, 2)),
    gallery=(Record("d", 0, 1), Record("e", 3, 1)),
    skipped=(("f", market1501.JUNK), ("g", "damaged: empty"), ("h", "damaged: truncated")),
)


def test_the_table_counts_images_identities_and_cameras():
    lines = counts.describe(TINY).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["tiny", "images", "identities", "cameras"],
        ["train", "3", "2", "2"],
        ["query", "0", "0", "0"],
        ["gallery", "2", "1", "1"],
    ]
    assert lines[4:] == ["The gallery holds 1 distractors.", "Left out: 3 files (2 damaged, 1 junk)."]


@pytest.mark.parametrize("name", ["tiny", "Market-1501-v15.09.15"])
def test_the_columns_of_the_table_are_aligned(name):
    lines = counts.describe(ReIDData(name, TINY.train)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert f"{name} " in lines[0]


def judged(*gallery):
    return ReIDData("x", TINY.train, (Record("q", 5, 1), Record("r", 6, 1)), gallery)


def test_the_verdict_counts_the_queries_that_have_a_match():
    two = judged(Record("g", 5, 2), Record("h", 6, 2))
    assert counts.verdict(two) == "Can be trained on and judged on: 2 queries have a match in the gallery."
    assert counts.verdict(judged(Record("g", 5, 2), Record("h", 6, 1))).endswith("1 have none and are left out.")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (TINY, "there are 0 queries and 2 gallery images"),
        (judged(Record("g", 7, 2)), "no person of the 2 queries is in the gallery"),
        (
            judged(Record("g", 5, 1), Record("h", 6, 1)),
            "in the query's own camera.*market1501.read.cameras_known=False",
        ),
    ],
)
def test_a_data_set_that_cannot_be_judged_on_says_why(data, why):
    assert re.search("CAN BE TRAINED ON, NOT JUDGED ON: .*" + why, counts.verdict(data))


def test_unknown_cameras_are_not_counted_and_notes_follow_the_table():
    data = ReIDData("x", TINY.train, notes=("Mind this.",), cameras_known=False)
    lines = counts.describe(data).splitlines()
    assert lines[1].split() == ["train", "3", "2", "unknown"]
    assert lines[-1] == "Mind this."


def test_reasons_are_counted_by_kind_the_most_frequent_first():
    skipped = [("a", "rare: x"), ("b", "often: x"), ("c", "often: y"), ("d", "also rare")]
    assert counts.count_reasons(skipped) == "2 often, 1 also rare, 1 rare"


def test_what_differs_from_the_published_numbers_is_one_line_with_both(caplog):
    with caplog.at_level(logging.WARNING):
        counts.warn_unless_published(TINY, {"train": (3, 2), "query": (1_000, 5), "gallery": (2, 2)})
    (message,) = caplog.messages
    assert "tiny is not as published" in message
    assert "query has 0 images of 0 people, expected 1,000 of 5" in message
    assert "gallery has 2 images of 1 people, expected 2 of 2" in message
    assert "train" not in message


def test_splits_that_are_empty_are_warned_about(caplog):
    with caplog.at_level(logging.WARNING):
        counts.warn_about_evaluation(ReIDData("tiny", TINY.train), "/data")
    assert "No usable image for query and gallery in /data" in caplog.text


def test_people_in_training_and_test_images_are_warned_about_distractors_are_not(caplog):
    data = ReIDData("tiny", TINY.train, query=(Record("x", 2, 1),), gallery=(Record("y", 0, 1),))
    with caplog.at_level(logging.WARNING):
        counts.warn_about_evaluation(data, "/data")
    assert "1 identities of /data" in caplog.text


def test_the_published_numbers_add_up_to_those_of_the_papers():
    # Market-1501: 32,668 boxes, of which 19,732 in bounding_box_test, 3,819 of them junk. MSMT17: 126,441 boxes.
    market = {split: images for split, (images, _) in market1501.PUBLISHED.items()}
    assert market["train"] + market["gallery"] + 3_819 == 32_668
    assert sum(images for images, _ in msmt17.PUBLISHED.values()) + msmt17.PUBLISHED_VAL == 126_441
    assert msmt17.PUBLISHED["train"][1] + msmt17.PUBLISHED["query"][1] == 4_101
    for published in cuhk03.PUBLISHED.values():
        assert published["train"][1] + published["gallery"][1] == 1_467
