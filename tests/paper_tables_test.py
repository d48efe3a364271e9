"""The runs behind the paper's tables: their settings, their plans, and on small data sets in the official formats."""

import contextlib
import io
import json

import pytest

from gin import config as gin
from kdas_tf import genotype, launch
from kdas_tf.launcher import bindings
from kdas_tf.models.costs import derived_parameters
from kdas_tf.settings import CellSettings
from kdas_tf.stages import data, evaluate, search, teacher, train
from tests.data import miniatures

COMMON = ["--gin_file=gin/scale/tiny.gin", "--num_devices=1"]
SMALL = ["SEARCH_EPOCHS=1", "TRAIN_EPOCHS=1", "TEACHER_IDENTITIES_PER_BATCH=2", "rerank.Reranking.k1=5"]
SMALL += [f"{stage}/settings.Sampling.identities_per_batch=2" for stage in ("search", "train")]

pytestmark = pytest.mark.usefixtures("as_before")


class CtrlC(io.StringIO):
    """Output at which somebody presses Ctrl-C as soon as a text is printed."""

    def __init__(self, text):
        super().__init__()
        self.text = text

    def write(self, words):
        if self.text in words:
            raise KeyboardInterrupt
        return super().write(words)


@pytest.fixture(
    params=[
        ("table2", 8, lambda folder: miniatures.market1501(folder, train=8, images=4)),
        ("table3 cuhk03_labeled", 4, miniatures.cuhk03),
        ("table3 cuhk03_detected", 4, miniatures.cuhk03),
        ("table4", 8, lambda folder: miniatures.msmt17(folder, train=8, images=4)),
    ],
    ids=lambda param: param[0],
)
def table(request, tmp_path):
    """Flags of a table on a small data set, and the number of its training identities."""
    files, identities, write = request.param
    write(tmp_path / "data")
    paths = [f"gin/{files.split()[0]}.gin", *(f"gin/data/{axis}.gin" for axis in files.split()[1:])]
    flags = [f"--gin_file={path}" for path in paths]
    return [*flags, f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}"], identities


def arguments_of(module):
    return bindings.arguments_of(module.run.stage)


@pytest.mark.parametrize("table", ["table2", "table3", "table4"])
def test_a_table_has_every_number_of_section_4_2_and_re_ranks(table):
    bindings.parse([f"gin/{table}.gin"], [], {}, {"data_dir": "/data"})
    searched, taught, trained, evaluated = map(arguments_of, (search, teacher, train, evaluate))
    for arguments, channels in ((searched, 32), (trained, 64)):
        assert arguments["network"] == CellSettings(image_size=(384, 128), channels=channels)
        assert arguments["network"].cells == 8 and arguments["network"].reductions == (2, 4, 6)
        assert arguments["fitting"].epochs == 200
        assert [arguments["temperature"](epoch) for epoch in (0, 95, 190)] == [2, 1, 0]
    assert (trained["architecture"], trained["pretrained"]) == (None, None)
    assert taught["backbone"].weights == "imagenet" and evaluated["rerank"] is True


def test_what_gin_search_has_found_on_market_1501_is_not_searched_again_for_table_2():
    settings = []
    for files in (["gin/search.gin", "gin/data/market1501.gin", "gin/scale/paper.gin"], ["gin/table2.gin"]):
        gin.clear_config()
        bindings.parse(files, [], {}, {"data_dir": "/data"})
        settings.append([bindings.settings_of(module.run.stage) for module in (data, teacher, search)])
    assert settings[0] == settings[1]


def test_a_dry_run_of_a_table_reads_the_data_set_and_counts_parameters(table, tmp_path, capsys):
    flags, identities = table
    few = [f"--gin_param={each}/settings.Sampling.identities_per_batch=2" for each in ("teacher", "search", "train")]
    assert launch.main([*flags, *few, "--num_devices=1", "--dry_run"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("Stages: data, teacher, search, train, evaluate\n")
    assert f"\nTraining identities: {identities}\n" in output
    assert "fine-tunes ResNet50 at 384x128 for 60 epochs" in output and "and re-ranks them" in output
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_table_runs_on_a_small_data_set_in_the_official_format(table, tmp_path):
    flags, identities = table
    path = tmp_path / "run" / "search" / "genotype.json"
    genotype.save(path, genotype.DARTS_V2)  # where there is a genotype, the search is skipped
    assert launch.main([*flags, *COMMON, *(f"--gin_param={param}" for param in SMALL)]) == 0
    results = json.loads((tmp_path / "run" / "evaluate" / "results.json").read_text())
    assert results["subject"].startswith("train")
    network = {"channels": 8, "cells": 2, "reductions": (1,)}
    assert results["parameters"] == derived_parameters(genotype.load(path), identities, **network)
    for numbers in (results, results["reranked"]):
        assert 0 < numbers["mAP"] <= 1 and 0 <= numbers["rank1"] <= numbers["rank10"] <= 1
    assert (tmp_path / "run" / "evaluate" / "report.html").exists()


def test_table_1_at_the_papers_scale_is_planned_with_the_papers_parameters(tmp_path, capsys):
    """At 751 identities, of which a dry run without data knows nothing: the data set has to have as many."""
    for name in ("bounding_box_train", "query", "bounding_box_test"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for name in (f"{person:04d}_c{camera}s1_000001_01.jpg" for person in range(1, 752) for camera in (1, 2)):
        (tmp_path / "data" / "bounding_box_train" / name).touch()
    expected = {"ResNet18": 11.6, "ResNet34": 21.7, "ResNet50": 25.1, "DARTS_V2": 9.1, "GDAS_V1": 13.5}
    flags = [f"--gin_file=gin/{name}.gin" for name in ("table1", "data/market1501", "scale/paper")]
    flags += [f"--gin_param=table.run.hand_made={tuple(expected)}", f"--data_dir={tmp_path / 'data'}"]
    assert launch.main([*flags, "--num_devices=1", "--dry_run", f"--workdir={tmp_path / 'run'}"]) == 0
    lines = [line.removeprefix("  table: ") for line in capsys.readouterr().out.splitlines() if "table: " in line]
    planned = {line.split(":")[0]: float(line.split("; ")[1].split()[0]) for line in lines if "parameters" in line}
    assert {name: round(size, 1) for name, size in planned.items()} == expected


@pytest.mark.slow
def test_table_1_is_stopped_and_continued_at_tiny_scale(tmp_path, capsys):
    flags = ["--gin_file=gin/table1.gin", *COMMON, f"--workdir={tmp_path / 'run'}"]
    flags += ["--gin_param=table.run.rows=['dynamic', 'random', 'train_baseline', 'train_dynamic']"]
    flags += ["--gin_param=table.run.seeds=[0]"]
    with contextlib.redirect_stdout(CtrlC("train: epoch 1/2")):
        assert launch.main(flags) == 130
    gin.clear_config()
    capsys.readouterr()
    assert launch.main(flags) == 0
    output = capsys.readouterr().out
    assert "train: continuing after epoch 1 of 2" in output and "search: " not in output
    assert "table: run 1 of 3, dynamic with seed 0" in output

    folder = tmp_path / "run" / "table"
    runs = {run["row"]: run for run in json.loads((folder / "table.json").read_text())["runs"]}
    assert list(runs) == ["teacher", "dynamic", "random", "train_baseline", "train_dynamic"]
    assert abs(runs["random"]["parameters"] / runs["dynamic"]["parameters"] - 1) <= 0.1
    for name in ("mAP", "rank1", "parameters"):
        assert runs["train_dynamic"][name] == runs["dynamic"][name]
    assert runs["train_baseline"]["parameters"] == runs["dynamic"]["parameters"]
    assert all(0 < run["mAP"] <= 100 for run in runs.values())
    logs = {}
    for row in ("dynamic", "train_baseline"):
        lines = (folder / row / "seed_0" / "metrics.jsonl").read_text().splitlines()
        logs[row] = [json.loads(line) for line in lines]
    temperatures = {row: [log["temperature"] for log in logs[row]] for row in logs}
    assert temperatures == {"dynamic": [2, 0, 2, 0], "train_baseline": [0, 0]}  # dynamic: a search, then a training
    assert logs["dynamic"][-1]["total"] != logs["train_baseline"][-1]["total"]
