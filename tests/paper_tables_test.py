"""The runs behind the paper's tables: their settings, their plans, and on small data sets in the official formats."""

import json

import pytest

from gin import config as gin
from kdas_tf import genotype, launch
from kdas_tf.launcher import bindings, running
from kdas_tf.models.costs import derived_parameters
from kdas_tf.stages import data, evaluate, search, teacher, train
from tests.data import miniatures

TINY = "--gin_file=gin/scale/tiny.gin"
ONE_DEVICE = "--num_devices=1"
# (file, its axis, writes a data set)
TABLES = [
    ("table2", None, lambda folder: miniatures.market1501(folder, train=8, images=4)),
    ("table3", "cuhk03_labeled", miniatures.cuhk03),
    ("table3", "cuhk03_detected", miniatures.cuhk03),
    ("table4", None, lambda folder: miniatures.msmt17(folder, train=8, images=4)),
]
IDENTITIES = {"table2": 8, "table3": 4, "table4": 8}
SMALL = ["SEARCH_EPOCHS=1", "TRAIN_EPOCHS=1", "TEACHER_IDENTITIES_PER_BATCH=2"]
SMALL += ["rerank.RerankedDistances.k1=5"]
SMALL += [f"{stage}.run.identities_per_batch=2" for stage in ("search", "train")]


pytestmark = pytest.mark.usefixtures("as_before")


def flags_of(table, axis, folder):
    axes = [f"--gin_file=gin/data/{axis}.gin"] if axis else []
    return [f"--gin_file=gin/{table}.gin", *axes, f"--data_dir={folder / 'data'}", f"--workdir={folder / 'run'}"]


@pytest.mark.parametrize("table", ["table2", "table3", "table4"])
def test_a_table_has_every_number_of_section_4_2_and_re_ranks(table):
    bindings.parse([f"gin/{table}.gin"], [], {}, {"data_dir": "/data"})
    searched, trained = bindings.bindings_of(search.run), bindings.bindings_of(train.run)
    for arguments, channels in ((searched, 32), (trained, 64)):
        expected = {"image_size": (384, 128), "channels": channels, "cells": 8, "reductions": (2, 4, 6), "epochs": 200}
        assert {name: arguments[name] for name in expected} == expected
        assert [arguments["temperature"](epoch) for epoch in (0, 95, 190)] == [2, 1, 0]
    assert (trained.get("architecture"), trained.get("pretrained")) == (None, None)
    assert bindings.bindings_of(teacher.run)["weights"] == "imagenet"
    assert bindings.bindings_of(evaluate.run)["rerank"] is True


def test_what_gin_search_has_found_on_market_1501_is_not_searched_again_for_table_2():
    settings = []
    for files in (["gin/search.gin", "gin/data/market1501.gin", "gin/scale/paper.gin"], ["gin/table2.gin"]):
        gin.clear_config()
        bindings.parse(files, [], {}, {"data_dir": "/data"})
        settings.append(running.settings_of_all([data.run, teacher.run, search.run], "seed 0"))
    assert settings[0] == settings[1]


@pytest.mark.parametrize(("table", "axis", "write"), TABLES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_dry_run_of_a_table_reads_the_data_set_and_counts_parameters(table, axis, write, tmp_path, capsys):
    write(tmp_path / "data")
    assert launch.main([*flags_of(table, axis, tmp_path), ONE_DEVICE, "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Stages: data, teacher, search, train, evaluate"
    assert f"Training identities: {IDENTITIES[table]}" in lines
    assert any("fine-tunes ResNet50 at 384x128 for 60 epochs" in line for line in lines)
    assert any("and re-ranks them" in line for line in lines)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("table", "axis", "write"), TABLES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_table_runs_on_a_small_data_set_in_the_official_format(table, axis, write, tmp_path):
    write(tmp_path / "data")
    found = tmp_path / "run" / "search" / "genotype.json"
    genotype.save(found, genotype.DARTS_V2)  # where there is a genotype, the search is skipped
    params = [f"--gin_param={param}" for param in SMALL]
    assert launch.main([*flags_of(table, axis, tmp_path), TINY, *params, ONE_DEVICE]) == 0
    results = json.loads((tmp_path / "run" / "evaluate" / "results.json").read_text())
    assert results["subject"].startswith("train")
    assert results["parameters"] == derived_parameters(
        genotype.load(found), IDENTITIES[table], channels=8, cells=2, reductions=(1,)
    )
    for numbers in (results, results["reranked"]):
        assert 0 < numbers["mAP"] <= 1 and 0 <= numbers["rank1"] <= numbers["rank10"] <= 1
    assert (tmp_path / "run" / "evaluate" / "report.html").exists()


def test_table_1_at_the_papers_scale_is_planned_with_the_papers_parameters(tmp_path, capsys):
    """At 751 identities, of which a dry run without data knows nothing: the data set has to have as many."""
    folders = [tmp_path / "data" / name for name in ("bounding_box_train", "query", "bounding_box_test")]
    for folder in folders:
        folder.mkdir(parents=True)
    for person in range(1, 752):
        for camera in (1, 2):
            (folders[0] / f"{person:04d}_c{camera}s1_000001_01.jpg").touch()
    flags = ["--gin_file=gin/table1.gin", "--gin_file=gin/data/market1501.gin", "--gin_file=gin/scale/paper.gin"]
    names = "('ResNet18', 'ResNet34', 'ResNet50', 'DARTS_V2', 'GDAS_V1')"
    flags += [f"--data_dir={tmp_path / 'data'}", f"--gin_param=table.run.hand_made={names}", ONE_DEVICE, "--dry_run"]
    assert launch.main([*flags, f"--workdir={tmp_path / 'run'}"]) == 0
    lines = [line.removeprefix("  table: ") for line in capsys.readouterr().out.splitlines() if "table: " in line]
    found = {line.split(":")[0]: float(line.split("; ")[1].split()[0]) for line in lines if "parameters" in line}
    expected = {"ResNet18": 11.6, "ResNet34": 21.7, "ResNet50": 25.1, "DARTS_V2": 9.1, "GDAS_V1": 13.5}
    assert {name: round(size, 1) for name, size in found.items()} == expected


@pytest.mark.slow
def test_table_1_is_stopped_and_continued_at_tiny_scale(tmp_path, monkeypatch, capsys):
    flags = ["--gin_file=gin/table1.gin", TINY, ONE_DEVICE, f"--workdir={tmp_path / 'run'}"]
    flags += ["--gin_param=table.run.rows=['dynamic', 'random', 'train_baseline', 'train_dynamic']"]
    flags += ["--gin_param=table.run.seeds=[0]"]
    # Stopped in the first training's second epoch, before its checkpoint.
    calls = []

    def stop(self, epoch, logs=None):
        calls.append(epoch)
        if len(calls) == 5:  # one epoch of the teacher, two of the search
            raise KeyboardInterrupt

    monkeypatch.setattr("kdas_tf.training.callbacks.FiniteLoss.on_epoch_end", stop)
    assert launch.main(flags) == 130
    monkeypatch.undo()
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
    temperatures, losses = {}, {}
    for row in ("dynamic", "train_baseline"):
        lines = (folder / row / "seed_0" / "metrics.jsonl").read_text().splitlines()
        temperatures[row] = [json.loads(line)["temperature"] for line in lines]
        losses[row] = json.loads(lines[-1])["total"]
    assert losses["dynamic"] != losses["train_baseline"]
    assert temperatures == {"dynamic": [2, 0, 2, 0], "train_baseline": [0, 0]}  # dynamic: a search, then a training
