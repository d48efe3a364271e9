"""Pre-training on a small folder of class folders: run, stopped and continued, and handed on."""

import dataclasses
import json
import re

import numpy as np
import pytest
from PIL import Image

from kdas_tf.data import verify
from kdas_tf.errors import UserError
from kdas_tf.models import baselines, saved
from kdas_tf.models.transfer import start_from
from kdas_tf.stages import pretrain
from tests.stages import small

COLOURS = {"blue": (40, 60, 220), "green": (30, 200, 60), "red": (220, 40, 30), "yellow": (230, 220, 40)}
NETWORK = dataclasses.replace(small.CELLS, image_size=(16, 16))
FITTING = dataclasses.replace(small.SGD, final_learning_rate=0.0, label_smoothing=0.1)


def make_images(root, images=12):
    """A class is a colour, under noise, shades and stripes, in images of any size."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for number in range(images):
            height, width = random.integers(20, 40, 2)
            stripes = np.sin(np.arange(width) * random.uniform(0.2, 1.0))[:, None] * 30
            pixels = np.array(colour) * random.uniform(0.6, 1.1) + stripes + random.normal(0, 20, (height, width, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / name / f"{number}.jpg")
    return root


def run(workdir, data_dir, epochs=2, network=NETWORK, **arguments):
    pretrain.run(
        small.job(workdir, "pretrain"),
        data_dir=str(data_dir),
        network=network,
        fitting=dataclasses.replace(FITTING, epochs=epochs),
        **{"architecture": "DARTS_V2", "batch_size": 8, "held_out": 0.25, **arguments},
    )
    return workdir / "pretrain"


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_network_learns_the_classes_and_another_one_starts_from_it(tmp_path, capsys):
    data = make_images(tmp_path / "colours")
    (data / "red" / "broken.jpg").write_text("no image")
    folder = run(tmp_path / "run", data, epochs=6)

    result = json.loads((folder / pretrain.RESULT).read_text())
    assert (result["classes"], result["train_images"], result["val_images"]) == (4, 36, 12)
    assert result["results"]["top1"] >= 75 and result["results"]["top5"] == 100
    entries = lines(tmp_path / "run")
    tops = [entry["val_top1"] for entry in entries]
    assert result["results"]["top1"] == pytest.approx(tops[-1], abs=1e-3)
    assert result["best"]["top1"] == pytest.approx(max(tops), abs=1e-3)
    assert result["best"]["epoch"] == tops.index(max(tops)) + 1
    cosine = [0.1 * 0.5 * (1 + np.cos(np.pi * epoch / 6)) for epoch in range(6)]
    assert [entry["learning_rate"] for entry in entries] == pytest.approx(cosine, rel=1e-5)
    index = json.loads((folder / pretrain.INDEX).read_text())
    assert [reason.partition(":")[0] for _, reason in index["skipped"]] == ["damaged"]
    assert any((tmp_path / "run" / "tensorboard" / "pretrain").iterdir())
    assert "4 classes, 36 images to train on, 12 to judge by; left out: 1 damaged" in capsys.readouterr().out

    # What is said of the last network is what it does: the images to judge by, cut by hand.
    network = saved.load(folder)
    hits = []
    for label, name in enumerate(sorted(COLOURS)):
        for path in (path for held, names in index["val"].items() if held.endswith(name) for path in names):
            image = Image.open(data / name / path)
            side = round(224 / 256 * min(image.size))
            left, top = (image.width - side) // 2, (image.height - side) // 2
            cut = image.crop((left, top, left + side, top + side)).resize((16, 16), Image.Resampling.BILINEAR)
            hits.append(np.argmax(network(np.asarray(cut, "float32")[None]).logits) == label)
    assert 100 * np.mean(hits) == pytest.approx(result["results"]["top1"], abs=10)  # Pillow resizes otherwise

    people = baselines.make("DARTS_V2", 9, image_size=(32, 16), channels=4, cells=2, reductions=(1,))
    assert start_from(people, folder) == start_from(people, folder / "best") == len(people.weights) - 1


@pytest.mark.deterministic
@pytest.mark.slow
def test_a_run_that_is_stopped_and_continued_equals_one_that_never_was(tmp_path, monkeypatch):
    data = make_images(tmp_path / "colours", images=6)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, data, epochs=3)
    with small.stopped_after_the_first_epoch(parts):
        run(parts, data, epochs=3)
    assert not (parts / "pretrain" / pretrain.RESULT).exists()
    monkeypatch.setattr(verify, "damages_of", None)  # images are checked once, not again when a run continues
    run(parts, data, epochs=3)

    for name in ("pretrain/pretrain.json", "pretrain/images.json", "pretrain/best/best.json", "metrics.jsonl"):
        assert (whole / name).read_text() == (parts / name).read_text(), name
    for folder in ("pretrain", "pretrain/best"):
        networks = [saved.load(copy / folder) for copy in (whole, parts)]
        for one, other in zip(*(network.weights for network in networks), strict=True):  # statistics, too
            np.testing.assert_array_equal(one, other, err_msg=one.path)


@pytest.mark.deterministic
@pytest.mark.slow
def test_a_run_that_was_stopped_after_its_last_epoch_only_writes_its_result(tmp_path):
    data = make_images(tmp_path / "colours", images=4)
    folder = run(tmp_path / "run", data, epochs=1)
    before = (folder / pretrain.RESULT).read_text()
    (folder / pretrain.RESULT).unlink()
    run(tmp_path / "run", data, epochs=1)
    assert (folder / pretrain.RESULT).read_text() == before


def test_without_a_search_an_architecture_is_needed_before_images_are_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(verify, "damages_of", None)
    with pytest.raises(UserError, match=r"Nothing to pre-train: .* holds no search result"):
        run(tmp_path / "run", make_images(tmp_path / "colours", images=2), architecture=None)
    assert not (tmp_path / "run" / "pretrain" / pretrain.INDEX).exists()


def test_the_plan_says_classes_images_and_parameters(tmp_path):
    data = make_images(tmp_path / "colours", images=4)
    first, second, third = pretrain.plan(
        small.job(tmp_path),
        None,
        data_dir=str(data),
        network=NETWORK,
        fitting=dataclasses.replace(FITTING, epochs=250),
        source="folder",
        tfds_name="",
        held_out=0.1,
        architecture="DARTS_V2",
        batch_size=256,
    )
    network = baselines.make("DARTS_V2", 4, **NETWORK.arguments())
    millions = float(re.search(r"([\d.]+) M trainable", first).group(1))
    assert "trains DARTS_V2 at 16x16" in first and millions == pytest.approx(
        sum(int(np.prod(v.shape)) for v in network.trainable_variables) / 1e6, abs=0.005
    )
    assert second == "4 classes, 12 images to train on, 4 to judge by"
    assert third == "250 epochs of batches of 256"
    assert not (tmp_path / "pretrain").exists()


def test_an_added_image_changes_what_the_stage_reads(tmp_path):
    data = make_images(tmp_path / "colours", images=4)
    arguments = {"architecture": "DARTS_V2", "source": "folder", "data_dir": str(data), "held_out": 0.1}

    def digest():
        (images,) = pretrain.reads(tmp_path, arguments)
        return images.digest()

    before = digest()
    assert digest() == before
    first = next(data.rglob("*.jpg"))
    first.rename(first.with_name("another.jpg"))
    assert digest() != before
    assert pretrain.reads(tmp_path, {**arguments, "source": "tfds"}) == []
