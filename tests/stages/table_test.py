"""The ablation, with a search and a training that take no time: what is run, in which order, and what is left."""

import csv
import dataclasses
import inspect
import json

import keras
import pytest

from kdas_tf import genotype
from kdas_tf.errors import UserError
from kdas_tf.models.costs import derived_parameters
from kdas_tf.schedules import LinearTemperature
from kdas_tf.stages import table
from tests.stages import small

STUDENT = small.STUDENT
IDENTITIES = 12
EPOCHS = (0, 95, 190)


class Runs:
    """A search that draws a genotype and a training that makes up its numbers; both leave the stages' files."""

    def __init__(self, workdir, stop_at=None):
        self.workdir, self.stop_at = workdir, stop_at
        self.searched, self.trained, self.temperatures = [], [], {}

    def search(self, job, *, temperature):
        workdir, seed = job.workdir, job.seed
        self.searched.append((workdir.parent.name, seed, [temperature(epoch) for epoch in EPOCHS]))
        found = genotype.random_genotype(500 + seed)
        genotype.save(workdir / "search" / "genotype.json", found, derived_from={"identities": IDENTITIES})

    def train(self, job, *, architecture=None, temperature=LinearTemperature()):
        workdir, seed = job.workdir, job.seed
        name = workdir.parent.name
        self.trained.append((name, seed))
        self.temperatures[name] = [temperature(epoch) for epoch in EPOCHS]
        assert (workdir / "data" / "dataset.json").read_text() == "the data"
        if len(self.trained) == self.stop_at:
            raise KeyboardInterrupt
        if name == "failing":
            raise UserError("The run has diverged.")
        path = architecture or workdir / "search" / "genotype.json"
        parameters = (
            11_000_000
            if architecture == "ResNet18"
            else derived_parameters(genotype.load(path), IDENTITIES, **STUDENT.arguments())
        )
        results = {"mAP": 10.0 + seed, "mINP": 1.0, "rank1": 20.0 + len(name), "rank5": 30.0, "rank10": 40.0}
        (workdir / "train").mkdir()
        content = {"results": results, "best": {}, "parameters": parameters, "architecture": str(path)}
        (workdir / "train" / "train.json").write_text(json.dumps(content))

    def table(self, **arguments):
        arguments = {"hand_made": ["DARTS_V2"], "seeds": [0], "student": STUDENT, **arguments}
        table.run(small.job(self.workdir), search=self.search, train=self.train, **arguments)


@pytest.fixture
def workdir(tmp_path):
    folder = tmp_path / "run"
    for stage, file, text in (
        ("data", "dataset.json", "the data"),
        ("teacher", "teacher.json", '{"results": {"mAP": 50.0, "rank1": 60.0}, "parameters": 2000000}'),
    ):
        (folder / stage).mkdir(parents=True)
        (folder / stage / file).write_text(text)
    return folder


@pytest.fixture
def runs(workdir):
    return Runs(workdir)


def written(workdir):
    """{row: sorted seeds} of table.json."""
    found = {}
    for run in json.loads((workdir / "table" / "table.json").read_text())["runs"]:
        found.setdefault(run["row"], []).append(run["seed"])
    return found


ALL = ["baseline", "constant", "dynamic", "DARTS_V2", "random", "train_baseline", "train_constant"]


def test_every_row_is_done_with_the_temperature_of_its_search(runs, workdir):
    runs.table()
    # Of the second table, dynamic temperature with seed 0 is the same run as in the first.
    assert runs.trained == [(name, 0) for name in ALL]
    temperatures = {"baseline": [0, 0, 0], "constant": [2, 2, 2], "dynamic": [2, 1, 0]}
    assert runs.searched == [(name, 0, values) for name, values in temperatures.items()]
    trainings = {"train_baseline": [0, 0, 0], "train_constant": [2, 2, 2]}
    assert runs.temperatures == {name: trainings.get(name, [2, 1, 0]) for name in ALL}
    assert written(workdir) == {"teacher": [None], **{name: [0] for name in [*ALL, "train_dynamic"]}}


def test_the_second_table_trains_the_chosen_genotype_with_every_seed(runs, workdir):
    runs.table(rows=["dynamic"], seeds=[0, 1])
    runs.table(rows=["train_baseline", "train_dynamic"], seeds=[0, 1], chosen_seed=1)
    chosen = str(workdir / "table" / "dynamic" / "seed_1" / "search" / "genotype.json")
    for run in ("train_baseline/seed_0", "train_baseline/seed_1", "train_dynamic/seed_0"):
        path = workdir / "table" / run / "train" / "train.json"
        assert json.loads(path.read_text())["architecture"] == chosen
    assert len(runs.searched) == 2
    assert runs.temperatures == {"dynamic": [2, 1, 0], "train_baseline": [0, 0, 0], "train_dynamic": [2, 1, 0]}
    assert not (workdir / "table" / "train_dynamic" / "seed_1").exists()  # it is that of the first table
    assert written(workdir)["train_dynamic"] == [0, 1]


def test_a_table_that_is_stopped_shows_what_there_is_and_continues_there(runs, workdir):
    stopped, rows = Runs(workdir, stop_at=2), ["constant", "dynamic", "DARTS_V2"]
    with pytest.raises(KeyboardInterrupt):
        stopped.table(rows=rows)
    assert written(workdir) == {"teacher": [None], "constant": [0]}
    assert "+ dynamic temperature" in (workdir / "table" / "table.md").read_text()

    runs.table(rows=rows)
    assert not runs.searched  # dynamic was stopped after its search
    assert runs.trained == [("dynamic", 0), ("DARTS_V2", 0)]
    again = Runs(workdir)
    again.table(rows=rows)
    assert not again.searched and not again.trained


def test_rows_can_be_done_in_any_order_and_seeds_added_later(runs, workdir):
    runs.table(rows=["DARTS_V2"], seeds=[1])
    runs.table(rows=["DARTS_V2", "constant"], seeds=[0, 1])
    # Seed by seed, so that a table that is stopped has something in every row.
    assert runs.trained[1:] == [("constant", 0), ("DARTS_V2", 0), ("constant", 1)]
    assert written(workdir) == {"teacher": [None], "constant": [0, 1], "DARTS_V2": [0, 1]}


def test_the_table_is_written_with_the_papers_numbers_beside_the_measured_ones(runs, workdir, capsys):
    runs.table(rows=["DARTS_V2"], seeds=[0, 1, 2])
    text = (workdir / "table" / "table.md").read_text()
    assert text in capsys.readouterr().out
    lines = {
        line.split("|")[1].strip(): [c.strip() for c in line.split("|")[2:]]
        for line in text.splitlines()
        if "|" in line
    }
    # mAP 10, 11, 12; the name of the row has 8 letters; then the paper's one run.
    assert lines["DARTS"][:5] == ["3", "11.0 ± 1.0", "28.0 ± 0.0", "30.0 ± 0.0", "40.0 ± 0.0"]
    assert lines["DARTS"][6:9] == ["1", "65.2 ± -", "85.6 ± -"]
    assert lines["Teacher"][:4] == ["1", "50.0 ± -", "60.0 ± -", "-"]
    assert lines["Baseline (L_c + L_t)"][:8] == ["0", *"-----", "4", "71.9 ± 0.4"]
    with (workdir / "table" / "table.csv").open(encoding="utf-8", newline="") as file:
        measured = {line["row"]: line["mAP_mean"] for line in csv.DictReader(file)}
    assert (measured["DARTS_V2"], measured["teacher"], measured["baseline"]) == ("11.00", "50.00", "")
    assert (workdir / "table" / "table.png").read_bytes().startswith(b"\x89PNG")


def test_random_genotypes_are_about_as_large_as_those_that_were_searched_with_the_same_seed(runs, workdir):
    runs.table(rows=["dynamic", "random"], seeds=[0, 1])
    entries = json.loads((workdir / "table" / "table.json").read_text())["runs"]
    for seed in (0, 1):
        size = {run["row"]: run["parameters"] for run in entries if run["seed"] == seed}
        assert size["random"] != size["dynamic"]
        assert size["random"] == pytest.approx(size["dynamic"], rel=0.1)
    folders = [workdir / "table" / row / "seed_0" / "search" / "genotype.json" for row in ("dynamic", "random")]
    assert genotype.load(folders[0]) != genotype.load(folders[1])
    drawn = {run["seed"]: run["drawn"] for run in entries if run["row"] == "random"}
    text = (workdir / "table" / "table.md").read_text()
    assert (
        f"Random genotypes drawn until one had about the wanted size: {drawn[0]} (seed 0), {drawn[1]} (seed 1)." in text
    )


@pytest.mark.parametrize("row", ["random", "train_baseline"])
def test_a_row_that_needs_another_one_first_says_so(runs, row):
    with pytest.raises(UserError) as caught:
        runs.table(rows=[row])
    assert f"The row {row} needs the network of the row dynamic with seed 0" in str(caught.value)
    assert "table.run.rows=['dynamic']" in str(caught.value)
    assert not runs.trained


def test_channels_that_are_not_those_of_the_training_are_noticed(runs):
    with pytest.raises(UserError, match="Give the table the network that"):
        runs.table(rows=["dynamic", "random"], student=dataclasses.replace(STUDENT, channels=16))


def test_a_run_that_fails_leaves_what_is_finished(runs, workdir):
    temperatures = {"dynamic": lambda epoch: 0.0, "failing": lambda epoch: 1.0}
    with pytest.raises(UserError, match="The run has diverged"):
        runs.table(search_temperatures=temperatures, train_temperatures={})
    assert written(workdir) == {"teacher": [None], "dynamic": [0], "train_dynamic": [0]}
    runs.table(search_temperatures=temperatures, train_temperatures={}, rows=["DARTS_V2"])
    assert written(workdir)["DARTS_V2"] == [0]


def test_time_left_is_estimated_from_finished_runs_of_the_same_kind(runs, workdir, capsys):
    runs.table(rows=["dynamic", "DARTS_V2"])
    output = capsys.readouterr().out
    assert "table: run 1 of 2, dynamic with seed 0; time left not known yet\n" in output
    for row, seconds in (("dynamic", 100), ("DARTS_V2", 10)):
        (workdir / "table" / row / "seed_0" / "seconds.json").write_text(json.dumps({"seconds": seconds}))
    runs.table(rows=["baseline", "dynamic", "DARTS_V2"], seeds=[0, 1])
    lines = [line for line in capsys.readouterr().out.splitlines() if "time left" in line]
    # baseline 0, 1 and dynamic 1 as long as a search, DARTS_V2 1 as long as a hand-made network.
    assert lines[0] == "table: run 1 of 6, baseline with seed 0; time left about 5:10"
    assert [line.split(";")[0] for line in lines[1:]] == [
        "table: run 4 of 6, baseline with seed 1",
        "table: run 5 of 6, dynamic with seed 1",
        "table: run 6 of 6, DARTS_V2 with seed 1",
    ]


def test_a_plan_lists_rows_with_seeds_what_is_done_and_parameters(runs, workdir):
    runs.table(rows=["dynamic"], seeds=[1])
    defaults = {name: each.default for name, each in inspect.signature(table.run).parameters.items() if name != "job"}
    arguments = {**defaults, "hand_made": ["ResNet18", "DARTS_V2"], "seeds": [0, 1], "student": STUDENT}
    lines = table.plan(small.job(workdir), IDENTITIES, **arguments)
    assert lines[0] == "17 runs, 1 of them done"
    found = dict(line.split(": ", 1) for line in lines[1:])
    size = derived_parameters(genotype.random_genotype(501), IDENTITIES, **STUDENT.arguments()) / 1e6
    darts = derived_parameters(genotype.DARTS_V2, IDENTITIES, **STUDENT.arguments()) / 1e6
    assert found["baseline"] == "seeds 0, 1"
    assert found["dynamic"] == f"seeds 0, 1 (done); {size:.3f} M trainable parameters"
    assert found["DARTS_V2"] == f"seeds 0, 1; {darts:.3f} M trainable parameters"
    # torchvision's 11,176,512 without its classifier, 4,800 offsets of convolutions, 512 of the neck and 512 x 12.
    assert found["ResNet18"] == "seeds 0, 1; 11.2 M trainable parameters"
    assert found["train_dynamic"] == "seeds 1"


def test_a_copy_of_a_workdir_stands_on_its_own(runs, workdir):
    runs.table(rows=["dynamic"])
    moved = workdir.rename(workdir.with_name("moved"))
    later = Runs(moved)
    later.table(rows=["dynamic"], seeds=[0, 1])
    assert later.trained == [("dynamic", 1)]
    assert (moved / "table" / "dynamic" / "seed_0" / "data").resolve() == moved / "data"


def test_the_precision_outlives_a_run(runs):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        runs.table(rows=["DARTS_V2"], seeds=[0])
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy(before)
