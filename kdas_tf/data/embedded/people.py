"""Who the embedded data shows: the clothing, build, hair and bag of a person, drawn at random."""

import dataclasses

import numpy as np

Colour = tuple[float, float, float]
Palette = tuple[tuple[Colour, float], ...]

# Clothes seen in a street: muted and few, so that many people share them. (red, green, blue) in 0..255, and how often.
_TOPS: Palette = (
    ((30, 30, 34), 5),  # black
    ((66, 66, 70), 3),  # charcoal
    ((128, 128, 130), 3),  # grey
    ((188, 188, 186), 2),  # light grey
    ((226, 224, 218), 4),  # white
    ((38, 44, 74), 3),  # navy
    ((74, 100, 140), 2),  # blue
    ((146, 168, 192), 1.5),  # light blue
    ((94, 94, 64), 1.5),  # olive
    ((190, 172, 142), 1.5),  # beige
    ((100, 74, 56), 1.5),  # brown
    ((112, 40, 50), 1.5),  # burgundy
    ((164, 56, 52), 1.5),  # red
    ((64, 102, 78), 1),  # green
    ((204, 156, 160), 1),  # pink
    ((182, 144, 66), 0.8),  # mustard
)
_BOTTOMS: Palette = (
    ((30, 30, 34), 5),  # black
    ((62, 62, 66), 2),  # charcoal
    ((46, 56, 84), 4),  # dark jeans
    ((80, 98, 130), 3),  # jeans
    ((132, 150, 174), 1.5),  # faded jeans
    ((118, 118, 118), 1.5),  # grey
    ((164, 146, 116), 1.5),  # khaki
    ((88, 86, 60), 1),  # olive
    ((214, 210, 200), 0.6),  # white
)
_SKIN: Palette = (
    ((232, 194, 168), 3),
    ((214, 170, 138), 3),
    ((182, 134, 100), 2),
    ((132, 90, 64), 1.5),
    ((88, 60, 46), 1.5),
)
_HAIR: Palette = (
    ((26, 22, 22), 5),
    ((66, 46, 34), 4),
    ((118, 84, 54), 2),
    ((186, 152, 100), 1.5),
    ((150, 146, 142), 1),
)
_SHOES: Palette = (
    ((28, 26, 26), 4),
    ((222, 220, 216), 3),
    ((96, 66, 46), 2),
    ((120, 120, 122), 1.5),
    ((150, 50, 50), 0.6),
)


@dataclasses.dataclass(frozen=True)
class Person:
    """The appearance of one person. Colours are (red, green, blue) in 0..255."""

    height: float  # stature relative to the average of 1
    girth: float  # width relative to the average of 1
    skin: Colour  # of face, hands and bare limbs
    hair: Colour
    hair_length: str  # `bald`, `short` or `long`
    hat: Colour | None
    top: Colour
    accent: Colour  # second colour of the upper clothing, in all patterns but `plain`
    pattern: str  # `plain`, `stripes`, `checks`, `logo` (chest), `print` (back), `two_tone`, `jacket` (open in front)
    sleeve: str  # `long` or `short`
    hem: float  # where the upper clothing ends, in heights below the top of the head
    bottom: Colour
    bottom_kind: str  # `trousers`, `shorts` or `skirt`
    shoes: Colour
    bag: str  # `none`, `backpack` or `handbag`
    bag_colour: Colour
    bag_side: int  # a handbag hangs on the person's left (1) or right (-1)
    stride: float  # half the angle between the legs at the widest step, radians
    cadence: float  # frames of one walking cycle (two steps)


def _colour(rng: np.random.Generator, palette: Palette, spread: float = 7.0) -> Colour:
    """Draws a colour of the palette and varies it a little, because no two fabrics are dyed alike."""
    weights = np.array([weight for _, weight in palette])
    base = np.array(palette[rng.choice(len(palette), p=weights / weights.sum())][0])
    red, green, blue = np.clip(base + rng.normal(0, spread) + rng.normal(0, spread / 2, 3), 8, 245)
    return float(red), float(green), float(blue)


def _pick(rng: np.random.Generator, **weights: float) -> str:
    """Draws one of the names with the given weights."""
    total = sum(weights.values())
    return str(rng.choice(list(weights), p=[weight / total for weight in weights.values()]))


def random_person(rng: np.random.Generator) -> Person:
    """Draws a person; the same state of the generator gives the same person."""
    top, accent = _colour(rng, _TOPS), _colour(rng, _TOPS)
    while sum(abs(one - other) for one, other in zip(top, accent, strict=True)) < 90:
        accent = _colour(rng, _TOPS)  # a pattern in nearly the same colour would be invisible
    pattern = _pick(rng, plain=9, stripes=3, checks=2, logo=3, print=2, two_tone=2, jacket=4)
    return Person(
        height=float(np.clip(rng.normal(1.0, 0.05), 0.86, 1.12)),
        girth=float(np.clip(rng.normal(1.0, 0.13), 0.76, 1.4)),
        skin=_colour(rng, _SKIN),
        hair=_colour(rng, _HAIR),
        hair_length=_pick(rng, bald=1, short=6, long=4),
        hat=_colour(rng, _TOPS) if rng.random() < 0.15 else None,
        top=top,
        accent=accent,
        pattern=pattern,
        sleeve="long" if pattern == "jacket" else _pick(rng, long=1, short=1),
        hem=float(rng.choice([0.50, 0.53, 0.58])) + (0.03 if pattern == "jacket" else 0.0),
        bottom=_colour(rng, _BOTTOMS),
        bottom_kind=_pick(rng, trousers=7, shorts=2, skirt=1.5),
        shoes=_colour(rng, _SHOES),
        bag=_pick(rng, none=5, backpack=4, handbag=2),
        bag_colour=_colour(rng, _TOPS),
        bag_side=int(rng.choice([-1, 1])),
        stride=float(rng.uniform(0.32, 0.52)),
        cadence=float(rng.uniform(24, 32)),
    )
