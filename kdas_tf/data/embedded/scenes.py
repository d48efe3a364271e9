"""Where and how the embedded data is seen: cameras, their scenes, and what gets in the way of a person."""

import dataclasses

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# The scene is this much wider than one picture, so that two pictures of a camera rarely show the same part of it.
_PANORAMA_WIDTH = 4

_WALLS = ((150, 140, 128), (120, 122, 126), (172, 164, 150), (128, 96, 82), (186, 186, 184), (92, 96, 100))
_GROUNDS = ((118, 116, 112), (146, 138, 124), (92, 92, 94), (160, 154, 146), (110, 100, 88))
_LEAVES = ((58, 74, 44), (76, 88, 52), (44, 60, 40), (92, 90, 56))


@dataclasses.dataclass(frozen=True)
class Camera:
    """One camera: where it looks and how it renders colours."""

    yaw: float  # direction in which most people walk in its view, radians (see `walkers.Pose`)
    two_way: float  # share of the people who walk the other way
    gains: tuple[float, float, float]  # factors of red, green and blue: the white balance
    brightness: float  # factor of all colours
    gamma: float  # exponent of all colours in 0..1
    saturation: float  # 0 is grey and 1 leaves the colours
    contrast: float  # factor around middle grey
    sharpness: float  # resolution of the sensor relative to the picture, at most 1
    noise: float  # standard deviation of the sensor's noise, in 0..255
    zoom: float  # size of a person in the picture, relative to other cameras
    light: float  # where the light comes from, -1 (left) to 1 (right)
    scene: np.ndarray  # the background, uint8 `[height, 2 * height, 3]`


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Returns `[height, width]` float32 noise of variance about 1 that varies over `cells` (down, across)."""
    coarse = Image.fromarray(rng.standard_normal(cells).astype(np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def random_camera(rng: np.random.Generator, number: int, shape: tuple[int, int], difficulty: float) -> Camera:
    """Draws a camera for a canvas of (height, width) pixels; cameras of successive numbers look in other directions.

    With difficulty 0 all cameras see the same colours, with 1 they hardly agree.
    """
    warm, green = rng.normal(0, 0.14 * difficulty), rng.normal(0, 0.06 * difficulty)
    # The golden angle: any few successive cameras look at people from well separated directions.
    yaw = number * np.pi * (3 - np.sqrt(5)) + rng.normal(0, 0.2)
    return Camera(
        yaw=float(yaw),
        two_way=0.3,
        gains=(float(np.exp(warm)), float(np.exp(green)), float(np.exp(-warm))),
        brightness=float(np.exp(rng.normal(0, 0.22 * difficulty))),
        gamma=float(np.exp(rng.normal(0, 0.26 * difficulty))),
        saturation=float(1 - 0.5 * difficulty * rng.random()),
        contrast=float(np.exp(rng.normal(-0.1, 0.2) * difficulty)),
        sharpness=float(1 - 0.6 * difficulty * rng.random()),
        noise=float(2 + 12 * difficulty * rng.random()),
        zoom=float(1 + rng.uniform(-0.16, 0.08) * difficulty),
        light=float(rng.uniform(-1, 1)),
        scene=_scene(rng, (shape[0], _PANORAMA_WIDTH * shape[1])),
    )


def _tint(rng: np.random.Generator, colours: tuple[tuple[int, int, int], ...], spread: float = 10) -> tuple[int, ...]:
    """Draws one of the colours and varies it."""
    base = np.array(colours[rng.integers(len(colours))]) + rng.normal(0, spread) + rng.normal(0, spread / 4, 3)
    return tuple(int(value) for value in np.clip(base, 0, 255))


def _scene(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draws the panorama of a camera: a wall or a hedge above, a ground below, and what stands there."""
    height, width = shape
    image = Image.new("RGB", (width, height), _tint(rng, _WALLS))
    draw = ImageDraw.Draw(image)
    horizon = int(height * rng.uniform(0.3, 0.62))
    _wall(rng, draw, width, horizon, kind=str(rng.choice(["windows", "bricks", "hedge", "shops"])))
    _ground(rng, draw, shape, horizon)
    for _ in range(rng.integers(4, 10)):
        x, thick = rng.uniform(0, width), height * rng.uniform(0.01, 0.06)
        top, bottom = horizon * rng.uniform(0.0, 0.8), horizon + height * rng.uniform(0.0, 0.2)
        draw.rectangle((x, top, x + thick, bottom), fill=_tint(rng, _WALLS + _LEAVES, 30))
    for _ in range(rng.integers(0, 5)):  # parked cars, benches, bins
        x, y = rng.uniform(0, width), horizon + height * rng.uniform(0, 0.1)
        wide, high = height * rng.uniform(0.15, 0.6), height * rng.uniform(0.08, 0.2)
        draw.rounded_rectangle((x, y - high, x + wide, y), radius=high / 4, fill=_tint(rng, _WALLS + _GROUNDS, 50))
    picture = np.asarray(image.filter(ImageFilter.GaussianBlur(height / 200)), np.float32)
    grain = 7 * smooth_noise(rng, shape, (64, 64 * _PANORAMA_WIDTH // 2)) + 9 * smooth_noise(rng, shape, (7, 14))
    return np.clip(picture + grain[:, :, None], 0, 255).astype(np.uint8)


def _wall(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: int, horizon: int, kind: str) -> None:
    """Draws what is above the horizon."""
    if kind == "hedge":
        for _ in range(500):
            x, y, radius = rng.uniform(0, width), rng.uniform(0, horizon), horizon * rng.uniform(0.03, 0.14)
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_tint(rng, _LEAVES, 14))
    elif kind == "bricks":
        pitch = max(horizon / rng.uniform(6, 14), 2.0)
        joint = _tint(rng, _WALLS)
        for row, y in enumerate(np.arange(0, horizon, pitch)):
            draw.line((0, y, width, y), fill=joint)
            for x in np.arange(pitch * (row % 2), width, 2 * pitch):
                draw.line((x, y, x, y + pitch), fill=joint)
    else:
        pitch = horizon * rng.uniform(0.5, 1.3)
        pane, low = _tint(rng, _WALLS, 40), horizon * (1.0 if kind == "shops" else rng.uniform(0.5, 0.8))
        for x in np.arange(-rng.uniform(0, pitch), width, pitch):
            fill = _tint(rng, _WALLS + _GROUNDS, 45) if kind == "shops" else pane
            draw.rectangle((x, horizon * 0.12, x + 0.7 * pitch, low), fill=fill, outline=_tint(rng, _WALLS, 30))


def _ground(rng: np.random.Generator, draw: ImageDraw.ImageDraw, shape: tuple[int, int], horizon: int) -> None:
    """Draws what is below the horizon: a plain, tiled or striped ground."""
    height, width = shape
    ground, joint = np.array(_tint(rng, _GROUNDS)), _tint(rng, _GROUNDS)
    for y in range(horizon, height):
        nearer = 0.85 + 0.3 * (y - horizon) / (height - horizon)
        draw.line((0, y, width, y), fill=tuple(int(value) for value in np.clip(ground * nearer, 0, 255)))
    kind = rng.choice(["plain", "tiles", "stripes"])
    if kind == "tiles":
        for step in np.linspace(0, 1, 9)[1:] ** 2:
            draw.line((0, horizon + step * (height - horizon), width, horizon + step * (height - horizon)), fill=joint)
        for x in np.arange(-2 * width, 3 * width, height / 4):
            draw.line((width / 2 + (x - width / 2) * 0.5, horizon, x, height), fill=joint)
    elif kind == "stripes":
        top = horizon + (height - horizon) * rng.uniform(0.2, 0.6)
        draw.rectangle((0, top, width, top + height * 0.07), fill=joint)


def background(rng: np.random.Generator, camera: Camera, shape: tuple[int, int]) -> np.ndarray:
    """Cuts a part out of the camera's scene, `[height, width, 3]` uint8."""
    left = int(rng.integers(0, camera.scene.shape[1] - shape[1] + 1))
    return camera.scene[:, left : left + shape[1]]


def occlude(rng: np.random.Generator, canvas: Image.Image) -> None:
    """Puts a pole, a bush, a bin or a railing in front of the person."""
    draw = ImageDraw.Draw(canvas)
    width, height = canvas.size
    kind = rng.choice(["pole", "bush", "bin", "railing"])
    if kind == "pole":
        x, thick = rng.uniform(0.1, 0.9) * width, rng.uniform(0.05, 0.18) * width
        draw.rectangle((x - thick / 2, 0, x + thick / 2, height), fill=_tint(rng, _WALLS, 40))
    elif kind == "bush":
        top, centre = rng.uniform(0.55, 0.8) * height, rng.uniform(0, 1) * width
        for _ in range(60):
            x, y = rng.normal(centre, width * 0.25), rng.uniform(top, height)
            radius = rng.uniform(0.03, 0.09) * width
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_tint(rng, _LEAVES, 14))
    elif kind == "bin":
        x, top = rng.uniform(-0.2, 0.7) * width, rng.uniform(0.55, 0.85) * height
        draw.rectangle((x, top, x + rng.uniform(0.3, 0.6) * width, height), fill=_tint(rng, _WALLS + _GROUNDS, 40))
    else:
        fill, top = _tint(rng, _WALLS, 40), rng.uniform(0.45, 0.7) * height
        for y in (top, top + 0.12 * height, top + 0.24 * height):
            draw.line((0, y, width, y + rng.uniform(-0.03, 0.03) * height), fill=fill, width=max(int(width * 0.03), 1))


def photograph(
    rng: np.random.Generator, camera: Camera, canvas: Image.Image, size: tuple[int, int], difficulty: float
) -> Image.Image:
    """Takes a picture of (height, width) pixels of a canvas: lens, light and sensor of the camera.

    The light varies from frame to frame, the more the greater the difficulty, 0 to 1.
    """
    height, width = size
    sharpness = camera.sharpness * (1 - 0.3 * difficulty * float(rng.random()))
    sensor = (max(round(width * sharpness), 8), max(round(height * sharpness), 16))
    small = canvas.resize(sensor, Image.Resampling.BOX).resize((width, height), Image.Resampling.BICUBIC)
    picture = np.asarray(small, np.float32) / 255
    exposure = camera.brightness * np.exp(rng.normal(0, 0.18 * difficulty))
    slope = rng.normal(0, 0.3 * difficulty, 2)
    rows, columns = np.linspace(-0.5, 0.5, height), np.linspace(-0.5, 0.5, width)
    light = exposure * np.clip(1 + slope[0] * rows[:, None] + slope[1] * columns[None, :], 0.4, 1.6)
    picture = picture * light[:, :, None].astype(np.float32) * np.array(camera.gains, np.float32)
    grey = picture.mean(axis=2, keepdims=True)
    picture = grey + camera.saturation * (picture - grey)
    picture = np.clip(0.5 + camera.contrast * (picture - 0.5), 0.01, 1) ** camera.gamma
    picture = 255 * picture + rng.standard_normal(picture.shape, np.float32) * camera.noise
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
