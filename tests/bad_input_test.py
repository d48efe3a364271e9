"""What a user can get wrong: each is one line that says what is wrong, exit code 2, and an untouched workdir.

Every case is a command line in which DIR stands for a folder of bad files; NAME=VALUE before it are variables of the
environment. Cases without data
are refused before anything is written. The others find a workdir whose data stage is done: what they leave is what was
there, the configuration of the last command and the name of the process that used it.
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
from PIL import Image

from kdas_tf import genotype as g
from kdas_tf import launch
from kdas_tf.data.records import Record, ReIDData, save
from kdas_tf.models import saved
from kdas_tf.models.networks import Student

SEARCH = ["--gin_file=gin/search.gin", "--gin_file=gin/scale/tiny.gin"]
BASELINE = ["--gin_file=gin/baseline.gin", "--gin_file=gin/scale/tiny.gin"]
TRAIN = ["--gin_file=gin/train.gin", "--gin_file=gin/scale/tiny.gin"]
PRETRAIN = ["--gin_file=gin/pretrain.gin", "--gin_file=gin/scale/tiny.gin", "--gin_param=ARCHITECTURE='ResNet18'"]
EVALUATE = ["--gin_file=gin/evaluate.gin"]
EXPORT = ["--gin_file=gin/export.gin"]
TABLE = ["--gin_file=gin/table1.gin", "--gin_file=gin/scale/tiny.gin"]
IDENTITIES, IMAGES = 8, 4
CELL = [["skip_connect", 0], ["skip_connect", 1]] * 4


class Evil:
    """Opening a pickle of this would leave a trace."""

    def __reduce__(self):
        return (os.system, (f"touch {os.environ['KDAS_TRACE']}",))


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A folder of everything that can be wrong with a file."""
    folder = tmp_path_factory.mktemp("bad files, ünïcode")
    os.environ["KDAS_TRACE"] = str(folder / "trace")
    write_genotypes(folder)
    write_arrays(folder)
    write_networks(folder)
    (folder / "loop").symlink_to("loop")
    (folder / "empty").mkdir()
    (folder / "pages.gin").write_bytes(bytes(range(256)))
    (folder / "itself.gin").write_text(f"include '{folder / 'itself.gin'}'\n")
    (folder / "broken.gin").write_text("search.run.epochs = = 3\n")
    (folder / "nowhere.gin").write_text("from __gin__ import dynamic_registration\nimport kdas_nowhere\n")
    named = folder / "misnamed" / "bounding_box_train"
    named.mkdir(parents=True)
    (named / "person.jpg").touch()
    (folder / "split" / "bounding_box_train").mkdir(parents=True)
    (folder / "classes" / "only_one").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "classes" / "only_one" / "1.png")
    for number in range(8):
        name = folder / "two_classes" / str(number % 2) / f"{number}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(name)
    yield folder
    assert not (folder / "trace").exists(), "a file was able to run code"


def write_genotypes(folder):
    def genotype(name, **content):
        (folder / f"{name}.json").write_text(json.dumps({"normal": CELL, "reduce": CELL, **content}))

    genotype("unknown_operation", normal=[["conv_7x7", 0], *CELL[1:]])
    genotype("cycle", normal=[["skip_connect", 2], *CELL[1:]])
    genotype("missing_node", reduce=CELL[:6])
    genotype("no_pair", reduce=[["skip_connect"], *CELL[1:]])
    genotype("negative", reduce=[["skip_connect", -1], *CELL[1:]])
    genotype("text_source", reduce=[["skip_connect", "1"], *CELL[1:]])
    genotype("concat", concat=[0, 9])
    genotype("more", alpha=[1])
    genotype("version", format="kdas_tf genotype 9")
    (folder / "list.json").write_text("[1, 2]")
    (folder / "cut.json").write_text('{"normal": [["skip')
    (folder / "nested.json").write_text("[" * 200_000)
    (folder / "large.json").write_bytes(b" " * 1_000_001)
    (folder / "binary.json").write_bytes(b"\xff\xfe\x00")
    (folder / "pickle.json").write_bytes(pickle.dumps(Evil()))


def write_arrays(folder):
    names = np.array([f"{i:04d}_c1s1_{n:06d}_01.jpg" for i in range(1, IDENTITIES + 1) for n in range(IMAGES)])
    logits = np.zeros((len(names), IDENTITIES), "float32")
    np.savez(folder / "few_images.npz", images=names[:-1], logits=logits[:-1])
    np.savez(folder / "few_identities.npz", images=names, logits=logits[:, 1:], identities=np.arange(2, IDENTITIES + 1))
    np.savez(folder / "nan.npz", images=names, logits=logits * np.nan)
    np.savez(folder / "flat.npz", images=names, logits=logits.ravel())
    np.savez(folder / "nameless.npz", logits=logits)
    np.savez_compressed(folder / "damaged.npz", images=names, logits=np.random.default_rng(0).normal(size=logits.shape))
    damaged = bytearray((folder / "damaged.npz").read_bytes())
    damaged[600:700] = bytes(100)
    (folder / "damaged.npz").write_bytes(damaged)
    with zipfile.ZipFile(folder / "bomb.npz", "w") as archive:  # says that it holds 4 petabytes
        for name in ("images", "logits"):
            header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + b"\n"
            archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    np.savez(folder / "pickled.npz", images=np.array([Evil()], object), logits=logits)
    (folder / "evil.npz").write_bytes(pickle.dumps(Evil()))
    with zipfile.ZipFile(folder / "outside.npz", "w") as archive:
        archive.writestr("../../trace", b"")
        archive.writestr("/tmp/kdas_outside", b"")
    arrays = {f"{s}_{p}": np.zeros(3, int) for s in ("query", "gallery") for p in ("pids", "camids")}
    features = {f"{split}_features": np.ones((3, 4), "float32") for split in ("query", "gallery")}
    np.savez(folder / "no_features.npz", **arrays)
    np.savez(folder / "short.npz", **arrays, **features | {"query_features": np.ones((2, 4), "float32")})
    np.savez(folder / "wide.npz", **arrays, **features | {"query_features": np.ones((3, 5), "float32")})
    np.savez(folder / "infinite.npz", **arrays, **features | {"query_features": np.full((3, 4), np.inf, "float32")})


def write_networks(folder):
    def network(name, text, weights=b"no weights"):
        (folder / name).mkdir()
        (folder / name / "network.json").write_text(text)
        (folder / name / "network.weights.h5").write_bytes(weights)

    config = {"genotype": json.loads(g.DARTS_V2.to_json()), "num_identities": 3, "image_size": [32, 16]}
    network("kind", json.dumps({"kind": "os.system", "config": {"command": "true"}, "image_size": [32, 16]}))
    network("damaged", '{"kind": ')
    network("deep", "[" * 200_000)
    small = Student(g.DARTS_V2, 3, image_size=(32, 16), channels=4, cells=1, reductions=(0,))
    saved.save(small, folder / "small", image_size=(32, 16))
    shutil.copytree(folder / "small", folder / "other_shape")
    described = (folder / "small" / saved.INDEX).read_text()
    (folder / "other_shape" / saved.INDEX).write_text(described.replace('"channels": 4', '"channels": 8'))
    shutil.copytree(folder / "small", folder / "huge_number")
    (folder / "huge_number" / saved.INDEX).write_text(described.replace("32,", "1e400,"))
    for name in ("evil.h5", "evil.weights.h5", "evil.onnx", "evil.tflite"):
        (folder / name).write_bytes(pickle.dumps(Evil()))
    (folder / "pickled_model").mkdir()
    (folder / "pickled_model" / "saved_model.pb").write_bytes(pickle.dumps(Evil()))
    trace = os.environ["KDAS_TRACE"]
    code = keras.layers.Lambda(lambda x, trace=trace: (__import__("os").system(f"touch {trace!r}"), x)[1])
    keras.Sequential([keras.Input((2,)), code, keras.layers.Dense(1)]).save(folder / "lambda.keras")
    os.remove(trace)  # making it has run it
    network("weights", json.dumps({"kind": "ResNet", "config": {"depth": 18, **config}, "image_size": [32, 16]}))
    (folder / "other_classes").mkdir()
    np.save(folder / "other_classes" / "logits.npy", np.zeros((IDENTITIES * IMAGES, IDENTITIES + 1), "float32"))
    (folder / "other_classes" / "teacher.json").write_text(json.dumps({"kind": "table"}))
    (folder / "unfinished").mkdir()
    (folder / "deep_teacher").mkdir()
    (folder / "deep_teacher" / "teacher.json").write_text("[" * 200_000)


pytestmark = pytest.mark.usefixtures("as_before")


def param(text):
    return f"--gin_param={text}"


STEP = ["SLURM_PROCID=0", "SLURM_STEP_NUM_TASKS=2", "SLURM_STEP_NODELIST=a[1-2]", "SLURM_JOB_ID=7"]

BEFORE_ANYTHING = [
    # flags
    ([*SEARCH, "--seed=1.5"], "--seed=1.5"),
    ([*SEARCH, "--seed=-3"], "--seed=-3"),
    ([*SEARCH, "--num_devices=two"], "--num_devices=two"),
    ([*SEARCH, "--logical_cpus=-1"], "Expected --logical_cpus to be at least 1, got -1"),
    ([*SEARCH, "--mixed_precision=half"], "float32|mixed_bfloat16|mixed_float16"),
    ([*SEARCH, "--deterministic=very"], "--deterministic=very"),
    ([*SEARCH, "--data_dir=DIR/nowhere"], "nowhere is no folder"),
    ([*SEARCH, "--data_dir=DIR/list.json"], "list.json is no folder"),
    ([*SEARCH, "--data_dir=DIR/loop"], "loop is no folder"),
    ([*SEARCH, "--model=DIR/kind"], "none reads it"),
    ([*EVALUATE, "--model=DIR/nowhere"], "Expected --model to be the folder of a network, or an exported file, but"),
    ([*EVALUATE, "--embeddings=DIR/empty"], "empty is no file"),
    ([*SEARCH, "--workdirs=x"], "Unknown command line flag 'workdirs'"),
    ([*SEARCH, "search"], "Expected only flags, got 'search'"),
    # .gin files
    (["--gin_file=DIR/nowhere_at_all.gin"], "nowhere_at_all.gin"),
    (["--gin_file=DIR/pages.gin"], "pages.gin"),
    (["--gin_file=DIR/itself.gin"], "itself.gin"),
    (["--gin_file=DIR/broken.gin"], "broken.gin"),
    (["--gin_file=DIR/nowhere.gin"], "No module named 'kdas_nowhere'"),
    (["--gin_file=DIR/loop"], "loop"),
    (["--gin_file=DIR/empty"], "empty"),
    # bindings: names and types
    ([*SEARCH, param("SEARCH_EPOCHS")], "SEARCH_EPOCHS"),
    ([*SEARCH, param("SEARCH_EPOCHS=")], "SEARCH_EPOCHS="),
    ([*SEARCH, param("SEARCH_EPOCHS=__import__('os')")], "SEARCH_EPOCHS=__import__"),
    ([*SEARCH, param("SEARCH_EPOCHS='many'")], "Expected search.run.epochs to be of type int, got 'many'"),
    ([*SEARCH, param("SEARCH_EPOCHS=2.5")], "Expected search.run.epochs to be of type int, got 2.5"),
    ([*SEARCH, param("SEARCH_EPOCHS=True")], "got True"),
    ([*SEARCH, param("SEARCH_EPOCHS=None")], "got None"),
    ([*SEARCH, param("IMAGE_SIZE=(32,)")], "image_size to be of type"),
    ([*SEARCH, param("IMAGE_SIZE=32")], "image_size to be of type"),
    ([*SEARCH, param("REDUCTIONS=1")], "reductions to be of type"),
    ([*SEARCH, param("search.run.epoch=3")], "doesn't have a parameter named 'epoch'"),
    ([*SEARCH, param("searching.run.epochs=3")], "searching"),
    ([*SEARCH, param("SEARCH_EPOCH=3")], "Nothing reads the macro SEARCH_EPOCH"),
    ([*SEARCH, param("search.run.seed=3")], "Give --seed instead"),
    ([*SEARCH, param("search.run.keep_checkpoints=3")], "Give launch.run.keep_checkpoints instead"),
    ([*SEARCH, param("search.run.temperature=1.0")], "temperature to be of type"),
    ([*SEARCH, param("search.run.image_cache_gb=2.0")], "Give launch.run.image_cache_gb instead"),
    ([*SEARCH, param("launch.run.image_cache_gb='8'")], "image_cache_gb to be of type float, got '8'"),
    ([*SEARCH, param("launch.run.image_cache_gb=True")], "got True"),
    ([*SEARCH, param("launch.run.deterministic='no'")], "deterministic to be of type bool, got 'no'"),
    ([*SEARCH, param("search.run.rematerialize=1")], "rematerialize to be of type bool, got 1"),
    ([*SEARCH, param("search.run.synchronized_batch_norm='yes'")], "to be of type bool, got 'yes'"),
    ([*SEARCH, param("teacher.run.synchronized_batch_norm=None")], "to be of type bool, got None"),
    ([*TRAIN, param("train.run.synchronized_batch_norm=0")], "to be of type bool, got 0"),
    ([*TABLE, param("table.run.seeds=3")], "table.run.seeds to be of type"),
    ([*TABLE, param("table.run.rows='dynamic'")], "table.run.rows to be of type"),
    ([*TABLE, param("table.run.search_temperatures=(1, 2)")], "search_temperatures to be of type"),
    # what says which machines train together
    *(
        ([*settings, *SEARCH], expected)
        for settings, expected in [
            (["TF_CONFIG={"], "Expected TF_CONFIG like"),
            (["TF_CONFIG=" + "[" * 100_000], "RecursionError"),
            (
                ['TF_CONFIG={"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1e400}}'],
                "infin",
            ),
            (['TF_CONFIG={"cluster": {"worker": ["a", "b"]}, "task": {"type": "worker", "index": 0}}'], "got 'a'"),
            (["SLURM_STEP_NUM_TASKS=two"], "SLURM_PROCID is not set"),
            ([*STEP, "SLURM_STEP_NUM_TASKS=two"], "Expected SLURM_STEP_NUM_TASKS from srun to be a number, got 'two'"),
            ([*STEP, "SLURM_PROCID=-1"], "Expected SLURM_PROCID from srun to be a number, got '-1'"),
            ([*STEP, "SLURM_PROCID=2"], "Expected SLURM_PROCID below the number of tasks, 2, got 2"),
            ([*STEP, "SLURM_STEP_NODELIST=a[1-"], "Expected a list of nodes like"),
            ([*STEP, "SLURM_STEP_NODELIST=a[,]"], "Expected a list of nodes like"),
        ]
    ),
    # bindings: ranges
    *(
        ([*files, param(f"{name}={value}")], f"Expected {shown} to be {expected}")
        for files, name, shown, value, expected in [
            (SEARCH, "SEARCH_EPOCHS", "search.run.epochs", 0, "at least 1"),
            (SEARCH, "SEARCH_EPOCHS", "search.run.epochs", -2, "at least 1"),
            (SEARCH, "SEARCH_CHANNELS", "search.run.channels", 0, "at least 1"),
            (SEARCH, "CELLS", "search.run.cells", -1, "at least 1"),
            (SEARCH, "REDUCTIONS", "search.run.reductions", "(-1,)", "at least 0"),
            (SEARCH, "IMAGE_SIZE", "search.run.image_size", "(0, 16)", "at least 8"),
            (SEARCH, "search.run.identities_per_batch", "search.run.identities_per_batch", 0, "at least 1"),
            (SEARCH, "search.run.images_per_identity", "search.run.images_per_identity", -4, "at least 1"),
            (SEARCH, "search.run.learning_rate", "search.run.learning_rate", 0.0, "above 0"),
            (SEARCH, "search.run.learning_rate", "search.run.learning_rate", -0.1, "above 0"),
            (SEARCH, "search.run.alpha_learning_rate", "search.run.alpha_learning_rate", -1, "above 0"),
            (SEARCH, "search.run.beta_weight", "search.run.beta_weight", -1.0, "at least 0"),
            (SEARCH, "search.run.partial_channels", "search.run.partial_channels", 0, "at least 1"),
            (SEARCH, "search.run.max_skip", "search.run.max_skip", -1, "at least 0"),
            (SEARCH, "search.run.parameter_budget", "search.run.parameter_budget", 0, "above 0"),
            (SEARCH, "search.run.picture_every", "search.run.picture_every", 0, "at least 1"),
            (SEARCH, "search.run.measured_batches", "search.run.measured_batches", 0, "at least 1"),
            (
                SEARCH,
                "optimizers.momentum_sgd.momentum",
                "optimizers.momentum_sgd.momentum",
                1.0,
                "at least 0 and below 1",
            ),
            (SEARCH, "optimizers.momentum_sgd.weight_decay", "optimizers.momentum_sgd.weight_decay", -1, "at least 0"),
            (SEARCH, "alpha/optimizers.adam.beta_1", "alpha/optimizers.adam.beta_1", 2, "at least 0 and below 1"),
            (SEARCH, "schedules.linear_temperature.end", "schedules.linear_temperature.end", -1.0, "at least 0"),
            (SEARCH, "objective.Objective.margin", "objective.Objective.margin", -0.3, "at least 0"),
            (SEARCH, "objective.Objective.student_floor", "objective.Objective.student_floor", 0, "above 0"),
            (SEARCH, "transforms.Augmentation.padding", "transforms.Augmentation.padding", -1, "at least 0"),
            (SEARCH, "TEACHER_EPOCHS", "teacher.run.epochs", 0, "at least 1"),
            (SEARCH, "TEACHER_LEARNING_RATE", "teacher.run.learning_rate", -1e-3, "above 0"),
            (SEARCH, "teacher.run.label_smoothing", "teacher.run.label_smoothing", 1.0, "at least 0 and below 1"),
            (SEARCH, "RENDERED_IDENTITIES", "synthetic.RenderedPeople.train_identities", 0, "at least 1"),
            (TRAIN, "TRAIN_EPOCHS", "train.run.epochs", 0, "at least 1"),
            (TRAIN, "JUDGE_EVERY", "train.run.judge_every", 0, "at least 1"),
            (TABLE, "table.run.seeds", "table.run.seeds", "(0, -1)", "at least 0"),
            (TABLE, "table.run.chosen_seed", "table.run.chosen_seed", -1, "at least 0"),
            (TABLE, "table.run.size_tolerance", "table.run.size_tolerance", -0.1, "at least 0"),
            (TRAIN, "train.run.drop_path", "train.run.drop_path", 1.0, "at least 0 and below 1"),
            (EVALUATE, "evaluate.run.batch_size", "evaluate.run.batch_size", 0, "at least 1"),
            (EXPORT, "export.run.max_pixels", "export.run.max_pixels", 0, "at least 1"),
        ]
    ),
    ([*SEARCH, param("launch.run.image_cache_gb=-1")], "Expected launch.run.image_cache_gb of at least 0, got -1"),
    ([*SEARCH, param("launch.run.keep_checkpoints=0")], "Expected launch.run.keep_checkpoints of at least 1, got 0"),
    ([*SEARCH, param("search.run.learning_rate=1e999")], "Expected search.run.learning_rate to be above 0, got inf"),
    ([*PRETRAIN, "--data_dir=DIR/empty", param("PRETRAIN_BATCH_SIZE=0")], "Expected pretrain.run.batch_size to be at"),
]

WITH_DATA = [
    # batches that the data does not fill
    (
        [*SEARCH, param("teacher.run.identities_per_batch=99")],
        "at least identities_per_batch = 99 identities",
    ),
    # genotypes
    *(
        ([*BASELINE, param(f"ARCHITECTURE='DIR/{file}'")], expected)
        for file, expected in [
            ("unknown_operation.json", "Unknown operation 'conv_7x7' at normal node 2"),
            ("cycle.json", "to be an earlier node, 0 to 1, got 2"),
            ("missing_node.json", "8 pairs (operation, source node), two for each of 4 nodes, got 6"),
            ("no_pair.json", "got ['skip_connect'] at position 0"),
            ("negative.json", "got -1"),
            ("text_source.json", "got '1'"),
            ("concat.json", "Expected concat to be ascending nodes from 2 to 5"),
            ("more.json", "Unknown key 'alpha'"),
            ("version.json", "Expected format 'kdas_tf genotype 1', got 'kdas_tf genotype 9'"),
            ("list.json", "Expected a JSON object"),
            ("cut.json", "does not parse"),
            ("nested.json", "does not parse"),
            ("large.json", "at most 1000000 bytes"),
            ("binary.json", "utf-8"),
            ("pickle.json", "utf-8"),
            ("empty", "genotype.json"),
            ("loop", "genotype.json"),
            ("nowhere ü.json", "nowhere ü.json"),
            ("nu\\0ll.json", "to be one of ResNet18"),
        ]
    ),
    ([*BASELINE, param("ARCHITECTURE='ResNet19'")], "Expected an architecture to be one of ResNet18"),
    ([*BASELINE, param("train.run.pretrained='DIR/damaged'")], "cannot be read"),
    ([*BASELINE, param("train.run.pretrained='DIR/small'")], "not of the same architecture"),
    # teachers
    *(
        ([*SEARCH, param(f"teacher.run.logits='DIR/{file}'")], expected)
        for file, expected in [
            ("few_images.npz", "lacks 1 images, the first 0008_c1s1_000003_01.jpg"),
            ("few_identities.npz", "1 identities, the first 1"),
            ("nan.npz", "with values that are not finite"),
            ("flat.npz", "got shape (256,)"),
            ("nameless.npz", "images"),
            ("nu\\0ll.npz", "null byte"),
            ("damaged.npz", "cannot be read"),
            ("bomb.npz", "cannot be read"),
            ("pickled.npz", "Object arrays cannot be loaded when allow_pickle=False"),
            ("evil.npz", "cannot be read"),
            ("outside.npz", "cannot be read"),
            ("empty", "cannot be read"),
            ("loop", "cannot be read"),
        ]
    ),
    (
        [*SEARCH, param("teacher.run.reuse='DIR/other_classes'")],
        "is of 9 identities and 32 images, this data",
    ),
    ([*SEARCH, param("teacher.run.reuse='DIR/unfinished'")], "teacher folder of a finished run"),
    ([*SEARCH, param("teacher.run.reuse='nu\\0ll'")], "teacher folder of a finished run"),
    ([*SEARCH, param("teacher.run.reuse='DIR/small'")], "teacher folder of a finished run"),
    ([*SEARCH, param("teacher.run.reuse='DIR/deep_teacher'")], "nested too deeply"),
    ([*SEARCH, param("teacher.run.view='mirrored'")], "Expected teacher.run.view to be one of"),
    ([*SEARCH, param("BACKBONE='ResNet49'")], "ResNet49"),
    *(
        ([*SEARCH, param(f"BACKBONE_WEIGHTS='DIR/{file}'")], expected)
        for file, expected in [
            ("nowhere.h5", "there is no file"),
            ("nu\\0ll.h5", "there is no file"),
            ("evil.h5", "do not fit MobileNetV2 without top"),
            ("evil.weights.h5", "do not fit MobileNetV2 without top"),
            ("lambda.keras", "do not fit MobileNetV2 without top"),
            ("small/network.weights.h5", "do not fit MobileNetV2 without top"),
        ]
    ),
    # what is judged
    *(
        ([*EVALUATE, f"--embeddings=DIR/{file}"], expected)
        for file, expected in [
            ("no_features.npz", "it lacks query_features, gallery_features"),
            ("short.npz", "query"),
            ("wide.npz", "5"),
            ("infinite.npz", "finite"),
            ("evil.npz", "another kind of file"),
            ("bomb.npz", "it lacks"),
            ("pickled.npz", "it lacks"),
        ]
    ),
    ([*EVALUATE, "--model=DIR/kind"], "to be one of Student, Teacher, ResNet, got 'os.system'"),
    ([*EVALUATE, "--model=DIR/damaged"], "cannot be read"),
    ([*EVALUATE, "--model=DIR/deep"], "nested too deeply"),
    ([*EVALUATE, "--model=DIR/weights"], "cannot be loaded"),
    ([*EVALUATE, "--model=DIR/other_shape"], "cannot be loaded"),
    ([*EVALUATE, "--model=DIR/huge_number"], "cannot be read"),
    ([*EVALUATE, "--model=DIR/lambda.keras"], "cannot be read"),
    ([*EVALUATE, "--model=DIR/evil.onnx"], "cannot be loaded"),
    ([*EVALUATE, "--model=DIR/evil.tflite"], "cannot be loaded"),
    ([*EVALUATE, "--model=DIR/pickled_model", param("evaluate.run.image_size=(32, 16)")], "it cannot be loaded"),
    ([*EVALUATE, "--model=DIR/empty"], "empty"),
    # images to pre-train on
    ([*PRETRAIN, "--data_dir=DIR/empty"], "empty"),
    ([*PRETRAIN, "--data_dir=DIR/classes"], "classes"),
    ([*PRETRAIN, "--data_dir=DIR/empty", param("pretrain.run.source='web'")], "to be one of folder, tfds, got 'web'"),
    ([*PRETRAIN, "--data_dir=DIR/two_classes", param("PRETRAIN_IMAGE_SIZE=(8, 0)")], "image_size"),
    ([*PRETRAIN, "--data_dir=DIR/classes", param("pretrain.run.held_out=1.0")], "held_out between 0 and 1"),
]

WITH_TEACHER = [
    (SEARCH, "Expected 32 readable images, as when they were verified, but 32 no longer are"),
    # networks that cannot be
    ([*SEARCH, param("CELLS=1"), param("REDUCTIONS=(5,)")], "reductions"),
    ([*SEARCH, param("STEM='inet5'")], "inet5"),
    ([*SEARCH, param("IMAGE_SIZE=(8, 8)")], "cuts its input into 4 strips and needs as many rows, got 2"),
    ([*SEARCH, param("search.run.partial_channels=3")], "partial_channels"),
    ([*SEARCH, param("search.run.alpha_warmup_epochs=2")], "alpha_warmup_epochs from 0 to 1"),
    ([*SEARCH, param("search.run.parameter_budget=1.0")], "Expected a parameter_budget above"),
    # rows of a table
    ([*TABLE, param("table.run.seeds=()")], "seeds to be different whole numbers"),
    ([*TABLE, param("table.run.seeds=(1, 1)")], "seeds to be different whole numbers"),
    ([*TABLE, param("table.run.rows=('best',)")], "got 'best'"),
    ([*TABLE, param("table.run.chosen='best'")], "best"),
    ([*TABLE, param("HAND_MADE=('DIR/cycle.json',)")], "to be an earlier node"),
    ([*EXPORT, "--model=DIR/kind"], "os.system"),
]


def files_of(workdir):
    """What a workdir holds, without what names the last command."""
    return {
        str(path.relative_to(workdir)): path.read_bytes() if path.is_file() else None
        for path in workdir.rglob("*")
        if path.name not in ("config.gin", "lock.json")
    }


def refused(arguments, bad, workdir, capfd):
    """Runs a command that must be refused; returns its line."""
    settings = dict(argument.split("=", 1) for argument in arguments if argument.startswith(("TF_CONFIG=", "SLURM_")))
    flags = [argument.replace("DIR", str(bad)) for argument in arguments if argument.split("=")[0] not in settings]
    capfd.readouterr()
    with mock.patch.dict(os.environ, settings):
        assert launch.main([*flags, "--num_devices=1", f"--workdir={workdir}"]) == 2
    output, error = capfd.readouterr()
    lines = [line for line in error.splitlines() if not line.startswith("WARNING")]
    assert len(lines) == 1 and lines[0].startswith("error: "), error
    assert "Traceback" not in output + error
    return lines[0]


@pytest.mark.parametrize(("arguments", "expected"), BEFORE_ANYTHING, ids=lambda value: str(value)[-60:])
def test_what_cannot_be_is_refused_before_anything_is_written(arguments, expected, bad, tmp_path, capfd):
    assert expected in refused(arguments, bad, tmp_path / "my run", capfd)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def workdir(tmp_path):
    """A workdir in which the data stage is done."""
    records = tuple(
        Record(f"{tmp_path}/{i:04d}_c1s1_{n:06d}_01.jpg", i, 1) for i in range(1, IDENTITIES + 1) for n in range(IMAGES)
    )
    run = tmp_path / "my run"
    (run / "data").mkdir(parents=True)
    save(ReIDData("made up", records, records[:2], records[2:]), run / "data" / "dataset.json")
    return run


@pytest.mark.parametrize(("arguments", "expected"), [*WITH_DATA, *WITH_TEACHER], ids=lambda value: str(value)[-60:])
def test_a_file_or_number_that_does_not_fit_leaves_the_workdir_as_it_was(arguments, expected, bad, workdir, capfd):
    if (arguments, expected) in WITH_TEACHER or arguments[0] == BASELINE[0]:  # their teacher is done, too
        (workdir / "teacher").mkdir()
        np.save(workdir / "teacher" / "logits.npy", np.zeros((IDENTITIES * IMAGES, IDENTITIES), "float32"))
        (workdir / "teacher" / "teacher.json").write_text(json.dumps({"kind": "table"}))
    before = files_of(workdir)
    assert expected in refused(arguments, bad, workdir, capfd)
    assert files_of(workdir) == before


@pytest.mark.parametrize("content", ["", "[" * 200_000, '{"name": 1}', "\0"])
def test_an_index_that_is_damaged_is_named(content, bad, workdir, capfd):
    (workdir / "data" / "dataset.json").write_text(content)
    before = files_of(workdir)
    assert "dataset.json" in refused(SEARCH, bad, workdir, capfd)
    assert files_of(workdir) == before


@pytest.mark.parametrize("name", ["misnamed", "split", "empty"])
def test_a_folder_that_is_no_data_set_leaves_nothing_of_the_stage(name, bad, tmp_path, capfd):
    line = refused([*SEARCH, f"--data_dir=DIR/{name}"], bad, tmp_path / "run", capfd)
    assert name in line
    assert not files_of(tmp_path / "run")


def test_there_are_enough_cases():
    assert len(BEFORE_ANYTHING) + len(WITH_DATA) >= 60
