from pathlib import Path

from kdas_tf.launcher import running
from kdas_tf.launcher.guard import Step
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
