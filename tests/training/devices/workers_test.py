"""Two processes on the loopback address are a cluster: they compute what one computes, and survive a loss."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.data import market1501
from kdas_tf.data.embedded import synthetic
from kdas_tf.data.records import relabel
from kdas_tf.errors import PeerLost, UserError
from kdas_tf.training.devices import workers
from tests.training.jobs import Job

EPOCHS = 6


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A search of one cell on rendered people, with logits for a teacher."""
    folder = tmp_path_factory.mktemp("people")
    people = synthetic.RenderedPeople(train_identities=16, test_identities=2, image_size=(32, 16), images_per_camera=2)
    synthetic.write_dataset(folder, people)
    train = market1501.read(folder).train
    identities = relabel(train)[1]
    logits = np.random.default_rng(0).normal(size=(len(train), len(identities))).astype("float32")
    names = [Path(record.path).name for record in train]
    np.savez(folder / "logits.npz", images=names, logits=logits, identities=identities)
    bindings = {
        "teacher.run.logits": repr(str(folder / "logits.npz")),
        "CELLS": 1,
        "REDUCTIONS": (0,),
        "SEARCH_EPOCHS": EPOCHS,
        "TEMPERATURE_END_EPOCH": EPOCHS - 1,
        # Small steps: a young network doubles float32's noise with each large one.
        "search/settings.Fitting.learning_rate": 0.005,
        "search.run.alpha_optimizer": "@optimizers.SGD()",
    }
    files = ["--gin_file=gin/search.gin", "--gin_file=gin/scale/tiny.gin", f"--data_dir={folder}"]
    return [*files, *(f"--gin_param={name}={value}" for name, value in bindings.items())]


def metrics(workdir):
    path = workdir / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def names(workdir):
    return {str(p.relative_to(workdir)) for p in workdir.rglob("*") if p.is_file() and "events" not in p.name}


@pytest.mark.slow
def test_a_job_that_is_killed_and_stopped_and_started_again_gives_what_one_process_gives(arguments, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    with Job([*arguments, f"--workdir={one}"], tmp_path, workers=1) as single:
        assert single.wait() == [0], single.said()
    command = [*arguments, f"--workdir={two}"]
    with Job(command, tmp_path) as job:
        job.wait_until(lambda: len(metrics(two)) >= 2)
        job.processes[1].kill()
        assert job.wait() == [75, -9], job.said()
        assert "another machine of the job was lost" in job.said()[0]
    killed_after = len(metrics(two))
    with Job(command, tmp_path) as job:
        job.wait_until(lambda: len(metrics(two)) > killed_after)
        job.processes[1].terminate()  # not the one that writes
        assert job.wait() == [75, 75], job.said()
        assert all("stopped by SIGTERM. To continue: python -m kdas_tf.launch" in said for said in job.said())
        assert "search: continuing after epoch" in job.said()[0]
    assert len(metrics(two)) < EPOCHS
    with Job(command, tmp_path) as again:
        assert again.wait() == [0, 0], again.said()
        assert "search: continuing after epoch" in again.said()[0]
        said = [line for line in again.said()[1].splitlines() if not line.startswith("WARNING")]  # TensorFlow's
        assert said == ["started; what the job does is printed by its first worker"]

    expected, found = metrics(one), metrics(two)
    assert [entry["epoch"] for entry in found] == list(range(1, EPOCHS + 1))
    for number, (before, after) in enumerate(zip(expected, found, strict=True)):
        assert set(before) == set(after)
        tolerance = min(1e-5 * 10**number, 0.02)  # sums over two machines round in another way, and steps magnify it
        for name in set(before) - {"stage"}:
            np.testing.assert_allclose(after[name], before[name], rtol=tolerance, atol=tolerance, err_msg=name)
    alphas = [json.loads((each / "search" / "genotype.json").read_text())["alphas"] for each in (one, two)]
    assert np.ptp(alphas[0]["reduce"]) > 0.2  # they have moved, ten times as far as rounding moves them
    for kind in ("normal", "reduce"):
        np.testing.assert_allclose(alphas[1][kind], alphas[0][kind], atol=0.02)
    assert names(one) == names(two)


def test_a_process_on_its_own_agrees_with_itself():
    strategy = tf.distribute.get_strategy()
    assert workers.all_values(strategy, [1, 0.5]).tolist() == [[1.0, 0.5]]
    assert (workers.number_of_workers(strategy), workers.own_number(strategy)) == (1, 0)
    assert workers.writes(strategy) and workers.alone(strategy) is strategy
    done = []
    workers.run_on_first_worker(strategy, lambda: done.append(1))
    assert done == [1]
    with pytest.raises(UserError, match="no room"):
        workers.run_on_first_worker(strategy, lambda: (_ for _ in ()).throw(UserError("no room")))


def test_the_devices_of_one_process_are_no_workers(two_devices):
    assert (workers.number_of_workers(two_devices), workers.number_of_devices(two_devices)) == (1, 2)
    assert workers.batch_shard_of(two_devices) == (0, 1, 2)


def test_a_lost_worker_is_noticed_where_there_are_several():
    def lose():
        raise tf.errors.UnavailableError(None, None, "Collective ops is aborted by:\n a peer")

    with pytest.raises(PeerLost, match="aborted by: a peer"), workers.noticing_lost_workers(True):
        lose()
    with pytest.raises(tf.errors.UnavailableError), workers.noticing_lost_workers(False):
        lose()


def test_a_file_that_does_not_appear_is_said_to_need_a_shared_file_system(tmp_path):
    (tmp_path / "there").touch()
    workers.wait_for(tmp_path / "there", seconds=0)
    with pytest.raises(UserError, match="a file system that all machines share"):
        workers.wait_for(tmp_path / "absent", seconds=0.3)
