import gc
import json
import math
import os
import shlex
import signal
import socket
import subprocess
import sys
import tomllib

import pytest

from gin import config as gin
from kdas_tf import launch
from kdas_tf.launcher import lock
from tests.build_test import ROOT

SEARCH = "--gin_file=gin/search.gin"
TINY = "--gin_file=gin/scale/tiny.gin"
# More than one of the test's four logical CPUs would make a MirroredStrategy.
ONE_DEVICE = "--num_devices=1"

STAGE = """
import os
import signal
from kdas_tf.errors import Stopped
from kdas_tf.stages.stage import stage

BEFORE = {"kdas_fake_second": ("kdas_fake_first",)}

@stage(__name__, result="result.txt", PROPERTIES)
def run(
    job, *, value: int = 1, shown: int = 0, interrupted: bool = False, terminated: bool = False, full: bool = False,
    inside_c: bool = False
):
    with open(job.workdir / "calls.txt", "a") as file:
        file.write(f"{__name__} value {value} seed {job.seed}\\n")
    if interrupted:
        raise KeyboardInterrupt
    if full:
        with open("/dev/full", "w") as file:
            file.write("x")
    if inside_c:
        raise SystemError("a call returned a result with an exception set") from Stopped()
    if terminated:
        os.kill(os.getpid(), signal.SIGTERM)
    (job.workdir / __name__ / "result.txt").write_text(str(value))
"""


def stage_text(**properties):
    """The text of a module with a stage that only leaves traces."""
    properties = {"reads": "lambda workdir, arguments: BEFORE.get(__name__, ())", **properties}
    return STAGE.replace("PROPERTIES", ", ".join(f"{name}={value}" for name, value in properties.items()))


GIN_FILE = """
from __gin__ import dynamic_registration
from kdas_tf import launch
import kdas_fake_first
import kdas_fake_second

launch.run.stages = [@kdas_fake_first.run, @kdas_fake_second.run]
kdas_fake_first.run.value = 1
kdas_fake_second.run.value = 2
kdas_fake_second.run.interrupted = False
"""


pytestmark = pytest.mark.usefixtures("as_before")


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory):
    """Flag of a .gin file with two stages that only leave traces."""
    folder = tmp_path_factory.mktemp("fake_stages")
    for name in ("first", "second"):
        shown = "lambda arguments: ('shown',)"
        (folder / f"kdas_fake_{name}.py").write_text(stage_text(may_change=shown))
    (folder / "two.gin").write_text(GIN_FILE)
    sys.path.insert(0, str(folder))
    yield f"--gin_file={folder / 'two.gin'}"
    sys.path.remove(str(folder))


@pytest.fixture
def run(two_stages, tmp_path):
    """Runs the two stages with more flags, as one command after the other."""

    def main(*flags: str) -> int:
        gin.clear_config()
        return launch.main([two_stages, ONE_DEVICE, f"--workdir={tmp_path / 'run'}", *flags])

    return main


def calls(folder):
    return (folder / "run" / "calls.txt").read_text().splitlines()


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], "--gin_file=gin/search.gin"),
        (["gin/search.gin"], "Expected only flags, got 'gin/search.gin'"),
        ([SEARCH, "--epochs=5"], "Unknown command line flag 'epochs'"),
        ([SEARCH, "--seed=-1"], "--seed=-1"),
        ([SEARCH, "--mixed_precision=foo"], "float32|mixed_bfloat16|mixed_float16"),
        ([SEARCH, "--num_devices=99"], "Expected --num_devices of at most 4"),
        ([SEARCH, "--num_devices=0"], "Expected --num_devices to be at least 1, got 0"),
        ([SEARCH, "--gin_param=launch.run.seed=4294967296"], "launch.run.seed to be at least 0 and below 4294967296"),
        ([SEARCH, "--workdir="], "Expected --workdir to be a path that can be used, got '': it is empty"),
        ([SEARCH, "--workdir=~nobody_of_this_name/run"], "got '~nobody_of_this_name/run': Could not determine home"),
        ([SEARCH, f"--workdir={'x' * 300}"], "File name too long"),
        ([SEARCH, "--workdir=runs/a[b]"], "a path without [ and ], got"),
        ([SEARCH, "--gin_param=launch.run.workdir='a\\0b'"], "embedded null"),
        ([SEARCH, "--logical_cpus=0"], "Expected --logical_cpus to be at least 1, got 0"),
        ([SEARCH, "--data_dir=/nowhere/Market-1501"], "/nowhere/Market-1501 is no folder"),
        ([SEARCH, "--gin_param=launch.run.mixed_precision='foo'"], "Expected --mixed_precision to be one of"),
    ],
)
def test_a_mistake_of_the_user_is_one_line_and_exit_code_2(arguments, expected, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch.main(arguments) == 2
    output, error = capfd.readouterr()
    assert error.startswith("error: ") and error.count("\n") == 1 and expected in error
    assert "Traceback" not in output + error
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line_and_exit_code_2(two_stages, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    assert launch.main([two_stages, ONE_DEVICE, f"--workdir={tmp_path / 'file' / 'run'}"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and f"--workdir={tmp_path / 'file' / 'run'}" in error


def test_a_function_that_is_no_stage_is_refused_in_one_line(run, capfd):
    stages = "[@kdas_fake_first.run, @kdas_fake_second.run, @launch.overrides_of]"
    assert run(f"--gin_param=launch.run.stages={stages}") == 2
    error = capfd.readouterr().err
    assert error.startswith("error: Expected launch.run.stages to list stages") and error.count("\n") == 1


def test_help_lists_the_flags(capsys):
    assert launch.main(["--help"]) == 0
    output = capsys.readouterr().out
    assert all(f"--{flag}:" in output for flag in ("gin_file", "gin_param", "workdir", "data_dir", "seed"))
    assert launch.main(["-h"]) == 0
    assert capsys.readouterr().out == output


def test_the_version_is_that_of_the_package(capsys):
    assert launch.main(["--version"]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"kdas_tf {project['version']}\n"


@pytest.mark.parametrize("stage, more", [("teacher", ["--dry_run"]), ("search", ["--dry_run"]), ("search", [])])
def test_batches_of_more_people_than_there_are_are_refused_before_the_first_stage(stage, more, tmp_path, capfd):
    batches = f"{stage}/settings.Sampling.identities_per_batch"
    flags = [SEARCH, TINY, ONE_DEVICE, f"--gin_param={batches}=21", f"--workdir={tmp_path / 'run'}", *more]
    assert launch.main(flags) == 2
    error = capfd.readouterr().err
    assert f"Expected {batches} of at most 20, the people to train on, got 21." in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_surroundings_change_nothing(tmp_path):
    settings = {"backend": "torch", "floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1}
    (tmp_path / "keras.json").write_text(json.dumps({**settings, "max_epochs": 1, "max_steps_per_epoch": 1}))
    command = [sys.executable, "-OO", "-m", "kdas_tf.launch", SEARCH, TINY, "--gin_param=TEACHER_EPOCHS=2"]
    command += [f"--workdir={tmp_path / 'run'}"]
    environment = {**os.environ, "KERAS_HOME": str(tmp_path), "MPLBACKEND": "module://no_such_module"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "teacher: epoch 2/2" in ended.stdout
    epoch = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert all(math.isfinite(value) for value in epoch.values() if isinstance(value, float))


def test_stages_run_in_their_order_with_the_seed(run, tmp_path, capsys):
    assert run("--seed=5") == 0
    assert calls(tmp_path) == ["kdas_fake_first value 1 seed 5", "kdas_fake_second value 2 seed 5"]
    output = capsys.readouterr().out.splitlines()
    assert [line.split(" s, ")[0] for line in output] == [f"kdas_fake_{x}: finished in 0" for x in ("first", "second")]
    assert "kdas_fake_first.run.value = 1" in (tmp_path / "run" / "kdas_fake_first" / "config.gin").read_text()


def test_a_stage_with_a_result_is_skipped(run, tmp_path, capsys):
    run()
    (tmp_path / "run" / "kdas_fake_second" / "result.txt").unlink()
    capsys.readouterr()
    assert run() == 0
    first = tmp_path / "run" / "kdas_fake_first" / "result.txt"
    assert f"kdas_fake_first: done before, {first}" in capsys.readouterr().out
    assert [line.split()[0] for line in calls(tmp_path)] == ["kdas_fake_first", "kdas_fake_second", "kdas_fake_second"]


@pytest.mark.parametrize(
    "flag, change",
    [
        ("--gin_param=kdas_fake_second.run.value=3", "value was 2 and is now 3."),
        ("--seed=1", "seed was 0 and is now 1."),
        ("--deterministic", "deterministic was False and is now True."),
    ],
)
def test_a_changed_command_never_continues_an_old_result(run, flag, change, tmp_path, capfd):
    run()
    files = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    capfd.readouterr()
    assert run(flag) == 2
    output, error = capfd.readouterr()
    assert change in error and error.count("\n") == 1 and not output
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == files


def test_a_default_that_is_written_down_or_an_argument_that_only_shows_may_change(run, tmp_path, capfd):
    run()
    capfd.readouterr()
    assert run("--gin_param=kdas_fake_second.run.terminated=False", "--gin_param=kdas_fake_second.run.shown=7") == 0
    assert capfd.readouterr().out.count("done before") == 2


def test_a_default_that_is_another_one_in_the_code_is_noticed(run, tmp_path, capfd, monkeypatch):
    run()
    monkeypatch.setitem(sys.modules["kdas_fake_second"].run.__kwdefaults__, "shown", 3)
    assert run() == 0  # it decides nothing
    monkeypatch.setitem(sys.modules["kdas_fake_second"].run.__kwdefaults__, "inside_c", 1)
    assert run() == 2
    assert "inside_c was False and is now 1." in capfd.readouterr().err


def test_a_command_may_do_some_of_the_stages(run, tmp_path):
    run()
    (tmp_path / "run" / "kdas_fake_second" / "result.txt").rename(tmp_path / "run" / "kdas_fake_second" / "begun.txt")
    second = [line for line in GIN_FILE.splitlines() if "first" not in line]
    (tmp_path / "second.gin").write_text("\n".join([*second, "launch.run.stages = [@kdas_fake_second.run]\n"]))
    gin.clear_config()
    assert launch.main([f"--gin_file={tmp_path / 'second.gin'}", ONE_DEVICE, f"--workdir={tmp_path / 'run'}"]) == 0
    assert calls(tmp_path)[2:] == ["kdas_fake_second value 2 seed 0"]


def test_the_stages_after_a_changed_one_that_was_deleted_are_refused_before_it_is_done_again(run, tmp_path, capfd):
    run()
    for path in (tmp_path / "run" / "kdas_fake_first").iterdir():
        path.unlink()
    assert run("--gin_param=kdas_fake_first.run.value=3") == 2
    error = capfd.readouterr().err
    assert f"{tmp_path / 'run' / 'kdas_fake_second'} holds a result of other settings" in error
    assert "kdas_fake_first, which it reads, has changed" in error
    assert len(calls(tmp_path)) == 2


@pytest.fixture
def own_stage(tmp_path, monkeypatch):
    """Runs a stage with properties of its own, and the one after it."""

    def start(name, **properties):
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / f"{name}.py").write_text(stage_text(**properties))
        (tmp_path / f"{name}_last.py").write_text(stage_text())
        file = tmp_path / "own.gin"
        stages = GIN_FILE.replace("kdas_fake_first", name).replace("kdas_fake_second", f"{name}_last")
        file.write_text(stages)

        def run(*flags):
            gin.clear_config()
            return launch.main([f"--gin_file={file}", ONE_DEVICE, f"--workdir={tmp_path / 'run'}", *flags])

        return run

    return start


def test_a_stage_that_grows_is_never_skipped_and_refuses_other_arguments_than_those_that_may_change(
    own_stage, tmp_path
):
    run = own_stage("kdas_fake_growing", grows=True, may_change="lambda arguments: ('value',)")
    assert [run(), run(), run("--gin_param=kdas_fake_growing.run.value=7")] == [0, 0, 0]
    own, last = "kdas_fake_growing value {} seed 0", "kdas_fake_growing_last value 2 seed 0"
    assert calls(tmp_path) == [own.format(1), last, own.format(1), own.format(7)]
    assert run("--gin_param=kdas_fake_growing.run.inside_c=True") == 2


def test_a_repeatable_stage_is_done_again_with_other_arguments_and_not_with_the_same(own_stage, tmp_path):
    run = own_stage("kdas_fake_repeatable", repeatable=True)
    assert [run(), run(), run("--gin_param=kdas_fake_repeatable.run.value=7"), run()] == [0, 0, 0, 0]
    own = [call for call in calls(tmp_path) if "last" not in call]
    assert own == [f"kdas_fake_repeatable value {value} seed 0" for value in (1, 7, 1)]
    assert run("--gin_param=kdas_fake_repeatable.run.interrupted=True") == 130
    # A result of before does not stand for it.
    assert run("--gin_param=kdas_fake_repeatable.run.interrupted=True") == 130


def test_a_repeatable_stage_that_reads_from_elsewhere_is_always_done(own_stage, tmp_path):
    run = own_stage("kdas_fake_outside", repeatable=True, reads="lambda workdir, arguments: None")
    assert [run(), run()] == [0, 0]
    assert [call.split()[0] for call in calls(tmp_path)].count("kdas_fake_outside") == 2


def test_an_interrupted_stage_says_that_the_same_command_continues(run, tmp_path, capfd):
    assert run("--gin_param=kdas_fake_second.run.interrupted=True") == 130
    error = capfd.readouterr().err
    assert "The same command continues" in error and "Traceback" not in error
    assert not (tmp_path / "run" / "kdas_fake_second" / "result.txt").exists()
    assert run("--gin_param=kdas_fake_second.run.interrupted=True") == 130
    assert calls(tmp_path)[2:] == ["kdas_fake_second value 2 seed 0"]


def test_sigterm_has_its_own_exit_code_and_says_how_to_continue(run, tmp_path, capfd, two_stages):
    before = signal.getsignal(signal.SIGTERM)
    assert run("--gin_param=kdas_fake_second.run.terminated=True") == 75
    assert signal.getsignal(signal.SIGTERM) == before
    error = capfd.readouterr().err
    command = error.partition("To continue: ")[2]
    assert shlex.split(command)[:3] == ["python", "-m", "kdas_tf.launch"]
    assert two_stages in shlex.split(command) and error.count("\n") == 1
    assert not (tmp_path / "run" / "kdas_fake_second" / "result.txt").exists()


def test_sigterm_inside_of_a_call_of_c_code_is_sigterm(run, capfd):
    assert run("--gin_param=kdas_fake_second.run.inside_c=True") == 75
    error = capfd.readouterr().err
    assert error.startswith("stopped by SIGTERM. To continue: ") and error.count("\n") == 1


def test_a_fault_of_the_machine_is_one_line_and_exit_code_2_and_the_same_command_continues(run, tmp_path, capfd):
    assert run("--gin_param=kdas_fake_second.run.full=True") == 2
    error = capfd.readouterr().err
    assert "Expected room on the disk for what the stage kdas_fake_second writes" in error and error.count("\n") == 1
    assert "none left (No space left on device). Make room" in error
    assert run("--gin_param=kdas_fake_second.run.full=True") == 2
    assert "kdas_fake_first: done before" in capfd.readouterr().out


def test_a_workdir_is_for_one_process_and_the_other_one_is_named(run, tmp_path, capfd):
    (tmp_path / "run").mkdir()
    with lock.holding(tmp_path / "run"):
        before = (tmp_path / "run" / lock.FILE).read_bytes()
        assert run() == 2
        output, error = capfd.readouterr()
        assert f"process {os.getpid()} on {socket.gethostname()}, since 20" in error and error.count("\n") == 1
        assert [path.name for path in (tmp_path / "run").iterdir()] == [lock.FILE] and not output
        assert (tmp_path / "run" / lock.FILE).read_bytes() == before
    assert run() == 0


def test_a_dry_run_shows_stages_parameters_memory_and_configuration_and_leaves_nothing(tmp_path, capsys):
    flags = [SEARCH, TINY, ONE_DEVICE, "--gin_param=CELLS=3", f"--workdir={tmp_path / 'run'}", "--dry_run"]
    assert launch.main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Stages: data, teacher, search"
    shown = {start: [line for line in lines if line.startswith(f"  {start}: ")] for start in ("teacher", "search")}
    assert "fine-tunes MobileNetV2 at 32x32 for 1 epochs" in shown["teacher"][0]
    assert "M trainable parameters" in shown["teacher"][0]
    assert "supernet of 3 cells, C = 4" in shown["search"][0] and "M parameters, at 32x16" in shown["search"][0]
    assert "memory: about" in shown["search"][-1] and " GB " in shown["search"][-1]
    assert {"CELLS = 3", "settings.CellSettings.cells = %CELLS", "launch.run.dry_run = True"} <= set(lines)
    assert not list(tmp_path.iterdir())


def test_what_is_imported_at_the_start_is_never_searched_for_garbage(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow")
    before = gc.get_freeze_count()
    try:
        with pytest.raises(ImportError), launch.importing():
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() and gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


def test_a_process_that_has_begun_collects_its_garbage_as_before():
    with launch.importing():
        assert gc.isenabled()
