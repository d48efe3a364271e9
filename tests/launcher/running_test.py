import contextlib
from pathlib import Path

import numpy as np
import pytest

from kdas_tf.errors import UserError
from kdas_tf.launcher import running
from kdas_tf.launcher.guard import Step
from kdas_tf.settings import Job
from kdas_tf.stages.stage import Stage


def step(name, *reads, **properties):
    return Step(Stage(name, "r", lambda job: None, reads=lambda *_: reads, **properties), {}, {})


def names(*steps):
    return [each.stage.name for each in running.left_out(steps, Path())]


def test_a_stage_is_left_out_where_the_stages_that_it_serves_are_there_and_none_reads_it():
    teacher = step("teacher", "data", serves=("search", "train"))
    assert names(step("data"), teacher, step("search", "data"), step("train", "data", "search")) == ["teacher"]
    assert names(step("data"), teacher, step("search", "data"), step("train", "data", "teacher")) == []
    assert names(step("data"), teacher) == []  # asked for by itself
    assert names(step("data"), teacher, step("evaluate", "data")) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"texts": {"epochs": "3"}}, "the stages and their settings differ between worker 0 and worker 2"),
        ({"launcher": {"seed": "1"}}, "seed, precision and determinism differ between worker 0 and worker 2"),
        ({}, None),
    ],
)
def test_workers_of_different_settings_are_refused_by_all_of_them(other, said, monkeypatch):
    def settings(texts=(("epochs", "2"),), launcher=(("seed", "0"),)):
        return [step("search")._replace(texts=dict(texts))], None, dict(launcher)

    rows = []
    job = Job(workdir=Path())
    monkeypatch.setattr(running.workers, "all_values", lambda strategy, own: rows.append(own) or np.array([own]))
    for given in ({}, {}, other):  # three workers
        steps, _, launcher = settings(**given)
        running.check_alike(steps, job, launcher)
    monkeypatch.setattr(running.workers, "all_values", lambda strategy, own: np.array(rows))
    for given in ({}, other):
        steps, _, launcher = settings(**given)
        with pytest.raises(UserError, match=said) if said else contextlib.nullcontext():
            running.check_alike(steps, job, launcher)
