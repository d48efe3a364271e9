"""Renders one picture of the embedded data: a scene, a person, others who pass, and what the camera makes of it."""

import numpy as np
from PIL import Image, ImageDraw

from kdas_tf.data.embedded import people, scenes, walkers
from kdas_tf.data.embedded.walkers import FAR, Label


def canvas_shape(image_size: tuple[int, int]) -> tuple[int, int]:
    """Returns the (height, width) on which a picture of (height, width) pixels is drawn.

    Figures are drawn at twice the size or more, on a canvas twice as high as wide, as the boxes of Market-1501 are.
    Scaling down to the picture smooths the edges, and stretches the figure as scaling such a box would.
    """
    width = max(image_size[0], 2 * image_size[1])
    return 2 * width, width


def _patterned(person: people.Person, labels: np.ndarray, pose: walkers.Pose) -> np.ndarray:
    """Where the upper clothing shows its second colour, `[height, width]` bool."""
    y = (np.arange(labels.shape[0])[:, None] - pose.y) / pose.size
    x = (np.arange(labels.shape[1])[None, :] - pose.x) / pose.size
    if person.pattern == "stripes":
        second = np.floor(y / 0.028) % 2 == 0
    elif person.pattern == "checks":
        second = (np.floor(y / 0.024) % 3 == 0) | (np.floor(x / 0.024) % 3 == 0)
    elif person.pattern == "two_tone":
        second = y < 0.29
    else:
        return np.zeros(labels.shape, bool)
    return second & (labels % FAR == Label.TOP)


def _draw_figure(
    rng: np.random.Generator, shape: tuple[int, int], person: people.Person, pose: walkers.Pose, light: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (colours, mask): a person, float32 `[height, width, 3]` in 0..255, and where it is seen."""
    labels = walkers.draw_labels(shape, person, pose)
    table = np.zeros((2 * FAR, 3), np.float32)
    for label, colour in (
        (Label.SKIN, person.skin),
        (Label.HAIR, person.hair),
        (Label.HAT, person.hat or person.hair),
        (Label.TOP, person.top),
        (Label.ACCENT, person.accent),
        (Label.BOTTOM, person.bottom),
        (Label.SHOES, person.shoes),
        (Label.BAG, person.bag_colour),
    ):
        table[label] = colour
    table[FAR:] = 0.72 * table[:FAR]
    labels = np.where(_patterned(person, labels, pose), labels - Label.TOP + Label.ACCENT, labels)
    beside = (np.arange(shape[1], dtype=np.float32) - pose.x) / (0.13 * person.girth * pose.size)
    shade = 1 + np.clip(0.14 * light * beside - 0.08 * beside**2, -0.3, 0.2)
    folds = 0.07 * scenes.smooth_noise(rng, shape, (28, 12))
    return table[labels] * (shade[None, :] + folds)[:, :, None], labels > 0


def random_box(
    rng: np.random.Generator, shape: tuple[int, int], scale: float, difficulty: float, *, junk: bool
) -> tuple[float, float, float]:
    """Draws where a person is in the box that a detector cut out of a canvas, as `size`, `x` and `y` of a pose.

    Args:
        rng: draws the errors of the detector.
        shape: (height, width) of the canvas, pixels.
        scale: size of the person relative to the average.
        difficulty: how much the detector errs, 0 to 1.
        junk: whether the detector missed most of the person.
    """
    height, width = shape
    error = 3.0 if rng.random() < 0.15 * difficulty else 1.0
    enlarged, right, down = error * difficulty * rng.normal(0, (0.04, 0.06, 0.03))
    size = 0.86 * height * scale * float(np.exp(enlarged))
    x, y = width * (0.5 + right), (height - size) / 2 + height * down
    if junk:
        size *= rng.uniform(1.3, 2.2)
        x += width * rng.choice([-1, 1]) * rng.uniform(0.3, 0.6)
        y -= height * rng.uniform(-0.3, 0.6)
    return float(size), float(x), float(y)


def _stand(
    rng: np.random.Generator, canvas: Image.Image, camera: scenes.Camera, person: people.Person, pose: walkers.Pose
) -> None:
    """Draws a person and the shadow on the ground."""
    ground, reach = pose.y + 0.985 * pose.size, 0.16 * pose.size
    shadow = Image.new("L", canvas.size, 0)
    x = pose.x - 0.6 * reach * camera.light
    ImageDraw.Draw(shadow).ellipse((x - reach, ground - reach * 0.22, x + reach, ground + reach * 0.22), fill=110)
    canvas.paste((20, 20, 24), mask=shadow)
    shape = (canvas.height, canvas.width)
    colours, mask = _draw_figure(rng, shape, person, pose, camera.light)
    figure = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    canvas.paste(figure, mask=Image.fromarray(mask.astype(np.uint8) * 255))


def _bystander(
    rng: np.random.Generator, canvas: Image.Image, camera: scenes.Camera, pose: walkers.Pose, *, in_front: bool
) -> None:
    """Draws somebody else beside the person: nearer and larger, or further off and smaller."""
    size = pose.size * float(rng.uniform(1.0, 1.2) if in_front else rng.uniform(0.6, 0.95))
    x = pose.x + canvas.width * float(rng.choice([-1, 1])) * float(rng.uniform(0.3, 0.5))
    y = pose.y + 0.97 * pose.size - size + (0.05 if in_front else -0.03) * pose.size
    other = walkers.Pose(camera.yaw + float(rng.choice([0, np.pi])), float(rng.uniform(0, 2 * np.pi)), size, x, y)
    _stand(rng, canvas, camera, people.random_person(rng), other)


def render(
    rng: np.random.Generator,
    camera: scenes.Camera,
    person: people.Person,
    pose: walkers.Pose,
    image_size: tuple[int, int],
    difficulty: float,
) -> Image.Image:
    """Renders one picture.

    Args:
        rng: draws what changes from picture to picture: the place, passers-by, things in the way, and the light.
        camera: which camera sees the person.
        person: who is seen.
        pose: where on the canvas (see `canvas_shape`) and how.
        image_size: (height, width) of the picture, pixels.
        difficulty: how often something is in the way and how much the light varies, 0 to 1.
    """
    canvas = Image.fromarray(scenes.background(rng, camera, canvas_shape(image_size)))
    if rng.random() < 0.3 * difficulty:
        _bystander(rng, canvas, camera, pose, in_front=False)
    _stand(rng, canvas, camera, person, pose)
    if rng.random() < 0.2 * difficulty:
        _bystander(rng, canvas, camera, pose, in_front=True)
    if rng.random() < 0.3 * difficulty:
        scenes.occlude(rng, canvas)
    return scenes.photograph(rng, camera, canvas, image_size, difficulty)
