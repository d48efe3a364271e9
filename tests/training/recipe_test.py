"""Stopped by SIGTERM in the middle of an epoch and continued: nothing differs from a run that never was."""

import concurrent.futures
import functools
import os
import re
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from kdas_tf.errors import Stopped, UserError
from kdas_tf.losses.objective import Objective
from kdas_tf.models.heads import ReIDOutput
from kdas_tf.settings import Fitting, Job
from kdas_tf.training.checkpoints import Checkpoints
from kdas_tf.training.optimizers import Adam
from kdas_tf.training.recipe import BatchSource, Recipe
from kdas_tf.training.steps import TrainingModel
from kdas_tf.training.stopping import StopOnSignal

EPOCHS, STEPS = 3, 4


class Linear(keras.Model):
    """The smallest network with a statistic beside its weights."""

    def __init__(self):
        super().__init__()
        self.norm, self.dense = keras.layers.BatchNormalization(momentum=0.5), keras.layers.Dense(3)
        self.norm.build((None, 5))
        self.dense.build((None, 5))
        self.built = True

    def call(self, images, training=False):
        features = self.norm(images, training=training)
        return ReIDOutput(features, features, self.dense(features))


def batches(epoch, step, shard):
    """Batches of numbers as a function of epoch and step, as the pipeline gives them."""

    def generate():
        for number in range(epoch * STEPS + step, EPOCHS * STEPS):
            random = np.random.default_rng(number)
            yield {"image": random.normal(size=(8, 5)).astype("float32"), "label": np.arange(8, dtype="int32") // 3}

    signature = {"image": tf.TensorSpec((8, 5), tf.float32), "label": tf.TensorSpec(8, tf.int32)}
    return tf.data.Dataset.from_generator(generate, output_signature=signature).rebatch(shard.part(8))


class Kill(keras.callbacks.Callback):
    """Sends this process a SIGTERM at the beginning of a step, after it, or after the epoch."""

    def __init__(self, epoch, step, moment):
        super().__init__()
        self.place, self.moment = (epoch, step), moment

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.kill("before the epoch", (epoch, 0))

    def on_train_batch_begin(self, batch, logs=None):
        self.kill("in the step", (self.epoch, batch))

    def on_epoch_end(self, epoch, logs=None):
        self.kill("while judging", (epoch, STEPS - 1))

    def kill(self, moment, place):
        if (moment, place) == (self.moment, self.place):
            os.kill(os.getpid(), signal.SIGTERM)


def run(workdir, strategy, *callbacks, learning_rate=0.01, seed=0):
    fitting = Fitting(
        epochs=EPOCHS, learning_rate=learning_rate, final_learning_rate=learning_rate / EPOCHS, optimizer=Adam()
    )
    recipe = Recipe("train", Job(workdir=workdir, seed=seed, strategy=strategy), fitting)
    with recipe.making(BatchSource(batches, STEPS)):
        model = TrainingModel(Linear(), None, Objective(), num_identities=3)
        recipe.compile(model)
    recipe.fit(model, board=recipe.board(), callbacks=callbacks)
    return [np.array(v) for v in (*model.network.variables, *model.optimizer.variables)]


@pytest.fixture(scope="module")
def strategies(two_devices):
    return {1: tf.distribute.get_strategy(), 2: two_devices}


@pytest.fixture(scope="module")
def undisturbed(strategies, tmp_path_factory):
    """What a run that was never stopped leaves: its numbers, its metrics."""

    @functools.cache
    def result(devices):
        folder = tmp_path_factory.mktemp("whole")
        return run(folder, strategies[devices]), (folder / "metrics.jsonl").read_text()

    return result


@pytest.mark.deterministic
@pytest.mark.parametrize(
    ("devices", "moment", "step", "checkpoint"),
    [
        (1, "in the step", 1, "epoch_1_step_2"),
        (1, "in the step", STEPS - 1, "epoch_1_step_4"),
        (1, "while judging", STEPS - 1, "epoch_1_step_4"),
        (1, "before the epoch", 0, "epoch_1"),
        pytest.param(2, "in the step", 1, "epoch_1_step_2", marks=pytest.mark.slow),  # each device has means of its own
    ],
)
def test_a_run_continues_where_sigterm_met_it(
    devices, moment, step, checkpoint, undisturbed, strategies, tmp_path, capfd
):
    strategy = strategies[devices]
    whole, logged = undisturbed(devices)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped):
        run(tmp_path / "parts", strategy, Kill(1, step, moment))
    assert signal.getsignal(signal.SIGTERM) == handler
    assert sorted(path.name for path in (tmp_path / "parts/train/checkpoints").iterdir())[-1] == checkpoint
    parts = run(tmp_path / "parts", strategy)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "parts" / "metrics.jsonl").read_text() == logged and len(logged.splitlines()) == EPOCHS
    step = checkpoint.partition("_step_")[2]
    inside = f", {step} of 4 steps done in the next" if step else ""
    assert f"continuing after epoch {checkpoint.split('_')[1]} of 3{inside}\n" in capfd.readouterr().out


@pytest.mark.deterministic
def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(undisturbed, tmp_path):
    one, logged = undisturbed(1)
    again, other = (run(tmp_path / str(seed), tf.distribute.get_strategy(), seed=seed) for seed in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert [(tmp_path / str(seed) / "metrics.jsonl").read_text() == logged for seed in (0, 1)] == [True, False]


@pytest.mark.deterministic
def test_a_clock_that_goes_back_by_a_day_in_the_middle_of_a_run_changes_nothing(
    undisturbed, tmp_path, monkeypatch, capfd
):
    class SetBack(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations == STEPS + 2:
                now = time.time_ns
                monkeypatch.setattr(time, "time", lambda: now() / 1e9 - 86_400)
                monkeypatch.setattr(time, "time_ns", lambda: now() - 86_400 * 10**9)

    (whole, logged), strategy, before = undisturbed(1), tf.distribute.get_strategy(), time.time()
    capfd.readouterr()
    with pytest.raises(Stopped):
        run(tmp_path, strategy, SetBack(), Kill(2, 1, "in the step"))
    assert time.time() < before  # the rest is done, and the run is continued, on the day before
    parts = run(tmp_path, strategy)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (tmp_path / "metrics.jsonl").read_text() == logged
    said = re.findall(r"epoch (\d)/3 .* (\S+) s  time left (\S+)", capfd.readouterr().out)
    assert [epoch for epoch, _, _ in said] == ["1", "2", "3"]
    assert all(0 <= float(seconds) < 3600 and "-" not in left for _, seconds, left in said)


def test_a_run_that_diverges_names_the_step_and_keeps_the_checkpoint_before(tmp_path):
    class Poison(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if (self.epoch, batch) == (1, 2):
                self.model.network.dense.kernel.assign(np.full((5, 3), np.inf))

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    with pytest.raises(UserError, match=r"distillation, total became not finite in step 3 of epoch 2 .*triplet"):
        run(tmp_path, tf.distribute.get_strategy(), Poison())
    checkpoints = Checkpoints(tmp_path / "train" / "checkpoints", {})
    assert [path.name for path in checkpoints.all()] == ["epoch_1"]


def test_outside_of_the_main_thread_signals_are_left_alone(tmp_path):
    stop = StopOnSignal(Checkpoints(tmp_path, {}), STEPS)

    def enter():
        with stop.listening():
            return signal.getsignal(signal.SIGTERM)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(enter).result() == signal.getsignal(signal.SIGTERM)
