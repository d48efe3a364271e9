import inspect

import keras
import numpy as np
import pytest

from gin import config as gin
from kdas_tf.errors import UserError
from kdas_tf.launcher import bindings, renamed
from kdas_tf.settings import Stabilizers
from kdas_tf.stages import data, evaluate, search, table, teacher
from tests.pairs import all_pairs

GIN = bindings.CONFIGS / "gin"
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


def arguments_of(run):
    return bindings.arguments_of(run.stage)


def settings_of(run):
    return bindings.settings_of(run.stage)


def refusal(files=(SEARCH,), params=(), flags=()) -> str:
    with pytest.raises(UserError) as caught:
        bindings.parse(files, params, dict(flags))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "files",
    all_pairs(STAGE_FILES, SCALES, DATA, TEACHERS, allowed=goes_with),
    ids=lambda files: "-".join(file.removeprefix("gin/").removesuffix(".gin") for file in files if file),
)
def test_every_shipped_stage_file_goes_with_every_pair_of_axes(files, tmp_path):
    flags = {} if files[0] == "gin/summary.gin" else {"data_dir": str(tmp_path)}
    bindings.parse([file for file in files if file], [], {}, flags)
    bindings.check_arguments()
    assert gin.query_parameter("launch.run.stages")


def test_a_flag_for_stages_goes_to_the_first_one_that_reads_it():
    bindings.parse(["gin/train.gin", "gin/data/market1501.gin"], [], {}, {"data_dir": "/photographs"})
    assert arguments_of(data.run)["data_dir"] == "/photographs"
    assert arguments_of(evaluate.run)["data_dir"] is None


def test_a_flag_that_no_stage_reads_is_refused():
    with pytest.raises(UserError, match=r"--embeddings is given, but of the stages \(data, teacher, search\) none"):
        bindings.parse([SEARCH], [], {}, {"embeddings": "e.npz"})


def test_a_macro_that_a_flag_takes_the_place_of_is_no_mistake(tmp_path):
    axis = tmp_path / "mine.gin"
    axis.write_text("DATA_DIR = %gin.REQUIRED\n")
    bindings.parse([SEARCH, str(axis)], [], {}, {"data_dir": "/photographs"})
    assert arguments_of(data.run)["data_dir"] == "/photographs"


def test_later_files_win_and_parameters_win_over_files_and_flags_over_parameters():
    files = [SEARCH, "gin/scale/paper.gin", "gin/scale/tiny.gin", "gin/data/market1501.gin"]
    params = ["SEARCH_EPOCHS = 7", "data.run.data_dir = '/parameter'"]
    bindings.parse(files, params, {"data.run.data_dir": "/flag"})
    arguments = arguments_of(search.run)
    network = arguments["network"]
    assert (network.cells, network.image_size, arguments["fitting"].epochs) == (2, (32, 16), 7)
    assert arguments_of(data.run)["data_dir"] == "/flag"


def test_a_data_set_without_its_folder_is_refused_naming_the_flag():
    message = refusal([SEARCH, "gin/data/market1501.gin"])
    assert message.startswith("A value is required for DATA_DIR")
    assert "--data_dir=FOLDER" in message


@pytest.mark.parametrize("param", ["SEARCH_EPOCHS = true", "STEM = inet4", "BACKBONE_WEIGHTS = /a/weights.h5"])
def test_text_without_quotes_is_refused_with_a_hint(param):
    message = refusal([SEARCH], [param])
    assert "text in quotes ('...'), True, False and None with a capital letter" in message
    assert "ast." not in message and "object at" not in message


def test_a_binding_that_one_of_a_nearer_scope_hides_from_all_stages_is_refused_naming_those():
    message = refusal(["gin/train.gin"], ["settings.Sampling.identities_per_batch = 4"])
    assert message.startswith("Nothing reads settings.Sampling.identities_per_batch: ")
    for scope in ("search", "teacher", "train"):
        assert f"{scope}/settings.Sampling.identities_per_batch" in message
    gin.clear_config()
    bindings.parse(["gin/train.gin"], ["settings.Fitting.label_smoothing = 0.1", "settings.CellSettings.cells = 5"], {})
    assert arguments_of(search.run)["fitting"].label_smoothing == 0.1


def test_files_that_include_each_other_are_refused_at_once(tmp_path):
    (tmp_path / "a.gin").write_text(f"include '{tmp_path / 'b.gin'}'\n")
    (tmp_path / "b.gin").write_text(f"include '{tmp_path / '.' / 'a.gin'}'\n")
    message = refusal([str(tmp_path / "a.gin")])
    assert message.endswith(
        f"a.gin includes itself, by way of {tmp_path}/a.gin and {tmp_path}/b.gin. Take that include out."
    )


EPOCHS = "search/settings.Fitting.epochs"


@pytest.mark.parametrize(
    "param, expected",
    [
        ("search/settings.Fitting.epoch = 5", "'settings.Fitting' doesn't have a parameter named 'epoch'"),
        ("serch.run.rematerialize = True", "'serch' was not provided by an import"),
        ("search.rum.rematerialize = True", "rum"),
        (f"{EPOCHS} = %SEARCH_EPOCH", "settings.Fitting.epochs reads the macro SEARCH_EPOCH, which nothing sets."),
        ("CELLS = %CELS", "reads the macro CELS, which nothing sets."),
        ("other/search.run.rematerialize = True", "Nothing reads the binding other/search.run.rematerialize "),
        ("student/settings.Fitting.epochs = 5", "Nothing reads the binding student/settings.Fitting.epochs "),
        (EPOCHS, f"--gin_param={EPOCHS}"),
        ("search.run.job = 'x'", "search.run.job is set by the launcher"),
    ],
)
def test_a_binding_that_cannot_work_is_refused_in_one_line(param, expected):
    assert expected in refusal(params=[param])


@pytest.mark.parametrize(
    "param, expected",
    [
        ("search.run.epochs = 5", "search.run.epochs is now search/settings.Fitting.epochs"),
        ("teacher.run.weights = None", "teacher.run.weights is now settings.Backbone.weights"),
        ("optimizers.momentum_sgd.weight_decay = 0.1", "optimizers.momentum_sgd is now optimizers.SGD"),
        ("schedules.linear_temperature.end = 1", "schedules.linear_temperature is now schedules.LinearTemperature"),
    ],
)
def test_a_name_that_a_binding_had_before_is_refused_with_the_new_name(param, expected):
    assert expected in refusal(params=[param])


def test_every_new_name_exists(tmp_path):
    known = {}
    for file in ("table1", "pretrain", "evaluate", "export", "summary"):
        gin.clear_config()
        flags = {} if file in ("table1", "summary") else {"data_dir": str(tmp_path)}
        bindings.parse([f"gin/{file}.gin"], [], {}, flags)
        known |= {".".join(name.split(".")[-2:]): each.wrapped for name, each in gin._REGISTRY.items()}
    for new in set(renamed.NEW_NAMES.values()):
        if not new.startswith(("--", "kdas_tf.")):
            module, owner, *field = new.rpartition("/")[2].split(".")
            assert {*field} <= {*inspect.signature(known[f"{module}.{owner}"]).parameters}, new


def test_a_value_that_is_required_is_named_with_its_scope(tmp_path):
    (tmp_path / "own.gin").write_text(
        "from __gin__ import dynamic_registration\nfrom kdas_tf import launch\nfrom kdas_tf import settings\n"
        "from kdas_tf.stages import summary\nlaunch.run.stages = [@summary.run]\n"
        "summary.run.network = @mine/settings.CellSettings()\nsettings.CellSettings.image_size = (64, 32)\n"
    )
    bindings.parse([str(tmp_path / "own.gin")], [], {})
    with pytest.raises(UserError, match=r"A value is required for mine/settings\.CellSettings\.channels\."):
        bindings.check_arguments()


def test_the_values_of_a_stage_that_another_stage_is_given_are_checked_too():
    bindings.parse(["gin/table1.gin"], ["TRAIN_EPOCHS = 0"], {})
    with pytest.raises(UserError, match=r"train: Expected settings\.Fitting\.epochs to be at least 1"):
        bindings.check_arguments()


@pytest.mark.parametrize(
    "text, expected",
    [
        ("CELS = 4\n", "Nothing reads the macro CELS."),
        (
            "from __gin__ import dynamic_registration\nfrom kdas_tf.losses import triplet\n"
            "triplet.batch_hard_triplet_loss.margin = 1.0\n",
            "Nothing reads the binding triplet.batch_hard_triplet_loss.margin ",
        ),
    ],
)
def test_a_file_that_cannot_work_is_refused_in_one_line(own_file, text, expected):
    assert expected in refusal(own_file(text))


def test_without_stages_another_file_is_asked_for():
    for flags in ({}, {"launch.run.seed": 3}):
        gin.clear_config()
        assert "--gin_file=gin/search.gin" in refusal(["gin/scale/tiny.gin"], flags=flags)
        assert refusal(["gin/data/market1501.gin"], flags=flags).startswith("No stages")


@pytest.mark.parametrize(
    "param, expected",
    [
        (f"{EPOCHS} = 'ten'", f"Expected {EPOCHS} to be of type int, got 'ten'."),
        ("search/settings.Fitting.learning_rate = '0.1'", "search/settings.Fitting.learning_rate to be of type float"),
        ("teacher.run.image_size = 64", "teacher.run.image_size to be of type tuple[int, int], got 64."),
        ("teacher.run.image_size = (64, 32, 3)", "teacher.run.image_size to be of type tuple[int, int]"),
        ("transforms.Augmentation.padding_fill = 'grey'", "transforms.Augmentation.padding_fill to be of type"),
        ("BACKBONE_ARGUMENTS = 0.35", "settings.Backbone.arguments to be of type"),
        (f"{EPOCHS} = @schedules.LinearTemperature", f"{EPOCHS} to be of type int"),
    ],
)
def test_a_value_of_another_type_is_refused_in_one_line(param, expected):
    assert expected in refusal(params=[param])


@pytest.mark.parametrize(
    "param",
    [
        "search/settings.Fitting.learning_rate = 1",
        "REDUCTIONS = [0, 2]",
        "REDUCTIONS = ()",
        "TEACHER_IMAGE_SIZE = None",
        "BACKBONE_ARGUMENTS = {'alpha': 0.35}",
        "search/optimizers.SGD.gradient_norm = 5.0",
        "alpha/optimizers.Adam.beta_1 = 0.5",
        "synthetic.RenderedPeople.seed = 3",
        "transforms.Augmentation.padding_fill = 'mean'",
        f"LENGTH = 9\n{EPOCHS} = %LENGTH",
    ],
)
def test_a_value_that_an_annotation_allows_is_taken(param):
    bindings.parse([SEARCH], [param], {})
    bindings.check_arguments()


def test_what_is_in_a_dictionary_has_a_type_too():
    table1, name = ["gin/table1.gin"], "table.run.search_temperatures"
    scopes = {"a": "search/labels/", "b": "search/constant/", "dynamic": "search/"}
    values = ", ".join(f"{key!r}: @{scope}schedules.LinearTemperature()" for key, scope in scopes.items())
    bindings.parse(table1, [f"{name} = {{{values}}}"], {})
    gin.clear_config()
    assert f"Expected {name} to be of type" in refusal(table1, [f"{name} = {{{values}, 'c': 2.0}}"])


def test_macros_for_stages_that_are_not_run_are_fine_in_a_scale_and_refused_when_the_user_sets_them(own_file):
    only_data = own_file(
        "from __gin__ import dynamic_registration\nfrom kdas_tf import launch\nfrom kdas_tf.stages import data\n"
        "launch.run.stages = [@data.run]\n"
    )[1:]
    bindings.parse([*only_data, "gin/scale/paper.gin"], [], {})
    gin.clear_config()
    assert refusal([*only_data, "gin/scale/paper.gin"], ["CELLS = 3"]).startswith("Nothing reads the macro CELLS.")


def test_settings_are_all_resolved_values_of_a_stage_and_of_the_values_that_it_is_given():
    params = ["REDUCTIONS = (0, 2)", "alpha/optimizers.Adam.beta_1 = 0.5", "TEMPERATURE_END_EPOCH = 7"]
    bindings.parse([SEARCH], params, {"launch.run.seed": 3})
    settings = settings_of(search.run)
    expected = {
        "network": "@settings.CellSettings",
        "network.reductions": "0, 2",
        "network.channels": "8",
        "student.channels": "16",
        "alpha_optimizer": "@optimizers.Adam",
        "alpha_optimizer.beta_1": "0.5",
        "alpha_optimizer.beta_2": "0.999",  # a default
        "fitting.optimizer.momentum": "0.9",
        "temperature.end_epoch": "7",
        "stabilizers.max_skip": "None",
        "rematerialize": "False",
    }
    assert {name: settings[name] for name in expected} == expected
    assert not any(name.startswith("job") for name in settings)
    assert arguments_of(search.run)["network"].reductions == (0, 2)


def test_a_scale_wins_wherever_it_stands_and_a_file_of_ones_own_after_it_wins_over_it(tmp_path):
    (tmp_path / "own.gin").write_text("CELLS = 5\nREDUCTIONS = (1,)\n")
    paper, own = "gin/scale/paper.gin", str(tmp_path / "own.gin")
    (tmp_path / "stages.gin").write_text("include 'gin/search.gin'\n")
    for files, cells in (
        ([paper, SEARCH], 8),
        ([SEARCH, paper], 8),
        ([paper, str(tmp_path / "stages.gin")], 8),
        ([paper, own, SEARCH], 5),
        ([SEARCH, own, paper], 8),
    ):
        gin.clear_config()
        bindings.parse(files, [], {})
        assert arguments_of(search.run)["network"].cells == cells, files


def test_settings_do_not_change_where_a_default_is_written_down():
    bindings.parse([SEARCH], [], {})
    before = settings_of(search.run)
    params = ["search/settings.Stabilizers.max_skip = None", "search/settings.Fitting.synchronized_batch_norm = True"]
    gin.clear_config()
    bindings.parse([SEARCH], [*params, "search/optimizers.SGD.momentum = 0.9", "search.run.rematerialize = False"], {})
    assert settings_of(search.run) == before


def test_settings_show_macros_inside_of_lists_and_dictionaries():
    bindings.parse([SEARCH], ["HEIGHT = 48\nIMAGE_SIZE = (%HEIGHT, 16)", "A = 0.5\nBACKBONE_ARGUMENTS = {'a': %A}"], {})
    settings = settings_of(search.run)
    assert [settings[f"network.image_size.{i}"] for i in (0, 1)] == ["48", "16"]
    assert settings_of(teacher.run)["backbone.arguments.a"] == "0.5"


def test_settings_hold_those_of_a_stage_that_another_stage_is_given():
    params = ["search/constant/schedules.LinearTemperature.end = 1.5", "TRAIN_TEMPERATURE_END_EPOCH = 5"]
    bindings.parse(["gin/table1.gin"], params, {})
    settings = settings_of(table.run)
    assert settings["search_temperatures.baseline.start"] == "0"
    assert settings["search_temperatures.constant.end"] == "1.5"
    assert settings["train.temperature.end_epoch"] == "5"
    assert settings["search.fitting.epochs"] == "6"


@pytest.fixture
def paper():
    """Arguments of the search at the paper's scale, whether bound or by default."""
    bindings.parse([SEARCH, "gin/scale/paper.gin"], [], {})
    return arguments_of(search.run)


def test_the_paper_scale_trains_with_the_numbers_of_section_4_2(paper):
    sampling, fitting = paper["sampling"], paper["fitting"]
    assert (fitting.epochs, sampling.identities_per_batch, sampling.images_per_identity) == (200, 8, 2)
    sgd = fitting.optimizer(learning_rate=fitting.learning_rate)
    assert isinstance(sgd, keras.optimizers.SGD)
    assert (sgd.momentum, sgd.weight_decay, fitting.final_learning_rate) == (0.9, 5e-4, 0.001)
    np.testing.assert_allclose(sgd.learning_rate, 0.1)
    adam = paper["alpha_optimizer"](learning_rate=paper["alpha_learning_rate"])
    assert isinstance(adam, keras.optimizers.Adam)
    assert adam.weight_decay == 5e-4
    np.testing.assert_allclose(adam.learning_rate, 0.02)


def test_the_paper_scale_has_the_objective_and_temperature_of_section_4_2(paper):
    objective = paper["objective"]
    assert (objective.margin, objective.distillation_weight, objective.triplet_weight) == (0.3, 1, 1)
    assert [paper["temperature"](epoch) for epoch in (0, 95, 190, 199)] == [2, 1, 0, 0]


def test_the_paper_scale_has_no_stabilizer_flips_and_crops_and_does_nothing_else(paper):
    assert paper["stabilizers"] == Stabilizers()
    assert (Stabilizers().alpha_warmup_epochs, Stabilizers().beta_weight, Stabilizers().max_skip) == (0, 0.0, None)
    assert (Stabilizers().partial_channels, Stabilizers().parameter_budget) == (1, None)
    augmentation = paper["sampling"].augmentation
    assert augmentation.flip and augmentation.padding > 0 and augmentation.erasing_probability == 0
