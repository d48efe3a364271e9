import json
import math
import re

import keras
import numpy as np
import pytest

from kdas_tf import schedules
from kdas_tf.errors import UserError
from kdas_tf.training import callbacks
from kdas_tf.training.callbacks import FiniteLoss, MetricsFile, Progress, Scheduled, clock


class Probe(keras.Model):
    """A model whose loss is its temperature at that step: what a compiled step really saw."""

    def __init__(self):
        super().__init__()
        self.temperature = self.add_weight(name="temperature", shape=(), initializer="zeros", trainable=False)
        self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
        self.built = True

    def train_step(self, data):
        self.optimizer.apply([keras.ops.ones(())], [self.scale])
        return {"seen": self.temperature + 0.0, "scale": self.scale + 0.0}


@pytest.fixture
def probe():
    model = Probe()
    model.compile(optimizer=keras.optimizers.SGD(100.0))
    return model


def history(model, *used, epochs=3, **kwargs):
    batches = np.zeros((1, 2), "float32")
    return model.fit(batches, epochs=epochs, verbose=0, callbacks=list(used), **kwargs).history


@pytest.mark.parametrize("start", [0, 1])
def test_every_epoch_trains_at_the_temperature_of_the_schedule_also_after_a_stop(probe, start):
    schedule = Scheduled(probe.temperature, schedules.LinearTemperature(end_epoch=2), logged_as="temperature")
    logged = history(probe, schedule, initial_epoch=start)
    assert logged["seen"] == logged["temperature"] == [2, 1, 0][start:]


def test_every_epoch_trains_at_the_learning_rate_of_the_schedule(probe):
    inner = keras.optimizers.SGD(100.0)
    probe.compile(optimizer=keras.optimizers.LossScaleOptimizer(inner, initial_scale=1.0))
    rates = [0.5, 0.25, 0.125]
    logged = history(probe, Scheduled(probe.optimizer.learning_rate, lambda epoch: rates[epoch]))
    assert set(logged) == {"seen", "scale"}
    # The gradient is 1: the scale falls by the learning rate, from 1.
    np.testing.assert_allclose(logged["scale"], [0.5, 0.25, 0.125])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_the_run_naming_it_and_the_epoch(value):
    with pytest.raises(UserError, match=r"diverged: triplet became not finite in epoch 7 .still finite: total"):
        FiniteLoss().on_epoch_end(6, {"total": 1.0, "triplet": value, "entropies_normal": [1.0, 2.0]})


def test_a_step_that_is_not_finite_is_named_once_the_next_one_is_done():
    check = FiniteLoss()
    check.on_epoch_begin(4)
    check.on_train_batch_end(20, {"total": 1.0, "triplet": 0.5})
    check.on_train_batch_end(21, {"total": math.nan, "triplet": 0.5})
    with pytest.raises(UserError, match=r"total became not finite in step 22 of epoch 5 .still finite: triplet"):
        check.on_train_batch_end(22, {"total": math.nan, "triplet": math.nan})


@pytest.fixture
def metrics(tmp_path):
    return tmp_path / "metrics.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_metrics_are_a_line_of_json_for_every_epoch_counted_from_1(metrics):
    file = MetricsFile(metrics, "search", 0)
    file.on_epoch_end(0, {"total": np.float32(0.5), "entropies_normal": [np.float32(1.5), 2]})
    file.on_epoch_end(1, {"total": 0.25})
    assert lines(metrics) == [
        {"stage": "search", "epoch": 1, "total": 0.5, "entropies_normal": [1.5, 2]},
        {"stage": "search", "epoch": 2, "total": 0.25},
    ]


def test_metrics_of_epochs_that_are_done_again_are_dropped_and_other_stages_are_kept(metrics):
    for stage, epochs in (("teacher", 3), ("search", 3)):
        for epoch in range(epochs):
            MetricsFile(metrics, stage, epoch).on_epoch_end(epoch, {"total": 1.0})
    MetricsFile(metrics, "search", 1).on_epoch_end(1, {"total": 2.0})
    assert [(entry["stage"], entry["epoch"], entry["total"]) for entry in lines(metrics)] == [
        *(("teacher", epoch, 1.0) for epoch in (1, 2, 3)),
        ("search", 1, 1.0),
        ("search", 2, 2.0),
    ]


<<<<<<< HEAD
@pytest.mark.parametrize("cut", ["", '\n{"stage": "search", "epo', '\n{"stage": "search"}\n', "\n[1]\n", "\n7\n"])
def test_a_line_that_was_cut_off_is_dropped_or_ended(metrics, cut):
    MetricsFile(metrics, "search", 0).on_epoch_end(0, {"total": 1.0})
    metrics.write_text(metrics.read_text().rstrip("\n") + cut)
    MetricsFile(metrics, "search", 1).on_epoch_end(1, {"total": 2.0})
    assert [(entry["epoch"], entry["total"]) for entry in lines(metrics)] == [(1, 1.0), (2, 2.0)]
=======
def test_a_line_that_was_cut_off_is_dropped_and_one_without_its_end_is_not_joined_with_the_next(metrics):
    MetricsFile(metrics, "search", 0).on_epoch_end(0, {"total": 1.0})
    whole = metrics.read_text()
    broken = ('{"stage": "search", "epo', '{"stage": "search"}\n', "[1]\n", "7\n")
    for text in (whole.rstrip("\n"), *(whole + line for line in broken)):
        metrics.write_text(text)
        MetricsFile(metrics, "search", 1).on_epoch_end(1, {"total": 2.0})
        assert [(entry["epoch"], entry["total"]) for entry in lines(metrics)] == [(1, 1.0), (2, 2.0)]
>>>>>>> shrink3
    assert [path.name for path in metrics.parent.iterdir()] == ["metrics.jsonl"]


@pytest.fixture
def clock_hand(monkeypatch):
    """The time that the callbacks see, in seconds, to be set by the test."""

    class Hand:
        now = 0.0
        monotonic = classmethod(lambda hand: hand.now)

    monkeypatch.setattr(callbacks, "time", Hand)
    return Hand


def epoch_of(progress, hand, epoch, seconds, logs):
    progress.on_epoch_begin(epoch)
    hand.now += seconds
    progress.on_train_batch_end(0)
    progress.on_epoch_end(epoch, logs)


def test_progress_tells_the_epoch_the_values_and_the_time_left(clock_hand, capsys):
    progress = Progress("search", 5, 1, ("total", "entropy", "absent"), since=0.0)
    progress.on_train_begin()
    epoch_of(progress, clock_hand, 0, 60, {"total": 1.23456, "entropy": 2.0, "hidden": 3.0})
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("search: compiling")
    assert output[1] == "search: first step 60.0 s after the start of the stage"
    assert output[2] == "search: epoch 1/5  total 1.235  entropy 2.000  60.0 s  time left 4:00"  # 4 epochs of 60 s


def test_the_time_left_forgets_the_first_epoch_which_compiles_and_ends_at_none(clock_hand, capsys):
<<<<<<< HEAD
    progress = Progress("search", epochs=5, steps=1)
    for epoch, seconds in enumerate((60, 10, 20, 30, 40)):
        epoch_of(progress, clock_hand, epoch, seconds, {})
    shown = re.findall(r"time left (\S+)", capsys.readouterr().out)
    # 4 * 60, then 3 * 10, then 2 * (10 + 20) / 2, then (10 + 20 + 30) / 3
    assert shown == ["4:00", "0:30", "0:30", "0:20", "0:00"]


def test_durations_read_like_a_clock():
    texts = {0: "0:00", 5.4: "0:05", 59.6: "1:00", 61: "1:01", 3599.4: "59:59", 3600: "1:00:00", 90061: "25:01:01"}
    assert {seconds: clock(seconds) for seconds in texts} == texts
=======
    progress = Progress("search", 4, 1, (), since=0.0)
    for epoch, seconds in enumerate((60, 10, 20, 30)):
        epoch_of(progress, clock_hand, epoch, seconds, {})
    shown = re.findall(r"time left (\S+)", capsys.readouterr().out)
    assert shown == ["3:00", "0:20", "0:15", "0:00"]  # 3 * 60, then 2 * 10, then (10 + 20) / 2


@pytest.mark.parametrize(("seconds", "text"), [(5.4, "0:05"), (59.6, "1:00"), (3599.4, "59:59"), (90061, "25:01:01")])
def test_durations_read_like_a_clock(seconds, text):
    assert clock(seconds) == text
>>>>>>> shrink3
