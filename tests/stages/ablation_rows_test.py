import pytest

from kdas_tf import genotype
from kdas_tf.errors import UserError
from kdas_tf.models import baselines
from kdas_tf.stages import ablation_rows
from kdas_tf.stages.ablation_rows import CONSTANT, LABELS, SEARCH_TEMPERATURES, TRAIN_TEMPERATURES, make_rows

KNOWN = make_rows(SEARCH_TEMPERATURES, TRAIN_TEMPERATURES, baselines.NAMES, "dynamic")


def test_the_first_table_has_the_papers_rows_and_a_control_and_the_second_three_trainings():
    kinds: dict[str, list[str]] = {}
    for row in KNOWN.values():
        kinds.setdefault(row.kind, []).append(row.name)
    assert kinds == {
        "teacher": ["teacher"],
        "search": ["baseline", "constant", "dynamic"],
        "hand-made": ["ResNet18", "ResNet34", "ResNet50", "DARTS_V2", "GDAS_V1", "AUTO_REID"],
        "random": ["random"],
        "training": ["train_baseline", "train_constant", "train_dynamic"],
    }
    assert len({row.title for row in KNOWN.values()}) == len(KNOWN)


def test_the_temperatures_are_those_of_section_4_3():
    assert [LABELS(epoch) for epoch in (0, 95, 199)] == [0, 0, 0]
    assert [CONSTANT(epoch) for epoch in (0, 95, 199)] == [2, 2, 2]
    assert [KNOWN["dynamic"].temperature(epoch) for epoch in (0, 95, 190, 199)] == [2, 1, 0, 0]
    assert KNOWN["train_dynamic"].temperature is None  # the training's own


@pytest.mark.parametrize(
    ("name", "runs", "mean_ap", "parameters"),
    [
        # (71.7 + 71.5 + 72.3 + 72.1) / 4 and so on, from Table 1.
        ("baseline", 4, 71.9, 11.1e6),
        ("constant", 4, 75.175, 14.475e6),
        ("dynamic", 4, 76.4, 15.45e6),
        ("ResNet50", 1, 68.5, 25.1e6),
        ("teacher", 1, 83.2, None),
        ("random", 0, None, None),
    ],
)
def test_the_published_runs_are_those_of_the_paper(name, runs, mean_ap, parameters):
    found = ablation_rows.published(name)
    assert len(found) == runs
    if runs:
        assert sum(run["mAP"] for run in found) / runs == pytest.approx(mean_ap)
    if parameters:
        assert sum(run["parameters"] for run in found) / runs == pytest.approx(parameters)


def test_a_genotype_from_a_file_is_a_row_with_the_name_of_the_file(tmp_path):
    genotype.save(tmp_path / "mine.json", genotype.DARTS_V2)
    known = make_rows(SEARCH_TEMPERATURES, {}, [str(tmp_path / "mine.json"), "teacher:MobileNetV2"], "dynamic")
    assert known["mine"].architecture == str(tmp_path / "mine.json")
    assert known["teacher_MobileNetV2"].architecture == "teacher:MobileNetV2"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((SEARCH_TEMPERATURES, {"dynamic": CONSTANT}, [], "dynamic"), "got 'train_dynamic' twice"),
        ((SEARCH_TEMPERATURES, {}, ["ResNet18", "ResNet18"], "dynamic"), "got 'ResNet18' twice"),
        (({"../a": LABELS}, {}, [], "../a"), "Expected the name of a row to be letters"),
    ],
)
def test_rows_that_cannot_be_are_refused(arguments, expected):
    with pytest.raises(UserError, match=expected):
        make_rows(*arguments)
