"""The data stage through the launcher: what it does again, and what it refuses."""

import shutil

import pytest

from kdas_tf.data import market1501
from kdas_tf.data.embedded.synthetic import RenderedPeople
from kdas_tf.errors import UserError
from kdas_tf.launcher import guard, running
from kdas_tf.launcher.guard import Step
from kdas_tf.stages import data, judging
from kdas_tf.stages.stage import Stage
from tests.data import miniatures
from tests.stages import small


def run(workdir, data_dir, *later):
    """Runs the stage as a command does, and begins later ones."""
    arguments = {"data_dir": None if data_dir is None else str(data_dir), "reader": market1501.read}
    people = RenderedPeople(train_identities=3, test_identities=2, image_size=(32, 16), images_per_camera=2)
    arguments["people"] = people
    steps = [Step(data.run.stage, arguments, {"data_dir": str(data_dir)}), *(Step(each, {}, {}) for each in later)]
    job = small.job(workdir)
    records = guard.records_of(steps, workdir, {})
    for step in steps:
        running._check_unchanged(step, job, records[step.stage.name])
    running.run_step(steps[0], job, records["data"])
    for each in later:
        guard.remember(workdir / each.name, records[each.name])
        (workdir / each.name / each.result).write_text("{}")


@pytest.fixture
def people(tmp_path):
    return miniatures.market1501(tmp_path / "people")


def add_a_photograph(people):
    miniatures.write(people / "query" / "0099_c1s1_000001_00.jpg", miniatures.photograph(99, 1, 1))


def test_added_photographs_are_found_by_the_same_command(tmp_path, people, capsys):
    run(tmp_path / "run", people)
    before = len(data.load(tmp_path / "run").query)
    run(tmp_path / "run", people)
    assert "data: done before" in capsys.readouterr().out
    add_a_photograph(people)
    run(tmp_path / "run", people)
    assert len(data.load(tmp_path / "run").query) == before + 1


def test_changed_photographs_that_something_was_made_from_are_refused(tmp_path, people):
    later = Stage("later", "result.json", lambda job: None, decided_by=(), reads=lambda workdir, arguments: ("data",))
    run(tmp_path / "run", people, later)
    run(tmp_path / "run", people, later)
    add_a_photograph(people)
    before = (tmp_path / "run" / "data" / data.RESULT).read_text()
    with pytest.raises(
        UserError, match=r"the content of data_dir, which it reads, has changed\. What is in later was made"
    ):
        run(tmp_path / "run", people)
    assert (tmp_path / "run" / "data" / data.RESULT).read_text() == before


def test_photographs_that_were_moved_are_found_at_their_new_place(tmp_path, people):
    later = Stage("later", "result.json", lambda job: None, decided_by=(), reads=lambda workdir, arguments: ("data",))
    run(tmp_path / "run", people, later)
    shutil.copytree(people, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    shutil.rmtree(people)
    run(tmp_path / "run", tmp_path / "elsewhere", later)
    found = data.load(tmp_path / "run")
    assert {record.path.split("/")[-3] for record in found.train} == {"elsewhere"}


def test_a_copied_workdir_reads_its_own_rendered_photographs(tmp_path):
    run(tmp_path / "run", None)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    found = data.load(tmp_path / "copy")
    assert all(str(tmp_path / "copy" / "data") in each.path for each in (*found.train, *found.query, *found.gallery))
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert str(tmp_path / "moved") in data.load(tmp_path / "moved").train[0].path


def test_judging_reads_the_photographs_of_the_index_again_when_they_are_replaced(tmp_path, people):
    run(tmp_path / "run", people)
    before = data.judged_photographs(tmp_path / "run").digest()
    miniatures.write(next((people / "query").iterdir()), miniatures.photograph(99, 1, 1))
    assert data.judged_photographs(tmp_path / "run").digest() != before
    assert data.judged_photographs(tmp_path) is None


def one_camera(folder):
    """A data set in which every match is in the query's own camera."""
    for path in sorted(folder.rglob("*_c2s1_*.jpg")):
        path.rename(path.with_name(path.name.replace("_c2s1_0", "_c1s1_9")))
    return folder


def test_a_data_set_that_cannot_be_judged_on_is_said_to_be_so_and_kept(tmp_path, people, capsys):
    run(tmp_path / "run", one_camera(people))
    assert "CAN BE TRAINED ON, NOT JUDGED ON: all matches of the 6 queries" in capsys.readouterr().out
    found = data.load(tmp_path / "run")
    assert len(found.train) > 0 == found.matched_queries()
    assert judging.judge(None, found, image_size=(32, 16), title="teacher") is None
    assert "teacher: not judged, no query" in capsys.readouterr().out


def test_a_dry_run_counts_the_images_without_opening_one(tmp_path, people):
    for path in people.rglob("*.jpg"):
        path.write_bytes(b"")
    rendered = RenderedPeople(train_identities=3, test_identities=2)
    lines = data.plan(small.job(tmp_path), None, data_dir=str(people), reader=market1501.read, people=rendered)
    assert lines[0] == f"reads {people}"
    assert lines[2].split() == ["train", "16", "4", "2"]
    assert lines[-1].startswith("Can be trained on and judged on: 6 queries")
    (line,) = data.plan(small.job(tmp_path), None, data_dir=None, reader=market1501.read, people=rendered)
    assert line.endswith("3 to train on, 2 to judge on")
