"""Tests of the embedded data: its layout, that it is reproducible, and that it is neither trivial nor hopeless."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdas_tf.data.embedded import people, synthetic, walkers
from kdas_tf.data.embedded.synthetic import RenderedPeople
from kdas_tf.errors import UserError

# Market-1501: identity (-1 is junk), camera, sequence, frame, box.
NAME = re.compile(r"(-1|\d{4})_c([1-9])s([1-6])_(\d{6})_(\d{2})\.jpg")
SMALL = {"train_identities": 4, "test_identities": 5, "cameras": 4, "images_per_camera": 2, "image_size": (64, 32)}


def contents(root: Path) -> dict[str, bytes]:
    """Every picture of a data set by its path."""
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*.jpg"))}


def identities_and_cameras(folder: Path) -> list[tuple[int, int]]:
    """What the names of a folder say, in the order of the names."""
    matches = [NAME.fullmatch(file.name) for file in sorted(folder.iterdir())]
    return [(int(match[1]), int(match[2])) for match in matches if match is not None]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("small") / "data"
    synthetic.write_dataset(root, RenderedPeople(**SMALL))
    return root


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """A gallery of realistic size, with the default difficulty."""
    root = tmp_path_factory.mktemp("many") / "data"
    synthetic.write_dataset(root, RenderedPeople(train_identities=2, test_identities=80, image_size=(64, 32)))
    return root


def test_folders_and_names_are_those_of_market1501(small):
    assert sorted(entry.name for entry in small.iterdir()) == [
        "bounding_box_test",
        "bounding_box_train",
        "parameters.json",
        "query",
    ]
    for folder in ("bounding_box_train", "query", "bounding_box_test"):
        names = [file.name for file in (small / folder).iterdir()]
        assert names and all(NAME.fullmatch(name) for name in names)


def test_pictures_are_rgb_jpegs_of_the_wanted_size(small):
    for file in small.rglob("*.jpg"):
        with Image.open(file) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 64))


def test_train_and_test_identities_are_disjoint_and_as_many_as_asked_for(small):
    train = {identity for identity, _ in identities_and_cameras(small / "bounding_box_train")}
    query = {identity for identity, _ in identities_and_cameras(small / "query")}
    gallery = {identity for identity, _ in identities_and_cameras(small / "bounding_box_test")}
    assert (len(train), len(query)) == (4, 5)
    assert not train & (query | gallery)
    assert gallery == query | {0, -1}  # with distractors and junk


def test_every_passage_has_the_asked_number_of_pictures_and_one_query(small):
    train = identities_and_cameras(small / "bounding_box_train")
    assert {train.count(passage) for passage in train} == {2}
    query = identities_and_cameras(small / "query")
    gallery = identities_and_cameras(small / "bounding_box_test")
    assert len(set(query)) == len(query)
    assert all(gallery.count(passage) == 1 for passage in query)


def test_every_query_has_a_match_from_another_camera(many):
    gallery = identities_and_cameras(many / "bounding_box_test")
    for identity, camera in identities_and_cameras(many / "query"):
        assert any(other == identity and seen_by != camera for other, seen_by in gallery)


def test_same_seed_gives_the_same_bytes_in_another_process(small, tmp_path):
    code = (
        "import sys; from kdas_tf.data.embedded import synthetic; "
        f"synthetic.write_dataset(sys.argv[1], synthetic.RenderedPeople(**{SMALL!r})); "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "again")], check=True, cwd=Path(__file__).parents[3])
    assert contents(tmp_path / "again") == contents(small)


def test_another_seed_gives_other_pictures(small, tmp_path):
    synthetic.write_dataset(tmp_path / "other", RenderedPeople(**SMALL, seed=1))
    assert not set(contents(tmp_path / "other").values()) & set(contents(small).values())


def test_pictures_do_not_depend_on_how_many_people_are_rendered(small, tmp_path):
    synthetic.write_dataset(
        tmp_path / "fewer", RenderedPeople(**{**SMALL, "train_identities": 3, "test_identities": 2})
    )
    fewer, more = contents(tmp_path / "fewer"), contents(small)
    assert len(fewer) < len(more)
    assert fewer.items() <= more.items()


def test_a_complete_data_set_is_left_as_it_is(small):
    before = {file: file.stat().st_mtime_ns for file in small.rglob("*")}
    synthetic.write_dataset(small, RenderedPeople(**SMALL), progress=lambda done, total: pytest.fail("rendered again"))
    assert {file: file.stat().st_mtime_ns for file in small.rglob("*")} == before


def test_what_an_interrupted_run_left_is_replaced(small, tmp_path):
    class Interrupted(Exception):
        pass

    def interrupt(done, total):
        if done == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        synthetic.write_dataset(tmp_path / "data", RenderedPeople(**SMALL), progress=interrupt)
    assert not (tmp_path / "data").exists()
    synthetic.write_dataset(tmp_path / "data", RenderedPeople(**SMALL))
    assert contents(tmp_path / "data") == contents(small)
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_other_parameters_than_those_on_disk_are_refused_by_name(small):
    with pytest.raises(UserError, match=r"to have seed=5, but it has seed=0\. Delete .* or choose another folder"):
        synthetic.write_dataset(small, RenderedPeople(**SMALL, seed=5))


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(UserError, match=r"parameters\.json cannot be read"):
        synthetic.write_dataset(tmp_path / "photographs", RenderedPeople(**SMALL))
    assert (tmp_path / "photographs" / "holiday.jpg").read_bytes() == b"precious"


def test_a_data_set_with_missing_pictures_is_refused(tmp_path):
    synthetic.write_dataset(tmp_path / "data", RenderedPeople(**SMALL))
    total = len(contents(tmp_path / "data"))
    next((tmp_path / "data" / "query").iterdir()).unlink()
    with pytest.raises(UserError, match=f"Expected {total} pictures .* but it has {total - 1}"):
        synthetic.write_dataset(tmp_path / "data", RenderedPeople(**SMALL))


def test_a_folder_that_cannot_be_made_is_a_user_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="the folder cannot be made"):
        synthetic.write_dataset(tmp_path / "file" / "data", RenderedPeople(**SMALL))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train_identities", 1),
        ("test_identities", 0),
        ("test_identities", 5000),
        ("cameras", 1),
        ("cameras", 10),
        ("images_per_camera", 1),
        ("images_per_camera", 2.5),
        ("image_size", (31, 16)),
        ("image_size", (32, 15)),
        ("image_size", 128),
        ("seed", -1),
        ("difficulty", 1.5),
        ("difficulty", float("nan")),
        ("difficulty", "hard"),
        ("quality", 0),
        ("quality", True),
    ],
)
def test_arguments_that_cannot_be_used_are_user_errors_that_name_them(tmp_path, name, value):
    with pytest.raises(UserError, match=f"Expected .*{name}"):
        synthetic.write_dataset(tmp_path / "data", RenderedPeople(**{**SMALL, name: value}))
    assert list(tmp_path.iterdir()) == []


def walker(yaw: float, phase: float = 0.0, **changes) -> np.ndarray:
    """The labels of a person of 200 pixels, without the mark of the far side."""
    person = dataclasses.replace(people.random_person(np.random.default_rng(0)), height=1.0, girth=1.0, **changes)
    labels = walkers.draw_labels((256, 128), person, walkers.Pose(yaw, phase, size=200, x=64, y=28))
    return labels % walkers.FAR


def test_a_person_reaches_from_the_top_of_the_head_to_the_ground():
    for phase in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        rows = np.flatnonzero((walker(0.7, phase, hat=None) > 0).any(axis=1))
        assert abs(rows[0] - 28) <= 3 and abs(rows[-1] - 228) <= 5


def test_a_backpack_is_seen_from_the_back_and_only_its_straps_from_the_front():
    front, back = ((walker(yaw, bag="backpack") == walkers.Label.BAG).sum() for yaw in (0.0, np.pi))
    assert 0 < front < 0.4 * back


@pytest.mark.parametrize(("pattern", "yaw"), [("logo", 0.0), ("jacket", 0.0), ("print", np.pi)])
def test_a_logo_is_seen_from_its_side_only(pattern, yaw):
    assert (walker(yaw, pattern=pattern, bag="none") == walkers.Label.ACCENT).any()
    assert not (walker(yaw + np.pi, pattern=pattern, bag="none") == walkers.Label.ACCENT).any()


def colour_histograms(files: list[Path]) -> np.ndarray:
    """A colour baseline: grey-world white balance, then RGB histograms of six stripes of the middle of the picture."""
    features = []
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB"), float)
        pixels = np.clip(pixels * 110 / pixels.mean(axis=(0, 1)), 0, 255)[
            :, pixels.shape[1] // 4 : -pixels.shape[1] // 4
        ]
        histogram = np.concatenate(
            [
                np.histogram(stripe[..., channel], bins=16, range=(0, 256))[0]
                for stripe in np.array_split(pixels, 6)
                for channel in range(3)
            ]
        )
        features.append(np.sqrt(histogram / histogram.sum()))  # the dot product is the Bhattacharyya coefficient
    return np.array(features)


def test_colour_alone_finds_some_people_but_far_from_all(many):
    query = sorted((many / "query").iterdir())
    gallery = [file for file in sorted((many / "bounding_box_test").iterdir()) if not file.name.startswith("-1")]
    (query_identity, query_camera), (identity, camera) = (
        np.array([NAME.fullmatch(file.name).group(1, 2) for file in files], int).T for files in (query, gallery)
    )
    same = query_identity[:, None] == identity
    kept = ~(same & (query_camera[:, None] == camera))
    similarity = np.where(kept, colour_histograms(query) @ colour_histograms(gallery).T, -1)
    rank1 = np.mean(identity[similarity.argmax(axis=1)] == query_identity)
    chance = np.mean((same & kept).sum(axis=1) / kept.sum(axis=1))
    print(f"rank-1 of colour histograms {rank1:.1%}, of chance {chance:.1%}")
    standard_error = np.sqrt(chance * (1 - chance) / len(query))
    assert chance + 5 * standard_error < rank1 < 0.8
