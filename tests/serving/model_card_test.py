import re

import pytest

from kdas_tf import genotype
from kdas_tf.models.cells import genotype_config
from kdas_tf.serving import model_card
from kdas_tf.serving.model_card import Facts

METRICS = {
    "mAP": 0.2345, "mINP": 0.1, "rank1": 0.5, "rank5": 0.75, "rank10": 1.0,
    "data": "Market-1501", "queries": 3368, "gallery": 15913, "conventions": {"average_precision": "step"},
}  # fmt: skip
THRESHOLDS = {
    "distance": "cosine", "pairs_of_one_person": 1000, "pairs_of_different_people": 2_000_000,
    "points": [{"asked": 0.001, "threshold": 0.43217, "fpr": 0.0009, "tpr": 0.4567}],
}  # fmt: skip


@pytest.fixture
def facts():
    return Facts(
        name="doors",
        version=3,
        kind="Student",
        config={"genotype": genotype_config(genotype.AUTO_REID), "channels": 64},
        parameters=11_460_000,
        image_size=(384, 128),
        embedding_size=2048,
        data=("Market-1501", "train  12,936"),
        training={"epochs": 200},
        settings={"train.run.learning_rate": "0.5"},
        metrics=METRICS,
        thresholds=THRESHOLDS,
        not_judged="Nobody has judged it.",
        made={"weights, SHA-256": "abc", "odd|value": "a|b"},
    )


def test_a_card_says_what_the_network_is_and_how_good(facts):
    text = model_card.render(facts)
    assert text.startswith("# doors, version 3\n")
    for said in ("11.5 M", "384x128", "`[batch, 2048]`", "| mAP | 23.4 |", "| rank1 | 50.0 |", "3,368 queries"):
        assert said in text, said
    assert "| 0.001 | 0.4322 | 0.0009 | 45.7 |" in text
    assert "cosine distance is at most" in text
    assert "| weights, SHA-256 | abc |" in text
    assert r"| odd\|value | a\|b |" in text
    assert '"train.run.learning_rate": "0.5"' in text
    assert "This recognises people" in text


def test_a_card_of_a_network_that_was_not_judged_says_so(facts):
    text = model_card.render(facts._replace(metrics=None, thresholds=None, data=None, training={}, settings={}))
    assert "Nobody has judged it." in text
    assert "Do not guess one" in text
    assert "Not known" in text
    assert "mAP |" not in text


def test_the_picture_is_beside_the_card_of_a_network_with_cells(facts, tmp_path):
    model_card.write(tmp_path, facts)
    text = (tmp_path / model_card.FILE).read_text()
    (picture,) = re.findall(r"!\[[^]]*\]\((.*?)\)", text)
    assert ((tmp_path / model_card.FILE).parent / picture).read_bytes().startswith(b"\x89PNG")
    model_card.write(tmp_path / "teacher", facts._replace(kind="Teacher", config={"backbone": "MobileNetV2"}))
    assert "![" not in (tmp_path / "teacher" / model_card.FILE).read_text()
    assert not (tmp_path / "teacher" / model_card.PICTURE).exists()
