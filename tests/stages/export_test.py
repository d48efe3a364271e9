"""The export stage: from a run's folder to a folder that a server polls."""

import contextlib
import dataclasses
import json
import pathlib
import re
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kdas_tf import genotype
from kdas_tf.data import market1501, records
from kdas_tf.data.records import ReIDData
from kdas_tf.errors import UserError
from kdas_tf.models import saved
from kdas_tf.models.networks import Student
from kdas_tf.stages import evaluate, export
from tests.data import miniatures
from tests.serving import networks
from tests.stages import small

SIZE = (32, 16)


def make_run(workdir, *, with_data=True):
    """A run with data and a network, as the train stage leaves it."""
    if with_data:
        data = market1501.read(miniatures.market1501(workdir / "photographs"))
        (workdir / "data").mkdir()
        records.save(data, workdir / "data" / "dataset.json")
    save_network(workdir, seed=0)
    (workdir / "train" / "train.json").write_text('{"epochs": 7}')
    return workdir


def save_network(workdir, seed):
    keras.utils.set_random_seed(seed)
    network = Student(genotype.AUTO_REID, 4, image_size=SIZE, channels=4, cells=1, reductions=())
    saved.save(networks.untrained(network, seed), workdir / "train", image_size=SIZE)


def run(workdir, **arguments):
    export.run(small.job(workdir), **arguments)
    return json.loads((workdir / "export" / "export.json").read_text())


def judge(workdir, **arguments):
    (workdir / "evaluate").mkdir(parents=True)
    evaluate.run(small.job(workdir), shown_queries=1, **arguments)
    return json.loads((workdir / "evaluate" / "results.json").read_text())


def card(result):
    with open(f"{result['path']}/assets.extra/model_card.md", encoding="utf-8") as file:
        return file.read()


def files_of(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@contextlib.contextmanager
def polling(folder):
    """Looks at a folder as a server does: gives the (version, files) that were there, again and again."""
    stop, seen = threading.Event(), []

    def poll():
        while not stop.wait(0.001):
            seen.extend((version.name, files_of(version)) for version in (folder.iterdir() if folder.exists() else ()))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield seen
        stop.wait(0.1)
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def judged(trained):
    return judge(trained)


@pytest.fixture(scope="module")
def exported(trained, judged):
    """What the stage says, and what a server saw meanwhile."""
    with polling(trained / "export" / "kdas_reid") as seen:
        result = run(trained)
    return result, seen


def test_a_run_is_exported_with_all_its_papers(trained, exported):
    result, folder = exported[0], trained / "export" / "kdas_reid" / "1"
    assert result["path"] == str(folder)
    assert (result["version"], result["embedding_size"], result["normalizations"]) == (1, 16, 0)
    assert result["compared_on"].endswith(" photographs")
    assert 0 < result["difference"] < 1e-5
    assert result["bytes"] == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    expected = {"kdas_reid", "models.config", "batching.config", "monitoring.config", "export.json"}
    assert {path.name for path in (trained / "export").iterdir()} == expected
    assert files_of(folder / "assets.extra") >= {"model_card.md", "genotype.png"}
    assert result["weights"] in card(result)
    assert '"epochs": 7' in card(result)


def test_a_server_never_sees_half_an_export(trained, exported):
    whole = files_of(trained / "export" / "kdas_reid" / "1")
    assert exported[1]
    assert all(version == "1" and files == whole for version, files in exported[1])


def test_the_card_has_the_numbers_of_the_evaluate_stage(exported, judged):
    assert f"| mAP | {100 * judged['mAP']:.1f} |" in card(exported[0])
    assert "| false-positive rate at most |" in card(exported[0])


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ({"flip": True}, "32x16 pixels (height x width), averaged with their mirror images, float32"),
        ({"image_size": (40, 20)}, "40x20 pixels (height x width), not mirrored, float32"),
    ],
)
def test_the_card_has_no_numbers_that_were_measured_in_another_way_than_the_network_is_served(tmp_path, way, told):
    make_run(tmp_path)
    results = judge(tmp_path, **way)
    conditions = {"image_size": [32, 16], "flip": False, "precision": "float32"}
    conditions |= {name: list(value) if isinstance(value, tuple) else value for name, value in way.items()}
    assert results["conditions"] == conditions
    assert json.loads((tmp_path / "evaluate" / "verification.json").read_text())["conditions"] == conditions
    assert told in (tmp_path / "evaluate" / "report.html").read_text()
    text = card(run(tmp_path, compared=1))
    assert f"judged this network in another way ({told}) than it is served (32x16 pixels" in text
    assert "| mAP |" not in text and "None were measured" in text


def test_a_network_is_not_exported_twice(trained, exported, capsys):
    assert run(trained) == exported[0]
    assert "done before" in capsys.readouterr().out
    assert [path.name for path in (trained / "export" / "kdas_reid").iterdir()] == ["1"]


def test_without_data_and_without_the_package_of_the_format_there_is_an_export(tmp_path, monkeypatch, capsys):
    make_run(tmp_path, with_data=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = run(tmp_path / "elsewhere", model=str(tmp_path / "train"), compared=4)
    assert result["warmup_requests"] == 0
    assert "tensorflow-serving-api is needed" in capsys.readouterr().out
    assert result["compared_on"] == "4 random images"
    assert "Not known" in card(result)
    assert "was not judged" in card(result)


@pytest.mark.slow
def test_another_network_becomes_the_next_version(tmp_path):
    make_run(tmp_path, with_data=False)
    first = run(tmp_path, compared=1)
    save_network(tmp_path, seed=1)
    second = run(tmp_path, compared=1)
    assert second["version"] == 2
    assert second["sha256"] != first["sha256"]
    assert run(tmp_path, version=7, compared=1)["version"] == 7
    with open(f"{tmp_path}/export/kdas_reid/7/saved_model.pb", "ab") as file:
        file.write(b"damage")
    assert run(tmp_path, compared=1)["version"] == 8
    assert run(tmp_path, name="doors", compared=1)["version"] == 1
    names = re.findall('name: "(.*)"', (tmp_path / "export" / "models.config").read_text())
    assert set(names) == {"kdas_reid", "doors"}


def test_a_version_that_was_published_before_its_process_was_killed_is_not_made_again(tmp_path, capsys):
    make_run(tmp_path, with_data=False)
    first = run(tmp_path, compared=1)
    (tmp_path / "export" / "export.json").unlink()
    (tmp_path / "export" / "models.config").unlink()
    again = run(tmp_path, compared=1)
    assert again == first
    assert "done before" in capsys.readouterr().out
    assert (tmp_path / "export" / "models.config").exists()


def test_an_export_without_copies_is_there_where_one_with_copies_is(tmp_path):
    make_run(tmp_path, with_data=False)
    both = run(tmp_path, runtimes=("onnx", "litert_float32"), compared=2)
    assert run(tmp_path, compared=2) == run(tmp_path, runtimes=("litert_float32",), compared=2) == both
    assert run(tmp_path, runtimes=("onnx", "litert_float16"), compared=2)["version"] == 2


def test_other_runtimes_get_copies_that_the_evaluate_stage_judges_too(trained, judged, tmp_path, capsys):
    result = run(tmp_path, model=str(trained / "train"), runtimes=("onnx", "onnx_int8"), calibrated=8, judged=None)
    copies = result["copies"]
    copy, path = copies["onnx"], pathlib.Path(result["path"]) / copies["onnx"]["file"]
    assert path.stat().st_size == copy["bytes"]
    assert copy["difference"] < 1e-5 < copy["milliseconds"]
    assert copies["judged_on"]["mAP"] == pytest.approx(judged["mAP"])
    assert copy["mAP_drop"] == copies["judged_on"]["mAP"] - copy["mAP"]
    drop = abs(100 * copy["mAP_drop"])
    assert f"mAP {100 * copy['mAP']:.2f} %, {drop:.2f} points" in capsys.readouterr().out
    found = judge(tmp_path, model=str(path), data_dir=str(trained / "photographs"))
    assert found["mAP"] == pytest.approx(copy["mAP"])
    assert found["subject"] == "float32.onnx (onnx)"
    assert 0.9 < copies["onnx_int8"]["cosine"] < 1
    assert copies["onnx_int8"]["mAP_drop"] == pytest.approx(judged["mAP"] - copies["onnx_int8"]["mAP"])


def test_without_photographs_a_copy_is_not_judged(tmp_path, capsys):
    make_run(tmp_path, with_data=False)
    copies = run(tmp_path, runtimes=("onnx",), compared=2)["copies"]
    assert (copies["judged_on"], copies["onnx"]["mAP"], copies["onnx"]["mAP_drop"]) == (None, None, None)
    assert "mAP of the copies not judged, for want of queries and a gallery" in capsys.readouterr().out


@pytest.mark.slow
def test_a_network_of_mixed_precision_is_exported_in_float32(tmp_path):
    make_run(tmp_path, with_data=False)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        result = run(tmp_path)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    signature = tf.saved_model.load(result["path"]).signatures["serving_default"]
    expected = networks.embeddings(saved.load(tmp_path / "train"), networks.photographs())
    found = signature(images=tf.constant(networks.photographs()))["embedding"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "nowhere"}, "Nothing to export: "),
        ({"model": "exported"}, "is exported already"),
        ({"name": "a/b"}, "Expected the name of a model"),
        ({"version": 0}, "Expected version to be a new number"),
        ({"judged": -1}, "judged at least 0"),
        ({"max_pixels": 255}, "max_pixels to be at least the network's own size"),
        ({"runtimes": ("litert_int8",)}, "int8 needs training photographs"),
        ({"runtimes": ("tensorrt",)}, "Expected runtimes to list some of onnx"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(arguments, message, tmp_path):
    trained = make_run(tmp_path, with_data=False)
    (trained / "exported").mkdir()
    (trained / "exported" / "saved_model.pb").write_bytes(b"")
    given = {name: str(trained / value) if name == "model" else value for name, value in arguments.items()}
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        run(trained, **given)
    assert "\n" not in str(caught.value)
    assert not (trained / "export" / "export.json").exists()
    assert not list(trained.glob("export/*/*"))


def test_photographs_that_the_model_would_refuse_are_not_compared(trained, tmp_path):
    (small_one,) = records.load(trained / "data" / "dataset.json").query[:1]
    with Image.open(small_one.path) as image:
        limit = image.width * image.height
        image.resize((2 * image.width, image.height)).save(tmp_path / "large.png")
    large = dataclasses.replace(small_one, path=str(tmp_path / "large.png"))
    data = ReIDData("two", (), (small_one,), (large,))
    arguments = {"model": str(trained / "train"), "data_dir": "."}
    result = run(tmp_path, **arguments, reader=lambda root: data, max_pixels=limit)
    assert result["compared_on"] == "1 photographs"
    with pytest.raises(UserError, match="all that were tried have more"):
        run(tmp_path / "other", **arguments, reader=lambda root: data, max_pixels=limit - 1)
    assert not list(tmp_path.glob("other/export/*/*"))


def test_a_plan_says_which_version_comes_next(trained, exported):
    arguments = {"name": "kdas_reid", "version": None, "model": None}
    (line,) = export.plan(small.job(trained), None, **arguments)
    assert line == f"exports {trained / 'train'} as {trained / 'export' / 'kdas_reid' / '2'}"
