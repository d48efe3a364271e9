"""The train stage: any architecture, with and without a teacher, stopped and continued."""

import dataclasses
import json

import numpy as np
import pytest

from kdas_tf.data import market1501, records
from kdas_tf.errors import UserError
from kdas_tf.models import saved
from kdas_tf.stages import train
from tests.data import miniatures
from tests.stages import small


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    data = market1501.read(miniatures.market1501(folder / "photographs", train=8, images=4))
    records.save(data, folder / "dataset.json")
    return folder


def run(workdir, data, epochs=2, architecture="AUTO_REID", network=small.CELLS, **arguments):
    workdir.mkdir(parents=True, exist_ok=True)
    if not (workdir / "data").exists():
        (workdir / "data").symlink_to(data)
    train.run(
        small.job(workdir, "train"),
        network=network,
        sampling=dataclasses.replace(small.SAMPLING, identities_per_batch=4),
        fitting=dataclasses.replace(small.ADAM, epochs=epochs),
        architecture=architecture,
        judge_every=1,
        **{"temperature": lambda epoch: 0.0, **arguments},
    )
    return json.loads((workdir / "train" / "train.json").read_text())


@pytest.mark.deterministic
@pytest.mark.slow
def test_a_student_that_is_stopped_and_continued_equals_one_that_never_was(tmp_path, data):
    whole = run(tmp_path / "whole", data, drop_path=0.3)
    with small.stopped_after_the_first_epoch(tmp_path / "parts"):
        run(tmp_path / "parts", data, drop_path=0.3)
    assert not (tmp_path / "parts" / "train" / "train.json").exists()
    parts = run(tmp_path / "parts", data, drop_path=0.3)

    assert whole == parts
    first, second = (saved.load(tmp_path / name / "train") for name in ("whole", "parts"))
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    assert {"mAP", "rank1", "total"} <= set(json.loads(logs[0].splitlines()[-1]))


@pytest.mark.slow
def test_last_and_best_are_kept_with_their_numbers(tmp_path, data):
    content = run(tmp_path, data, epochs=1)
    assert content["results"] == {name: value for name, value in content["best"].items() if name != "epoch"}
    assert content["best"]["epoch"] == 1
    for folder in ("train", "train/best"):
        network = saved.load(tmp_path / folder)
        assert content["parameters"] == sum(v.numpy().size for v in network.trainable_variables)


def test_the_stem_is_an_argument_of_the_stage(tmp_path, data):
    run(tmp_path, data, epochs=1, network=dataclasses.replace(small.CELLS, stem="cifar"), architecture="DARTS_V2")
    assert saved.load(tmp_path / "train").get_config()["stem"] == "cifar"


@pytest.mark.slow
def test_a_network_can_start_from_pre_trained_weights(tmp_path, data, capsys):
    run(tmp_path / "first", data, epochs=1)
    run(tmp_path / "second", data, epochs=1, pretrained=str(tmp_path / "first" / "train"))
    assert "weights taken from" in capsys.readouterr().out
    with pytest.raises(UserError):
        run(tmp_path / "third", data, epochs=1, network=small.STUDENT, pretrained=str(tmp_path / "first" / "train"))


def test_without_a_search_an_architecture_is_needed(tmp_path, data):
    with pytest.raises(UserError, match=r"genotype\.json"):
        run(tmp_path, data, architecture=None)
