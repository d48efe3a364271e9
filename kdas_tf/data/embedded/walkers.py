"""Draws a walking person: a small skeleton, turned and projected, then dressed.

The limbs are drawn as filled shapes into a map of labels (what is seen where: skin, top, shoes ...), the farthest part
first; `rendering` colours it. Lengths are in heights of the person: y = 0 is the top of the head and y = 1 the ground;
x points to the person's left and z to where the person walks. The proportions are close to the eight-head canon of
figure drawing, with a slightly larger head, because hair and hat should be seen at 128 x 64 pixels.
"""

import dataclasses
import enum
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from kdas_tf.data.embedded.people import Person

Point = tuple[float, float, float]

_SHOULDER, _WAIST, _HIP = 0.175, 0.37, 0.50
_THIGH, _SHIN = 0.235, 0.235


class Label(enum.IntEnum):
    """What a pixel of a figure shows."""

    NOTHING = 0
    SKIN = 1
    HAIR = 2
    HAT = 3
    TOP = 4
    ACCENT = 5
    BOTTOM = 6
    SHOES = 7
    BAG = 8


# Added to the label of a limb on the side away from the camera, which gets less light.
FAR = 16


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where a person stands in the picture, and at which point of the step."""

    yaw: float  # where the person walks, radians: 0 towards the camera, pi / 2 to the right, pi away from it
    phase: float  # point of the walking cycle, radians
    size: float  # pixels from the top of the head to the ground
    x: float  # column of the body's axis, pixels
    y: float  # row of the top of the head, pixels


class _Sketch:
    """A map of labels and a pen that takes points in heights of the person."""

    def __init__(self, shape: tuple[int, int], pose: Pose):
        self.image = Image.new("L", (shape[1], shape[0]), int(Label.NOTHING))
        self._draw = ImageDraw.Draw(self.image)
        self._pose = pose
        self.cos, self.sin = float(np.cos(pose.yaw)), float(np.sin(pose.yaw))

    def depth(self, x: float, z: float) -> float:
        """How much nearer to the camera than the body's axis a point is."""
        return z * self.cos - x * self.sin

    def column(self, x: float, z: float) -> float:
        """Where a point is seen beside the body's axis."""
        return x * self.cos + z * self.sin

    def half_width(self, across: float, along: float) -> float:
        """Half the visible width of a round body with these half axes along x and z."""
        return float(np.hypot(across * self.cos, along * self.sin))

    def _pixel(self, column: float, y: float) -> tuple[float, float]:
        return self._pose.x + column * self._pose.size, self._pose.y + y * self._pose.size

    def polygon(self, corners: list[tuple[float, float]], label: int) -> None:
        """Fills a polygon whose corners are (column beside the axis, y)."""
        self._draw.polygon([self._pixel(*corner) for corner in corners], fill=int(label))

    def band(self, rows: list[tuple[float, float]], label: int, centre: float = 0.0) -> None:
        """Fills a symmetric shape given as (y, half width) from top to bottom."""
        right = [(centre + half, y) for y, half in rows]
        left = [(centre - half, y) for y, half in reversed(rows)]
        self.polygon(right + left, label)

    def ellipse(self, column: float, y: float, radii: tuple[float, float], label: int) -> None:
        """Fills an ellipse with radii (across, down)."""
        corners = [self._pixel(column - radii[0], y - radii[1]), self._pixel(column + radii[0], y + radii[1])]
        self._draw.ellipse(corners, fill=int(label))

    def limb(self, start: Point, end: Point, radii: tuple[float, float], label: int) -> None:
        """Fills a tapering limb with round ends."""
        ends = [(self.column(x, z), y) for x, y, z in (start, end)]
        (x0, y0), (x1, y1) = ends
        length = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-6)
        nx, ny = -(y1 - y0) / length, (x1 - x0) / length
        sides = [(x0, y0, radii[0]), (x1, y1, radii[1]), (x1, y1, -radii[1]), (x0, y0, -radii[0])]
        self.polygon([(x + nx * radius, y + ny * radius) for x, y, radius in sides], label)
        for (column, y), radius in zip(ends, radii, strict=True):
            self.ellipse(column, y, (radius, radius), label)


def _swing(start: Point, length: float, angle: float, outwards: float = 0.0) -> Point:
    """The end of a limb that hangs from `start` and is swung forwards by `angle` radians."""
    return start[0] + outwards, start[1] + length * float(np.cos(angle)), start[2] + length * float(np.sin(angle))


def _legs(sketch: _Sketch, person: Person, phase: float) -> None:
    """Draws both legs and the lower clothing."""
    chains = []
    for side in (1, -1):
        cycle = phase + (0 if side > 0 else np.pi)
        thigh = person.stride * float(np.sin(cycle))
        shin = thigh - 0.08 - 0.75 * max(0.0, float(np.cos(cycle)))  # the knee bends while the leg swings forwards
        hip = (side * 0.047 * person.girth, _HIP, 0.0)
        knee = _swing(hip, _THIGH, thigh)
        chains.append((side, hip, knee, _swing(knee, _SHIN, shin)))
    sink = 0.972 - max(ankle[1] for *_, ankle in chains)  # the standing foot is on the ground
    for side, *joints in sorted(chains, key=lambda chain: sketch.depth(chain[0], 0.0)):
        far = FAR if sketch.depth(side, 0.0) < -0.3 else 0
        hip, knee, ankle = [(x, y + sink, z) for x, y, z in joints]
        girth = person.girth**0.7
        cover = {"trousers": 2, "shorts": 1, "skirt": 0}[person.bottom_kind]
        upper, lower = (Label.BOTTOM if cover > part else Label.SKIN for part in (0, 1))
        sketch.limb(knee, ankle, (0.036 * girth, 0.026 * girth if cover == 2 else 0.021), lower + far)
        sketch.limb(hip, knee, (0.054 * girth, 0.043 * girth if cover else 0.036), upper + far)
        toe = (ankle[0], min(ankle[1] + 0.012, 0.985), ankle[2] + 0.065)
        sketch.limb(ankle, toe, (0.025, 0.017), Label.SHOES + far)
    width = sketch.half_width(0.092 * person.girth, 0.072 * person.girth)
    if person.bottom_kind == "skirt":
        sketch.band([(0.46, width * 0.85), (_HIP, width), (0.71, width * 1.3 + 0.01)], Label.BOTTOM)
    else:
        sketch.band([(0.46, width * 0.9), (_HIP + 0.05 + sink, width)], Label.BOTTOM)


def _arm(sketch: _Sketch, person: Person, phase: float, side: int) -> None:
    """Draws one arm; it swings against the leg of its side."""
    angle = -1.1 * person.stride * float(np.sin(phase + (0 if side > 0 else np.pi)))
    far = FAR if sketch.depth(side, 0.0) < -0.3 else 0
    shoulder = (side * 0.112 * person.girth, _SHOULDER + 0.03, 0.0)
    elbow = _swing(shoulder, 0.155, angle - 0.1, outwards=side * 0.018)
    wrist = _swing(elbow, 0.135, angle + 0.35)
    thick = person.girth**0.6
    if not far:  # a dark rim sets the arm apart from the torso behind it
        sketch.limb(shoulder, elbow, (0.044 * thick, 0.036 * thick), Label.TOP + FAR)
    sketch.limb(elbow, wrist, (0.027 * thick, 0.02), (Label.TOP if person.sleeve == "long" else Label.SKIN) + far)
    sketch.ellipse(sketch.column(wrist[0], wrist[2]), wrist[1] + 0.018, (0.02, 0.026), Label.SKIN + far)
    sketch.limb(shoulder, elbow, (0.038 * thick, 0.03 * thick), Label.TOP + far)


def _torso(sketch: _Sketch, person: Person) -> None:
    """Draws neck and upper clothing, with what is only seen from the front or from the back."""
    girth = person.girth
    sketch.band([(0.11, 0.028), (_SHOULDER, 0.034)], Label.SKIN)
    widths = [
        sketch.half_width(across * girth, along * girth)
        for across, along in ((0.06, 0.045), (0.122, 0.062), (0.098, 0.07), (0.1, 0.076))
    ]
    rows = (0.15, _SHOULDER + 0.02, _WAIST, person.hem)
    sketch.band(list(zip(rows, widths, strict=True)), Label.TOP)
    facing = sketch.cos
    if person.pattern == "jacket" and facing > 0.1:
        sketch.band([(0.15, 0.03 * facing), (person.hem, 0.045 * facing)], Label.ACCENT, sketch.column(0.0, 0.055))
    side = -1 if person.pattern == "print" else 1
    if person.pattern in ("logo", "print") and facing * side > 0.1:
        low, half = (0.29, 0.05) if person.pattern == "logo" else (0.36, 0.068)
        half *= abs(facing) * girth
        sketch.band([(0.215, half), (low, half)], Label.ACCENT, sketch.column(0.0, side * 0.055))
    if person.bag == "backpack" and facing > 0.0:
        for strap in (0.07, -0.07):
            centre = sketch.column(strap * girth, 0.05)
            sketch.band([(0.158, 0.013), (0.35, 0.011)], Label.BAG, centre)


def _head(sketch: _Sketch, person: Person) -> None:
    """Draws head, hair and hat."""
    hair = Label.SKIN if person.hair_length == "bald" else Label.HAIR
    if person.hair_length == "long":
        sketch.band([(0.05, 0.056), (0.14, 0.062), (0.215, 0.05)], hair, sketch.column(0.0, -0.022))
    sketch.ellipse(0.0, 0.064, (0.052, 0.064), hair)
    if sketch.cos > -0.5:
        across = 0.043 * min(1.0, 0.75 + 0.5 * max(sketch.cos, -0.5))
        sketch.ellipse(sketch.column(0.0, 0.022), 0.08, (across, 0.05), Label.SKIN)
    if person.hat is not None:
        sketch.ellipse(0.0, 0.035, (0.056, 0.04), Label.HAT)
        brim = sketch.column(0.0, 0.05)
        sketch.ellipse(brim, 0.052, (0.045, 0.014), Label.HAT)


def _backpack(sketch: _Sketch, girth: float) -> None:
    """Draws a backpack."""
    columns = [sketch.column(x * girth, z) for x in (-0.088, 0.088) for z in (-0.05, -0.15)]
    left, right = min(columns), max(columns)
    width, centre = right - left, (left + right) / 2
    sketch.band([(0.18, width * 0.38), (0.22, width / 2), (0.43, width / 2)], Label.BAG, centre)


def _handbag(sketch: _Sketch, person: Person) -> None:
    """Draws a handbag that hangs from the shoulder."""
    x = person.bag_side * 0.15 * person.girth
    sketch.limb((x * 0.75, _SHOULDER, 0.0), (x, 0.46, 0.0), (0.008, 0.008), Label.BAG)
    half = sketch.half_width(0.035, 0.075)
    sketch.band([(0.45, half * 0.9), (0.57, half)], Label.BAG, sketch.column(x, 0.0))


def draw_labels(shape: tuple[int, int], person: Person, pose: Pose) -> np.ndarray:
    """Draws a person on a picture of (height, width) pixels.

    Returns:
        What is seen where, uint8 `[height, width]`: a `Label`, plus `FAR` on the side away from the camera.
    """
    sketch = _Sketch(shape, pose)
    _legs(sketch, person, pose.phase)
    # How near to the camera each part is, and what draws it.
    parts: list[tuple[float, Callable[[], None]]] = [
        (0.0, lambda: _torso(sketch, person)),
        (0.05, lambda: _head(sketch, person)),
        # Seen from the front or the back both arms are beside the body, and in front of what they touch.
        (sketch.depth(0.12, 0.0) + 0.02, lambda: _arm(sketch, person, pose.phase, 1)),
        (sketch.depth(-0.12, 0.0) + 0.02, lambda: _arm(sketch, person, pose.phase, -1)),
    ]
    if person.bag == "backpack":
        parts.append((sketch.depth(0.0, -0.1), lambda: _backpack(sketch, person.girth)))
    elif person.bag == "handbag":
        parts.append((sketch.depth(person.bag_side * 0.15, 0.0) + 0.03, lambda: _handbag(sketch, person)))
    for _, draw in sorted(parts, key=lambda part: part[0]):
        draw()
    return np.asarray(sketch.image)
