import inspect
import itertools

import keras
import numpy as np
import pytest

from gin import config as gin
from kdas_tf.errors import UserError
from kdas_tf.launcher import bindings
from kdas_tf.stages import data, evaluate, search, table, teacher

GIN = bindings.REPOSITORY / "gin"
STAGE_FILES = sorted(f"gin/{path.name}" for path in GIN.glob("*.gin"))
WITHOUT_PEOPLE = ("gin/summary.gin", "gin/pretrain.gin")  # read no data set of people
SCALES = sorted(f"gin/scale/{path.name}" for path in (GIN / "scale").glob("*.gin"))
DATA = ["", *sorted(f"gin/data/{path.name}" for path in (GIN / "data").glob("*.gin"))]
TEACHERS = ["", *sorted(f"gin/teacher/{path.name}" for path in (GIN / "teacher").glob("*.gin"))]
SEARCH = "gin/search.gin"


@pytest.fixture(autouse=True)
def no_bindings():
    """gin keeps the bindings and imports of the whole process."""
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture
def own_file(tmp_path):
    """Writes a file of the user's, to be read after gin/search.gin."""

    def write(text: str) -> list[str]:
        (tmp_path / "own.gin").write_text(text, encoding="utf-8")
        return [SEARCH, str(tmp_path / "own.gin")]

    return write


def goes_with(stage_file, scale, data_file, teacher_file) -> bool:
    return not (stage_file in WITHOUT_PEOPLE and data_file)


def refusal(files=(SEARCH,), params=(), flags=()) -> str:
    with pytest.raises(UserError) as caught:
        bindings.parse(files, params, dict(flags))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "files",
    [files for files in itertools.product(STAGE_FILES, SCALES, DATA, TEACHERS) if goes_with(*files)],
    ids=lambda files: "-".join(file.removeprefix("gin/").removesuffix(".gin") for file in files if file),
)
def test_every_shipped_stage_file_goes_with_every_axis(files, tmp_path):
    flags = {} if files[0] == "gin/summary.gin" else {"data_dir": str(tmp_path)}
    bindings.parse([file for file in files if file], [], {}, flags)
    assert gin.query_parameter("launch.run.stages")


def test_a_flag_for_stages_goes_to_the_first_one_that_reads_it():
    bindings.parse(["gin/train.gin", "gin/data/market1501.gin"], [], {}, {"data_dir": "/photographs"})
    assert bindings.bindings_of(data.run)["data_dir"] == "/photographs"
    assert bindings.bindings_of(evaluate.run)["data_dir"] is None


def test_a_flag_that_no_stage_reads_is_refused():
    with pytest.raises(UserError, match=r"--embeddings is given, but of the stages \(data, teacher, search\) none"):
        bindings.parse([SEARCH], [], {}, {"embeddings": "e.npz"})


def test_a_macro_that_a_flag_takes_the_place_of_is_no_mistake(tmp_path):
    axis = tmp_path / "mine.gin"
    axis.write_text("DATA_DIR = %gin.REQUIRED\n")
    bindings.parse([SEARCH, str(axis)], [], {}, {"data_dir": "/photographs"})
    assert bindings.bindings_of(data.run)["data_dir"] == "/photographs"


def test_files_are_found_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    bindings.parse([SEARCH], [], {})
    assert bindings.bindings_of(search.run)["cells"] == 4  # gin/scale/laptop.gin


def test_later_files_win_and_parameters_win_over_files_and_flags_over_parameters():
    files = [SEARCH, "gin/scale/paper.gin", "gin/scale/tiny.gin", "gin/data/market1501.gin"]
    params = ["SEARCH_EPOCHS = 7", "data.run.data_dir = '/parameter'"]
    bindings.parse(files, params, {"data.run.data_dir": "/flag"})
    arguments = bindings.bindings_of(search.run)
    assert (arguments["cells"], arguments["image_size"], arguments["epochs"]) == (2, (32, 16), 7)
    assert bindings.bindings_of(data.run)["data_dir"] == "/flag"


def test_a_data_set_without_its_folder_is_refused_naming_the_flag():
    message = refusal([SEARCH, "gin/data/market1501.gin"])
    assert message.startswith("A value is required for DATA_DIR")
    assert "--data_dir=FOLDER" in message


@pytest.mark.parametrize(
    "param, expected",
    [
        ("search.run.epoch = 5", "'search.run' doesn't have a parameter named 'epoch'"),
        ("serch.run.epochs = 5", "'serch' was not provided by an import"),
        ("search.rum.epochs = 5", "rum"),
        ("SEARCH_EPOCH = 5", "Nothing reads the macro SEARCH_EPOCH."),
        ("search.run.epochs = %SEARCH_EPOCH", "search.run.epochs reads the macro SEARCH_EPOCH, which nothing sets."),
        ("CELLS = %CELS", "reads the macro CELS, which nothing sets."),
        ("other/search.run.epochs = 5", "Nothing reads the binding other/search.run.epochs "),
        ("search.run.epochs = [1,", "--gin_param=search.run.epochs = [1,"),
        ("search.run.epochs = 5 5", "--gin_param=search.run.epochs = 5 5"),
        ("search.run.epochs", "--gin_param=search.run.epochs"),
        ("search.run.epochs = five", "five"),
        ("search.run.seed = 5", "Give --seed instead."),
        ("search.run.workdir = 'x'", "Give --workdir instead."),
        ("teacher.run.strategy = 'x'", "teacher.run.strategy is set by the launcher"),
    ],
)
def test_a_binding_that_cannot_work_is_refused_in_one_line(param, expected):
    assert expected in refusal(params=[param])


@pytest.mark.parametrize(
    "text, expected",
    [
        ("serch.run.epochs = 5\n", "serch.run"),
        ("CELS = 4\n", "Nothing reads the macro CELS."),
        ("include 'nowhere.gin'\n", "nowhere.gin"),
        ("from __gin__ import dynamic_registration\nimport no_such_module\n", "no_such_module"),
        (
            "from __gin__ import dynamic_registration\nfrom kdas_tf.losses import triplet\n"
            "triplet.batch_hard_triplet_loss.margin = 1.0\n",
            "Nothing reads the binding triplet.batch_hard_triplet_loss.margin ",
        ),
    ],
)
def test_a_file_that_cannot_work_is_refused_in_one_line(own_file, text, expected):
    assert expected in refusal(own_file(text))


def test_a_file_that_is_missing_or_not_text_is_refused_in_one_line(tmp_path):
    (tmp_path / "binary.gin").write_bytes(b"\xff\xfe\x00")
    assert "Unable to open file: nowhere.gin" in refusal(["nowhere.gin"])
    assert "binary.gin" in refusal([str(tmp_path / "binary.gin")])


def test_without_stages_another_file_is_asked_for():
    for flags in ({}, {"launch.run.seed": 3}):
        gin.clear_config()
        assert "--gin_file=gin/search.gin" in refusal(["gin/scale/tiny.gin"], flags=flags)
        assert refusal(["gin/data/market1501.gin"], flags=flags).startswith("No stages")


@pytest.mark.parametrize(
    "param, expected",
    [
        ("search.run.epochs = 'ten'", "Expected search.run.epochs to be of type int, got 'ten'."),
        ("CELLS = 4.5", "Expected search.run.cells to be of type int, got 4.5."),
        ("search.run.epochs = True", "Expected search.run.epochs to be of type int, got True."),
        ("search.run.epochs = None", "Expected search.run.epochs to be of type int, got None."),
        ("search.run.learning_rate = '0.1'", "search.run.learning_rate to be of type float"),
        ("teacher.run.image_size = 64", "teacher.run.image_size to be of type tuple[int, int], got 64."),
        ("teacher.run.image_size = (64, 32, 3)", "teacher.run.image_size to be of type tuple[int, int]"),
        ("search.run.reductions = 1", "search.run.reductions to be of type collections.abc.Sequence[int], got 1."),
        ("search.run.temperature = 2.0", "search.run.temperature to be of type"),
        ("transforms.Augmentation.padding_fill = 'grey'", "transforms.Augmentation.padding_fill to be of type"),
        ("launch.run.stages = 'search'", "launch.run.stages to be of type"),
        ("teacher.run.backbone_arguments = 0.35", "teacher.run.backbone_arguments to be of type"),
        ("search.run.epochs = @schedules.linear_temperature", "search.run.epochs to be of type int"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_line(param, expected):
    assert expected in refusal(params=[param])


@pytest.mark.parametrize(
    "param",
    [
        "search.run.learning_rate = 1",
        "search.run.reductions = [0, 2]",
        "search.run.reductions = ()",
        "teacher.run.teacher_image_size = None",
        "teacher.run.backbone_arguments = {'alpha': 0.35}",
        "optimizers.momentum_sgd.gradient_norm = 5.0",
        "alpha/optimizers.adam.beta_1 = 0.5",
        "synthetic.write_dataset.seed = 3",
        "transforms.Augmentation.padding_fill = 'mean'",
        "LENGTH = 9\nsearch.run.epochs = %LENGTH",
    ],
)
def test_a_value_that_an_annotation_allows_is_taken(param):
    bindings.parse([SEARCH], [param], {})


def test_what_is_in_a_dictionary_has_a_type_too():
    table1, name = ["gin/table1.gin"], "table.run.search_temperatures"
    functions = {"a": "@labels/schedules.linear_temperature", "b": "@constant/schedules.linear_temperature"}
    text = ", ".join(f"{key!r}: {function}" for key, function in functions.items())
    bindings.parse(table1, [f"{name} = {{{text}, 'dynamic': @schedules.linear_temperature}}"], {})
    gin.clear_config()
    assert f"Expected {name} to be of type" in refusal(table1, [f"{name} = {{{text}, 'dynamic': 2.0}}"])


def test_macros_for_stages_that_are_not_run_are_fine_in_a_scale_and_refused_when_the_user_sets_them(own_file):
    only_data = own_file(
        "from __gin__ import dynamic_registration\nfrom kdas_tf import launch\nfrom kdas_tf.stages import data\n"
        "launch.run.stages = [@data.run]\n"
    )[1:]
    bindings.parse([*only_data, "gin/scale/paper.gin"], [], {})
    gin.clear_config()
    assert refusal([*only_data, "gin/scale/paper.gin"], ["CELLS = 3"]).startswith("Nothing reads the macro CELLS.")


def test_settings_are_what_a_stage_and_the_functions_that_it_is_given_are_bound_to():
    bindings.parse(
        [SEARCH],
        ["REDUCTIONS = (0, 2)", "alpha/optimizers.adam.beta_1 = 0.5", "TEMPERATURE_END_EPOCH = 7"],
        {"launch.run.seed": 3},
    )
    settings = bindings.settings_of(search.run)
    assert settings["search.run.reductions"] == "(0, 2)"
    assert settings["search.run.alpha_optimizer"] == "@alpha/optimizers.adam"
    assert settings["alpha/optimizers.adam.beta_1"] == "0.5"
    assert settings["schedules.linear_temperature.end_epoch"] == "7"
    assert {name.split(".")[0] for name in settings} == {"search", "transforms", "schedules", "alpha/optimizers"}
    assert bindings.bindings_of(search.run)["reductions"] == (0, 2)
    assert "alpha/optimizers.adam.beta_1" not in bindings.settings_of(teacher.run)


def test_settings_show_macros_inside_of_lists_and_dictionaries():
    params = ["HEIGHT = 48\nsearch.run.image_size = (%HEIGHT, 16)", "A = 0.5\nBACKBONE_ARGUMENTS = {'alpha': %A}"]
    bindings.parse([SEARCH], params, {})
    assert bindings.settings_of(search.run)["search.run.image_size"] == "(48, 16)"
    assert bindings.settings_of(teacher.run)["teacher.run.backbone_arguments"] == "{'alpha': 0.5}"


def test_settings_hold_what_the_functions_in_a_dictionary_are_bound_to():
    params = ["constant/schedules.linear_temperature.end = 1.5", "TRAIN_TEMPERATURE_END_EPOCH = 5"]
    bindings.parse(["gin/table1.gin"], params, {})
    settings = bindings.settings_of(table.run)
    assert "'baseline': @labels/schedules.linear_temperature" in settings["table.run.search_temperatures"]
    assert settings["labels/schedules.linear_temperature.start"] == "0.0"
    assert settings["constant/schedules.linear_temperature.end"] == "1.5"
    # Of a function that is only in a dictionary of a stage that another stage is given.
    assert settings["student/schedules.linear_temperature.end_epoch"] == "5"


@pytest.fixture
def paper():
    """Arguments of the search at the paper's scale, whether bound or by default."""
    bindings.parse([SEARCH, "gin/scale/paper.gin"], [], {})
    defaults = {name: parameter.default for name, parameter in inspect.signature(search.run).parameters.items()}
    return {**defaults, **bindings.bindings_of(search.run)}


def test_the_paper_scale_searches_the_network_of_section_4_2(paper):
    expected = {"channels": 32, "cells": 8, "student_channels": 64, "image_size": (384, 128)}
    assert {name: paper[name] for name in expected} == expected
    assert [position + 1 for position in paper["reductions"]] == [3, 5, 7]  # "in the 3rd, 5th, and 7th place"


def test_the_paper_scale_trains_with_the_numbers_of_section_4_2(paper):
    assert (paper["epochs"], paper["identities_per_batch"], paper["images_per_identity"]) == (200, 8, 2)
    sgd = paper["weight_optimizer"](learning_rate=paper["learning_rate"])
    assert isinstance(sgd, keras.optimizers.SGD)
    assert (sgd.momentum, sgd.weight_decay, paper["final_learning_rate"]) == (0.9, 5e-4, 0.001)
    np.testing.assert_allclose(sgd.learning_rate, 0.1)
    adam = paper["alpha_optimizer"](learning_rate=paper["alpha_learning_rate"])
    assert isinstance(adam, keras.optimizers.Adam)
    assert adam.weight_decay == 5e-4
    np.testing.assert_allclose(adam.learning_rate, 0.02)


def test_the_paper_scale_has_the_objective_and_temperature_of_section_4_2(paper):
    objective = paper["objective"]()
    assert (objective.margin, objective.distillation_weight, objective.triplet_weight) == (0.3, 1, 1)
    assert [paper["temperature"](epoch) for epoch in (0, 95, 190, 199)] == [2, 1, 0, 0]


def test_the_paper_scale_flips_and_crops_and_does_nothing_else(paper):
    augmentation = paper["augmentation"]()
    assert augmentation.flip and augmentation.padding > 0 and augmentation.erasing_probability == 0


def test_the_paper_scale_has_resnet50_with_imagenet_weights_as_teacher(paper):
    arguments = bindings.bindings_of(teacher.run)
    expected = {"backbone": "ResNet50", "weights": "imagenet", "image_size": (384, 128), "teacher_image_size": None}
    assert {name: arguments[name] for name in expected} == expected
