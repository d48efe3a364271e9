"""The README's commands, one after the other on one workdir, at tiny scale."""

import json
import shlex

import pytest

from gin import config as gin
from kdas_tf import launch
from tests.readme_test import LAUNCHER, README, commands

LAUNCHES = [shlex.split(command.removeprefix(LAUNCHER)) for command in commands(README) if LAUNCHER in command]
TINY = ["--gin_file=gin/scale/tiny.gin", "--num_devices=1"]


@pytest.fixture
def follow(tmp_path, monkeypatch, capfd, as_before):
    """Does a command of the README, with more flags, at tiny scale; returns what it prints."""
    repository = launch.bindings.CONFIGS

    def do(*flags: str, more: tuple[str, ...] = (), at_tiny_scale: bool = True) -> str:
        assert list(flags) in LAUNCHES, f"the README has no command with {flags}"
        gin.clear_config()
        files = [
            flag.replace("=gin/", f"={repository}/gin/") for flag in (*flags, *(TINY if at_tiny_scale else TINY[1:]))
        ]
        code = launch.main([*files, *more])
        printed = capfd.readouterr()
        assert code == 0, printed.err
        return printed.out

    monkeypatch.chdir(tmp_path)
    return do


@pytest.mark.slow
def test_the_commands_of_the_readme_work_in_its_order(follow, tmp_path):
    run = tmp_path / "runs" / "search"

    def results():
        return json.loads((run / "evaluate" / "results.json").read_text())

    evaluate = ("--gin_file=gin/evaluate.gin", "--workdir=runs/search")
    export = ("--gin_file=gin/export.gin", "--workdir=runs/search")

    follow("--gin_file=gin/search.gin")
    assert (run / "search" / "genotype.json").exists()
    follow(*evaluate, at_tiny_scale=False)
    assert results()["subject"].startswith("teacher")

    # The search is done; the student is trained and judged.
    printed = follow("--gin_file=gin/train.gin", "--workdir=runs/search")
    assert all(f"{stage}: done before" in printed for stage in ("data", "teacher", "search"))
    assert results()["subject"].startswith("train")
    assert "evaluate: done before" in follow(*evaluate, at_tiny_scale=False)

    # Judged again by other rules: the kept embeddings serve, until others are asked for.
    rerank, flip = "--gin_param=evaluate.run.rerank=True", "--gin_param=evaluate.run.flip=True"
    embeddings = run / "evaluate" / "embeddings"
    before = {path: path.stat().st_mtime_ns for path in embeddings.glob("*.npy")}
    plain = results()["mAP"]
    follow(*evaluate, more=(rerank,), at_tiny_scale=False)
    assert results()["mAP"] == plain and "reranked" in results()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    follow(*evaluate, more=(rerank, flip), at_tiny_scale=False)
    assert "reranked" in results()

    # Exported, and exported again with copies for other runtimes, one of which is judged.
    follow(*export, at_tiny_scale=False)
    first = run / "export" / "kdas_reid" / "1"
    assert (first / "saved_model.pb").exists()
    runtimes = "--gin_param=export.run.runtimes=('onnx', 'onnx_int8', 'litert_float16')"
    follow(*export, more=(runtimes,), at_tiny_scale=False)
    copy = run / "export" / "kdas_reid" / "2" / "assets.extra" / "float16.tflite"
    follow(*evaluate, more=(f"--model={copy}",), at_tiny_scale=False)
    assert results()["subject"].startswith("float16.tflite")

    # Trained longer in a new workdir, with the same photographs and the same teacher.
    (longer,) = [flags for flags in LAUNCHES if "--workdir=runs/longer" in flags]
    follow(*longer, more=("--gin_param=TRAIN_EPOCHS=3",))
    assert json.loads((tmp_path / "runs" / "longer" / "train" / "train.json").read_text())["epochs"] == 3
    teacher = json.loads((tmp_path / "runs" / "longer" / "teacher" / "teacher.json").read_text())
    assert teacher["reused_from"] == "runs/search/teacher"
