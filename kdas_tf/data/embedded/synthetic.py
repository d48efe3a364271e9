"""The embedded data set: a deterministic renderer of walking people, in the layout of Market-1501.

Nothing is downloaded and nobody is shown: people are drawn (`people`, `walkers`) as cameras see them (`scenes`,
`rendering`). People share clothes, cameras disagree about colours and look from different sides, so that neither colour
alone nor a perfect memory of one view finds a person again. Every picture is a function of the seed, the identity, the
camera and the frame (and of the number and settings of cameras and pictures), but not of how many people are rendered.
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kdas_tf import files
from kdas_tf.data.embedded import people, rendering, scenes, walkers
from kdas_tf.data.records import Progress
from kdas_tf.errors import UserError

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"

_PARAMETERS = "parameters.json"
# Counted up when the renderer draws something else than before, so that an older data set is not taken for a new one.
_RENDERER = 1
# First entry after the seed of every random generator: what it draws.
_PERSON, _STRANGER, _CAMERA, _ROUTE, _PASSAGE, _QUERY, _WALK, _FRAME, _DISTRACTOR, _JUNK = range(10)
# A name in the layout of Market-1501 has four digits for the identity and one for the camera.
_MAX_IDENTITIES, _MAX_CAMERAS = 4999, 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderedPeople:
    """Everything that the pictures of the embedded people depend on.

    Args:
        train_identities: number of people to learn from.
        test_identities: number of people to search for.
        cameras: number of cameras, at most 9.
        images_per_camera: pictures of each person in each camera that the person passes.
        image_size: (height, width) of the pictures, pixels.
        seed: another seed gives other people, cameras and pictures.
        difficulty: 0 to 1; how much cameras differ in colour and sharpness, how much light and boxes vary and how often
            something is in the way.
        quality: JPEG quality, 1 to 100.

    Raises:
        UserError: an argument cannot be used.
    """

    train_identities: int = 150
    test_identities: int = 100
    cameras: int = 6
    images_per_camera: int = 3
    image_size: tuple[int, int] = (128, 64)
    seed: int = 0
    difficulty: float = 0.5
    quality: int = 90
    renderer: int = dataclasses.field(default=_RENDERER, init=False)

    def __post_init__(self) -> None:
        size = self.image_size
        if not isinstance(size, tuple | list) or len(size) != 2:
            raise UserError(f"Expected image_size to be (height, width) in pixels, but got {size!r}. Change it.")
        object.__setattr__(self, "image_size", tuple(size))
        _expect_range("train_identities", self.train_identities, 2, _MAX_IDENTITIES)
        _expect_range("test_identities", self.test_identities, 2, _MAX_IDENTITIES)
        _expect_range("cameras", self.cameras, 2, _MAX_CAMERAS)
        _expect_range("images_per_camera", self.images_per_camera, 2, 100)
        _expect_range("the height in image_size (pixels)", size[0], 32, 1024)
        _expect_range("the width in image_size (pixels)", size[1], 16, 1024)
        _expect_range("seed", self.seed, 0, 2**32 - 1)
        _expect_range("quality (of JPEG)", self.quality, 1, 100)
        if not isinstance(self.difficulty, int | float) or not 0 <= self.difficulty <= 1:
            raise UserError(f"Expected difficulty to be a number from 0 to 1, but got {self.difficulty!r}. Change it.")


def _expect_range(name: str, value: Any, low: int, high: int) -> None:
    """Raises UserError unless the value is a whole number in the range."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(
            f"Expected {name} of the embedded data to be a whole number from {low} to {high}, but got {value!r}. "
            "Change that argument.",
            code="range",
        )


@dataclasses.dataclass(frozen=True)
class _Shot:
    """One picture to render: `stream` is _FRAME for a known person, or _DISTRACTOR or _JUNK."""

    file: str
    stream: int
    identity: int
    camera: int
    frame: int


def write_dataset(
    root: str | os.PathLike,
    wanted: RenderedPeople = RenderedPeople(),
    *,
    progress: Progress | None = None,
) -> None:
    """Writes the embedded data set: rendered people in the layout of Market-1501.

    `bounding_box_train` holds the training identities (odd numbers), `query` and `bounding_box_test` the test
    identities (even numbers): one query per test identity and camera, and the other pictures, distractors (identity
    0000) and badly cropped junk (identity -1) as the gallery. Every person passes at least two cameras. A folder that
    is already there and complete is left as it is. The layout and the names are those of Zheng et al., "Scalable person
    re-identification: a benchmark", ICCV 2015.

    Args:
        root: folder to write. It is written as `root` + ".partial" and renamed when it is complete.
        wanted: what the pictures depend on.
        progress: told of every picture.

    Raises:
        UserError: `root` exists and holds something else.
    """
    root = Path(os.path.realpath(root))
    shots = list(_shots(wanted))
    if _is_complete(root, wanted, len(shots)):
        return
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for folder in (TRAIN, QUERY, GALLERY):
            (partial / folder).mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"Expected to write the embedded data to {partial}, but the folder cannot be made ({error.strerror}). "
            f"Remove what is there, or choose another folder than {root}."
        ) from error
    _render_all(partial, wanted, shots, progress)
    (partial / _PARAMETERS).write_text(json.dumps(dataclasses.asdict(wanted), indent=1) + "\n", encoding="utf-8")
    partial.replace(root)


def _is_complete(root: Path, wanted: RenderedPeople, images: int) -> bool:
    """Whether the data set is there; raises UserError when something else is."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    advice = f"Delete {root} to render the data again, or choose another folder."
    try:
        there = files.read_json(root / _PARAMETERS)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Expected the embedded data set or nothing at {root}, but its {_PARAMETERS} cannot be read "
            f"({type(error).__name__}). {advice}"
        ) from error
    expected = json.loads(json.dumps(dataclasses.asdict(wanted)))
    if there != expected:
        there = there if isinstance(there, dict) else {}
        changed = [name for name in expected if there.get(name) != expected[name]]
        asked = ", ".join(f"{name}={expected[name]}" for name in changed)
        came = ", ".join(f"{name}={there.get(name)}" for name in changed)
        raise UserError(f"Expected the embedded data in {root} to have {asked}, but it has {came}. {advice}")
    count = sum(1 for folder in (TRAIN, QUERY, GALLERY) for _ in (root / folder).glob("*.jpg"))
    if count != images:
        raise UserError(f"Expected {images} pictures of the embedded data in {root}, but it has {count}. {advice}")
    return True


def _shots(wanted: RenderedPeople) -> Iterator[_Shot]:
    """Lists the pictures: who is where, and what each file is called."""
    for index in range(max(wanted.train_identities, wanted.test_identities)):
        if index < wanted.train_identities:
            yield from _passages(wanted, 2 * index + 1)
        if index < wanted.test_identities:
            yield from _passages(wanted, 2 * index + 2)
            yield from _nobody(wanted, 2 * index + 2)


def _passages(wanted: RenderedPeople, identity: int) -> Iterator[_Shot]:
    """Lists the pictures of a person, camera by camera; the person passes each camera once, at a time of its own."""
    route = np.random.default_rng([wanted.seed, _ROUTE, identity])
    count = int(route.integers(2, wanted.cameras + 1))
    for camera in sorted(int(number) + 1 for number in route.permutation(wanted.cameras)[:count]):
        rng = np.random.default_rng([wanted.seed, _PASSAGE, identity, camera])
        sequence, frame = int(rng.integers(1, 7)), int(rng.integers(1, 90_000))
        query = np.random.default_rng([wanted.seed, _QUERY, identity, camera]).integers(wanted.images_per_camera)
        for number in range(wanted.images_per_camera):
            folder = TRAIN if identity % 2 else QUERY if number == query else GALLERY
            name = f"{identity:04d}_c{camera}s{sequence}_{frame:06d}_{rng.integers(1, 6):02d}.jpg"
            yield _Shot(f"{folder}/{name}", _FRAME, identity, camera, frame)
            frame += int(rng.integers(5, 40))


def _nobody(wanted: RenderedPeople, identity: int) -> Iterator[_Shot]:
    """Lists the distractor and the junk that come with a test identity."""
    for stream, label in ((_DISTRACTOR, "0000"), (_JUNK, "-1")):
        rng = np.random.default_rng([wanted.seed, stream, identity])
        camera = int(rng.integers(1, wanted.cameras + 1))
        # The identity is the frame number: two distractors never get the same name.
        file = f"{GALLERY}/{label}_c{camera}s{rng.integers(1, 7)}_{identity:06d}_{rng.integers(1, 6):02d}.jpg"
        yield _Shot(file, stream, identity, camera, 0)


def _render_all(root: Path, wanted: RenderedPeople, shots: list[_Shot], progress: Progress | None) -> None:
    """Renders and writes the pictures."""
    shape = rendering.canvas_shape(wanted.image_size)
    cameras = {}
    for number in range(1, wanted.cameras + 1):
        rng = np.random.default_rng([wanted.seed, _CAMERA, number])
        cameras[number] = scenes.random_camera(rng, number, shape, wanted.difficulty)
    for done, shot in enumerate(shots, start=1):
        _render(wanted, cameras[shot.camera], shot).save(root / shot.file, quality=wanted.quality)
        if progress is not None:
            progress(done, len(shots))


def _render(wanted: RenderedPeople, camera: scenes.Camera, shot: _Shot) -> Image.Image:
    """Renders one picture, a function of what is rendered and the shot."""
    seed, difficulty = wanted.seed, wanted.difficulty
    who = _STRANGER if shot.stream == _DISTRACTOR else _PERSON
    person = people.random_person(np.random.default_rng([seed, who, shot.identity]))
    # How a person passes a camera is the same in all its frames; the step moves on with the frame number.
    walk = np.random.default_rng([seed, _WALK, shot.identity, shot.camera])
    yaw = camera.yaw + (np.pi if walk.random() < camera.two_way else 0.0) + walk.normal(0, 0.3)
    phase = 2 * np.pi * (walk.random() + shot.frame / person.cadence)
    rng = np.random.default_rng([seed, shot.stream, shot.identity, shot.camera, shot.frame])
    shape = rendering.canvas_shape(wanted.image_size)
    box = rendering.random_box(rng, shape, camera.zoom * person.height, difficulty, junk=shot.stream == _JUNK)
    pose = walkers.Pose(float(yaw + rng.normal(0, 0.1)), float(phase), *box)
    return rendering.render(rng, camera, person, pose, wanted.image_size, difficulty)
