"""Small values for the stages that train, and small results of earlier stages."""

import contextlib
import dataclasses
import json
import os
import signal
import threading
import time

import pytest
import tensorflow as tf

from kdas_tf.data.embedded.synthetic import RenderedPeople
from kdas_tf.data.transforms import Augmentation
from kdas_tf.errors import Stopped
from kdas_tf.settings import Backbone, CellSettings, Fitting, Job, Sampling
from kdas_tf.stages import data, search, teacher
from kdas_tf.training import optimizers

CELLS = CellSettings(image_size=(32, 16), channels=4, cells=2, reductions=(1,))
STUDENT = dataclasses.replace(CELLS, channels=8)
SAMPLING = Sampling(identities_per_batch=8, images_per_identity=2, augmentation=Augmentation())
SGD = Fitting(epochs=2, learning_rate=0.1, final_learning_rate=0.001, optimizer=optimizers.SGD())
ADAM = Fitting(epochs=2, learning_rate=3.5e-4, final_learning_rate=3.5e-6, optimizer=optimizers.Adam())


def job(workdir, stage=None, seed=0):
    """A job of one device; the stage's folder is there, as the launcher makes it."""
    if stage is not None:
        (workdir / stage).mkdir(parents=True, exist_ok=True)
    return Job(workdir=workdir, seed=seed, strategy=tf.distribute.get_strategy())


def prepare(workdir, **teacher_arguments):
    """Runs the stages data and teacher."""

    people = RenderedPeople(train_identities=16, test_identities=3, image_size=(32, 16), images_per_camera=2)
    data.run(job(workdir, "data"), people=people)
    arguments = {
        "image_size": (32, 16),
        "backbone": Backbone(name="MobileNetV2", weights=None, arguments={"alpha": 0.35}, image_size=(32, 32)),
        "sampling": dataclasses.replace(SAMPLING, identities_per_batch=16, images_per_identity=4),
        "fitting": dataclasses.replace(ADAM, epochs=1),
    }
    teacher.run(job(workdir, "teacher"), **(arguments | teacher_arguments))


def run_search(workdir, epochs=2, **arguments):
    """Runs the search, with T from 2 downwards by 1 an epoch."""
    search.run(
        job(workdir, "search"),
        **{
            "network": CELLS,
            "student": STUDENT,
            "sampling": SAMPLING,
            "fitting": dataclasses.replace(SGD, epochs=epochs),
            "alpha_optimizer": optimizers.Adam(),
            "temperature": lambda epoch: 2.0 - epoch,
            **arguments,
        },
    )


def lines(workdir, stage):
    """The lines of metrics.jsonl about a stage."""
    entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["stage"] == stage]


@contextlib.contextmanager
def stopped_after_the_first_epoch(workdir):
    """Sends this process a SIGTERM once a stage has ended its first epoch, and expects that the stage stops."""
    metrics, done = workdir / "metrics.jsonl", threading.Event()

    def watch():
        while not done.is_set() and not (metrics.exists() and metrics.read_text().endswith("\n")):
            time.sleep(0.01)
        if not done.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        with pytest.raises(Stopped):
            yield
    finally:
        done.set()
        thread.join()
