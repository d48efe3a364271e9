"""What a user can get wrong ends in one line, exit code 2 and an untouched workdir.

Each refusal is known by its code (`kdas_tf.errors.Code`) and by what it names; the words of the messages are tested
beside the code that raises them.
"""

import json
import os
import pickle
import shutil
import zipfile
from unittest import mock

import keras
import numpy as np
import pytest
from absl import flags
from PIL import Image

from kdas_tf import genotype as g
from kdas_tf import launch
from kdas_tf.data.records import Record, ReIDData, save
from kdas_tf.errors import UserError
from kdas_tf.models import saved
from kdas_tf.models.networks import Student

SEARCH = "--gin_file=gin/search.gin --gin_file=gin/scale/tiny.gin"
BASELINE = "--gin_file=gin/baseline.gin --gin_file=gin/scale/tiny.gin"
TRAIN = "--gin_file=gin/train.gin --gin_file=gin/scale/tiny.gin"
PRETRAIN = "--gin_file=gin/pretrain.gin --gin_file=gin/scale/tiny.gin --gin_param=ARCHITECTURE='ResNet18'"
EVALUATE = "--gin_file=gin/evaluate.gin"
EXPORT = "--gin_file=gin/export.gin"
TABLE = "--gin_file=gin/table1.gin --gin_file=gin/scale/tiny.gin"
IDENTITIES, IMAGES = 8, 4

pytestmark = pytest.mark.usefixtures("as_before")


class Evil:
    """Opening a pickle of this would leave a trace."""

    def __reduce__(self):
        return (os.system, (f"touch {os.environ['KDAS_TRACE']}",))


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of everything that can be wrong with a file."""
    folder = tmp_path_factory.mktemp("bad files, ünïcode")
    os.environ["KDAS_TRACE"] = str(folder / "trace")
    write_texts(folder)
    write_arrays(folder)
    write_networks(folder)
    write_images(folder)
    for name in ("pickle.json", "evil.npz", "evil.h5", "evil.onnx", "evil.tflite", "pickled_model/saved_model.pb"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(pickle.dumps(Evil()))
    (folder / "loop").symlink_to("loop")
    (folder / "empty").mkdir()
    yield folder
    assert not (folder / "trace").exists(), "a file was able to run code"


def write_texts(folder):
    (folder / "pages.gin").write_bytes(bytes(range(256)))
    (folder / "itself.gin").write_text(f"include '{folder / 'itself.gin'}'\n")
    (folder / "broken.gin").write_text("SEARCH_EPOCHS = = 3\n")
    (folder / "nowhere.gin").write_text("from __gin__ import dynamic_registration\nimport kdas_nowhere\n")
    unknown = [["conv_7x7", 0], *[["skip_connect", 0]] * 7]
    (folder / "unknown_operation.json").write_text(json.dumps({"normal": unknown, "reduce": unknown}))
    (folder / "list.json").write_text("[1, 2]")
    (folder / "cut.json").write_text('{"normal": [["skip')
    (folder / "nested.json").write_text("[" * 200_000)
    (folder / "large.json").write_bytes(b" " * 1_000_001)
    (folder / "binary.json").write_bytes(b"\xff\xfe\x00")


def write_arrays(folder):
    names = np.array([f"{i:04d}_c1s1_{n:06d}_01.jpg" for i in range(1, IDENTITIES + 1) for n in range(IMAGES)])
    logits = np.zeros((len(names), IDENTITIES), "float32")
    np.savez(folder / "few_images.npz", images=names[:-1], logits=logits[:-1])
    np.savez(folder / "nan.npz", images=names, logits=logits * np.nan)
    np.savez_compressed(folder / "damaged.npz", images=names, logits=np.random.default_rng(0).normal(size=logits.shape))
    damaged = bytearray((folder / "damaged.npz").read_bytes())
    damaged[600:700] = bytes(100)
    (folder / "damaged.npz").write_bytes(damaged)
    with zipfile.ZipFile(folder / "bomb.npz", "w") as archive:  # says that it holds 4 petabytes
        for name in ("images", "logits"):
            header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + b"\n"
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    np.savez(folder / "pickled.npz", images=np.array([Evil()], object), logits=logits)
    with zipfile.ZipFile(folder / "outside.npz", "w") as archive:
        archive.writestr("../../trace", b"")
        archive.writestr("/tmp/kdas_outside", b"")
    arrays = {f"{s}_{p}": np.zeros(3, int) for s in ("query", "gallery") for p in ("pids", "camids")}
    np.savez(folder / "no_features.npz", **arrays)
    features = {"query_features": np.full((3, 4), np.inf, "f"), "gallery_features": np.ones((3, 4), "f")}
    np.savez(folder / "infinite.npz", **arrays, **features)


def write_networks(folder):
    texts = {
        "kind/network.json": json.dumps({"kind": "os.system", "config": {"command": "true"}, "image_size": [32, 16]}),
        "damaged/network.json": '{"kind": ',
        "deep/network.json": "[" * 200_000,
        "deep_teacher/teacher.json": "[" * 200_000,
        "other_classes/teacher.json": json.dumps({"kind": "table"}),
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text(text)
    (folder / "kind" / saved.WEIGHTS).touch()
    np.save(folder / "other_classes" / "logits.npy", np.zeros((IDENTITIES * IMAGES, IDENTITIES + 1), "float32"))
    small = Student(g.DARTS_V2, 3, image_size=(32, 16), channels=4, cells=1, reductions=(0,))
    saved.save(small, folder / "small", image_size=(32, 16))
    described = (folder / "small" / saved.INDEX).read_text()
    for name, old, new in [("other_shape", '"channels": 4', '"channels": 8'), ("huge_number", "32,", "1e400,")]:
        shutil.copytree(folder / "small", folder / name)
        (folder / name / saved.INDEX).write_text(described.replace(old, new))
    trace = os.environ["KDAS_TRACE"]
    code = keras.layers.Lambda(lambda x, trace=trace: (__import__("os").system(f"touch {trace!r}"), x)[1])
    keras.Sequential([keras.Input((2,)), code, keras.layers.Dense(1)]).save(folder / "lambda.keras")
    os.remove(trace)  # making it has run it


def write_images(folder):
    (folder / "split" / "bounding_box_train").mkdir(parents=True)
    names = ["misnamed/bounding_box_train/person.png", "classes/only_one/1.png"]
    for name in [*names, *(f"two_classes/{number % 2}/{number}.png" for number in range(8))]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)


def each(given, *values):
    """{what is given: what the line names} for values that the line repeats."""
    return {given.format(value): value for value in values}


# The command; the code of the refusal; {what is given beside it: what the line names}. Given are flags and bindings,
# "; " stands between several, and DIR for the folder of bad files.
BEFORE_ANYTHING = [
    (SEARCH, "flag", each("{}", "--seed=1.5", "--num_devices=two", "--deterministic=very")),
    (SEARCH, "flag", each("--data_dir=DIR/{}", "list.json", "loop")),
    (SEARCH, "flag", {"--model=DIR/kind": "--model"}),  # no stage reads it
    (EVALUATE, "flag", {"--model=DIR/nowhere": "nowhere", "--embeddings=DIR/empty": "empty"}),
    ("", "binding", each("--gin_file=DIR/{}", "nowhere_at_all.gin", "pages.gin", "itself.gin", "broken.gin")),
    ("", "binding", each("--gin_file=DIR/{}", "nowhere.gin", "loop", "empty")),
    (SEARCH, "binding", each("{}", "SEARCH_EPOCHS", "SEARCH_EPOCHS=", "SEARCH_EPOCHS=__import__('os')")),
    (SEARCH, "binding", {"SEARCH_EPOCH=3": "SEARCH_EPOCH", "search.run.epoch=3": "epoch", "x.run.epochs=3": "x.run"}),
    (SEARCH, "binding", {"search.run.seed=3": "--seed", "search.run.image_cache_gb=2.0": "launch.run.image_cache_gb"}),
    (SEARCH, "type", each("SEARCH_EPOCHS={}", "'many'", "2.5", "True", "None")),
    (SEARCH, "type", {"IMAGE_SIZE=(32,)": "image_size", "IMAGE_SIZE=32": "image_size", "REDUCTIONS=1": "reductions"}),
    (SEARCH, "type", each("search.run.{}=1", "temperature", "rematerialize")),
    (SEARCH, "type", {"STEM='inet5'": "inet5"}),
    (SEARCH, "type", each("launch.run.{}='8'", "deterministic", "image_cache_gb")),
    (SEARCH, "type", each("search/settings.Fitting.{}=1", "synchronized_batch_norm")),
    (TABLE, "type", each("table.run.{}=3", "seeds", "rows")),
    (SEARCH, "range", {"SEARCH_EPOCHS=0": "epochs", "CELLS=-1": "cells", "REDUCTIONS=(-1,)": "reductions"}),
    (SEARCH, "range", {"IMAGE_SIZE=(0, 16)": "image_size", "RENDERED_IDENTITIES=0": "train_identities"}),
    (SEARCH, "range", {"search/settings.Fitting.learning_rate=1e999": "learning_rate"}),
    (SEARCH, "range", each("search/optimizers.SGD.{}=-1", "momentum", "weight_decay")),
    (SEARCH, "range", {"alpha/optimizers.Adam.beta_1=2": "beta_1", "objective.Objective.margin=-0.3": "margin"}),
    (SEARCH, "range", {"search/schedules.LinearTemperature.end=-1.0": "end"}),
    (SEARCH, "range", {"transforms.Augmentation.padding=-1": "padding"}),
    (SEARCH, "range", {"launch.run.keep_checkpoints=0": "launch.run.keep_checkpoints"}),
    (TRAIN, "range", {"JUDGE_EVERY=0": "judge_every", "train.run.drop_path=1.0": "drop_path"}),
    (EVALUATE, "range", {"evaluate.run.batch_size=0": "batch_size"}),
    (EXPORT, "range", {"export.run.max_pixels=0": "max_pixels"}),
    (TABLE, "range", {"table.run.seeds=(0, -1)": "seeds", "table.run.size_tolerance=-0.1": "size_tolerance"}),
    (PRETRAIN, "range", {"--data_dir=DIR/empty; PRETRAIN_BATCH_SIZE=0": "batch_size"}),
]
WITH_DATA = [
    (SEARCH, "fit", {"TEACHER_IDENTITIES_PER_BATCH=99": "99"}),
    # logits of a teacher, teachers, weights
    (SEARCH, "fit", each("teacher.run.logits='DIR/{}'", "few_images.npz")),
    (SEARCH, "content", each("teacher.run.logits='DIR/{}'", "nan.npz")),
    (SEARCH, "damaged", each("teacher.run.logits='DIR/{}'", "damaged.npz", "bomb.npz", "pickled.npz", "evil.npz")),
    (SEARCH, "damaged", each("teacher.run.logits='DIR/{}'", "outside.npz", "empty", "loop")),
    (SEARCH, "damaged", {"teacher.run.logits='nu\\0ll.npz'": "null byte", "teacher.run.reuse='nu\\0ll'": "reuse"}),
    (SEARCH, "damaged", each("teacher.run.reuse='DIR/{}'", "empty", "small", "deep_teacher")),
    (SEARCH, "fit", each("teacher.run.reuse='DIR/{}'", "other_classes")),
    (SEARCH, "choice", {"teacher.run.view='mirrored'": "mirrored", "BACKBONE='ResNet49'": "ResNet49"}),
    (SEARCH, "missing", {"BACKBONE_WEIGHTS='DIR/nowhere'": "nowhere", "BACKBONE_WEIGHTS='nu\\0ll.h5'": "ll.h5"}),
    (SEARCH, "damaged", each("BACKBONE_WEIGHTS='DIR/{}'", "evil.h5", "lambda.keras", "small/network.weights.h5")),
    # networks and embeddings to evaluate
    (EVALUATE, "content", {f"--embeddings=DIR/{name}.npz": "query_features" for name in ("no_features", "bomb")}),
    (EVALUATE, "content", {"--embeddings=DIR/infinite.npz": "query features"}),
    (EVALUATE, "damaged", each("--embeddings=DIR/{}", "evil.npz")),
    (EVALUATE, "choice", {"--model=DIR/kind": "os.system"}),
    (EVALUATE, "damaged", each("--model=DIR/{}", "damaged", "deep", "other_shape", "huge_number", "empty")),
    (EVALUATE, "damaged", each("--model=DIR/{}", "lambda.keras", "evil.onnx", "evil.tflite")),
    (EVALUATE, "damaged", each("--model=DIR/{}; evaluate.run.image_size=(32, 16)", "pickled_model")),
    # images to pre-train on
    (PRETRAIN, "content", each("--data_dir=DIR/{}", "empty", "classes")),
    (PRETRAIN, "choice", {"--data_dir=DIR/empty; pretrain.run.source='web'": "web"}),
    (PRETRAIN, "range", {"--data_dir=DIR/two_classes; PRETRAIN_IMAGE_SIZE=(8, 0)": "image_size"}),
    (PRETRAIN, "range", {"--data_dir=DIR/classes; pretrain.run.held_out=1.0": "held_out"}),
]
WITH_TEACHER = [
    # genotypes and networks
    (BASELINE, "content", each("ARCHITECTURE='DIR/{}.json'", "unknown_operation", "list")),
    (BASELINE, "damaged", each("ARCHITECTURE='DIR/{}.json'", "cut", "nested", "large", "binary", "pickle")),
    (BASELINE, "choice", each("ARCHITECTURE='DIR/{}'", "empty", "loop", "nowhere ü.json")),
    (BASELINE, "choice", {"ARCHITECTURE='nu\\0ll.json'": "ResNet18", "ARCHITECTURE='ResNet19'": "ResNet19"}),
    (BASELINE, "damaged", each("train.run.pretrained='DIR/{}'", "damaged")),
    (BASELINE, "fit", each("train.run.pretrained='DIR/{}'", "small")),
    (SEARCH, "range", {"search/settings.Stabilizers.alpha_warmup_epochs=2": "alpha_warmup"}),
    (SEARCH, "range", {"search/settings.Stabilizers.parameter_budget=1.0": "parameter_budget"}),
    (SEARCH, "fit", {"IMAGE_SIZE=(8, 8)": "part_aware"}),
    (SEARCH, "fit", {"search/settings.Stabilizers.partial_channels=3": "partial_channels"}),
    (SEARCH, "damaged", {"SEARCH_EPOCHS=1": "32"}),  # none of the 32 photographs is there
    # rows of a table
    (TABLE, "range", {"table.run.seeds=()": "seeds", "table.run.seeds=(1, 1)": "seeds"}),
    (TABLE, "choice", {"table.run.rows=('best',)": "best", "table.run.chosen='best'": "best"}),
    (TABLE, "content", {"HAND_MADE=('DIR/unknown_operation.json',)": "unknown_operation"}),
    (EXPORT, "choice", {"--model=DIR/kind": "os.system"}),
]


def cases(table):
    flat = [(command, given, code, named) for command, code, group in table for given, named in group.items()]
    return pytest.mark.parametrize(("command", "given", "code", "named"), flat)


def refused(command, given, bad, workdir, capfd):
    """Runs a command that must be refused; returns the code of the refusal and its line."""
    parts = given.replace("DIR", str(bad)).split("; ")
    given = [part if part.startswith("--") else f"--gin_param={part}" for part in parts]
    codes = []
    parse_and_run = launch.parse_and_run

    def noting_the_code(arguments):
        try:
            parse_and_run(arguments)
        except (UserError, flags.Error) as error:
            codes.append("flag" if isinstance(error, flags.Error) else error.code)
            raise

    capfd.readouterr()
    with mock.patch.object(launch, "parse_and_run", noting_the_code):
        assert launch.main([*command.split(), "--num_devices=1", f"--workdir={workdir}", *given]) == 2
    output, error = capfd.readouterr()
    lines = [line for line in error.splitlines() if not line.startswith("WARNING")]
    assert len(lines) == 1 and lines[0].startswith("error: "), error
    assert "Traceback" not in output + error
    return codes[0], lines[0]


def files_of(workdir):
    """What a workdir holds, without what names the last command."""
    return {
        str(path.relative_to(workdir)): path.read_bytes() if path.is_file() else None
        for path in workdir.rglob("*")
        if path.name not in ("config.gin", "lock.json")
    }


@cases(BEFORE_ANYTHING)
def test_what_cannot_be_is_refused_before_anything_is_written(command, given, code, named, bad, tmp_path, capfd):
    found, line = refused(command, given, bad, tmp_path / "my run", capfd)
    assert found == code and named in line, line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "environment",
    [
        {"TF_CONFIG": "{"},
        {"TF_CONFIG": "[" * 100_000},
        {"TF_CONFIG": '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1e400}}'},
        {"SLURM_STEP_NUM_TASKS": "two"},
    ],
)
def test_a_wrong_description_of_machines_is_refused(environment, bad, tmp_path, capfd):
    with mock.patch.dict(os.environ, environment):
        code, line = refused(SEARCH, "SEARCH_EPOCHS=1", bad, tmp_path / "run", capfd)
    assert code == "machines" and next(iter(environment)) in line
    assert not list(tmp_path.iterdir())


@pytest.fixture
def workdir(tmp_path):
    """A workdir in which the data stage is done; the photographs are not there."""
    records = tuple(
        Record(f"{tmp_path}/{i:04d}_c1s1_{n:06d}_01.jpg", i, 1) for i in range(1, IDENTITIES + 1) for n in range(IMAGES)
    )
    run = tmp_path / "my run"
    (run / "data").mkdir(parents=True)
    save(ReIDData("made up", records, records[:2], records[2:]), run / "data" / "dataset.json")
    return run


@cases(WITH_DATA)
def test_what_does_not_fit_the_data_leaves_the_workdir_as_it_was(command, given, code, named, bad, workdir, capfd):
    before = files_of(workdir)
    found, line = refused(command, given, bad, workdir, capfd)
    assert found == code and named in line, line
    assert files_of(workdir) == before


@cases(WITH_TEACHER)
def test_what_does_not_fit_leaves_also_the_teacher_as_it_was(command, given, code, named, bad, workdir, capfd):
    (workdir / "teacher").mkdir()
    np.save(workdir / "teacher" / "logits.npy", np.zeros((IDENTITIES * IMAGES, IDENTITIES), "float32"))
    (workdir / "teacher" / "teacher.json").write_text(json.dumps({"kind": "table"}))
    before = files_of(workdir)
    found, line = refused(command, given, bad, workdir, capfd)
    assert found == code and named in line, line
    assert files_of(workdir) == before


@pytest.mark.parametrize("content", ["", "[" * 200_000, '{"name": 1}', "\0"])
def test_a_damaged_index_is_named(content, bad, workdir, capfd):
    (workdir / "data" / "dataset.json").write_text(content)
    before = files_of(workdir)
    code, line = refused(SEARCH, "SEARCH_EPOCHS=1", bad, workdir, capfd)
    assert code == "damaged" and "dataset.json" in line
    assert files_of(workdir) == before


@pytest.mark.parametrize("name", ["misnamed", "split", "empty"])
def test_a_folder_that_is_no_data_set_leaves_nothing_of_the_stage(name, bad, tmp_path, capfd):
    code, line = refused(SEARCH, f"--data_dir=DIR/{name}", bad, tmp_path / "run", capfd)
    assert code == "content" and name in line
    assert not files_of(tmp_path / "run")
