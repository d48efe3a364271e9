"""Every network that can be trained, by name: hand-made ones, published cells, cells from a file, the teacher's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from kdas_tf import genotype
from kdas_tf.errors import UserError
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import BLOCKS, ResNet
from kdas_tf.models.teacher_network import Teacher
from kdas_tf.settings import PAPER_REDUCTIONS

_RESNETS = {f"ResNet{depth}": depth for depth in BLOCKS}
TEACHER = "teacher:"
"""What comes before the name of a backbone of keras.applications."""

NAMES = (*_RESNETS, *genotype.NAMED)
"""Names that `make` knows, beside files and `TEACHER` names."""


def make(
    architecture: str,
    num_identities: int,
    *,
    image_size: tuple[int, int],
    channels: int = 64,
    cells: int = 8,
    reductions: Sequence[int] = PAPER_REDUCTIONS,
    stem: str = "inet4",
    drop_path: float = 0.0,
    last_stride: int | None = None,
    backbone_arguments: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Makes a network with new weights, which takes raw pixels and returns `ReIDOutput`.

    What an architecture does not have is not looked at: a ResNet has no cells, so that one set of arguments serves
    all rows of a table.

    Args:
        architecture: one of `NAMES`, the path of a genotype.json, or "teacher:" and the name of a backbone of
            keras.applications, without its ImageNet weights: "teacher:MobileNetV2".
        num_identities: number of training identities.
        image_size: (height, width) in pixels.
        channels: C, of networks of cells.
        cells: number of cells.
        reductions: positions of the reduction cells, counted from 0.
        stem: of networks of cells, one of `kdas_tf.models.stem.STEMS`.
        drop_path: of networks of cells.
        last_stride: of ResNets, also as backbones.
        backbone_arguments: more arguments of the backbone behind "teacher:".

    Raises:
        UserError: there is no such architecture, or it cannot have these arguments.
    """
    if architecture in _RESNETS:
        return ResNet(_RESNETS[architecture], num_identities, image_size=image_size, last_stride=last_stride)
    if architecture.startswith(TEACHER):
        return Teacher(
            architecture.removeprefix(TEACHER),
            num_identities,
            image_size=image_size,
            weights=None,
            last_stride=last_stride,
            backbone_arguments=backbone_arguments,
        )
    if architecture not in genotype.NAMED and not Path(architecture).is_file():
        raise UserError(
            f"Expected an architecture to be one of {', '.join(NAMES)}, a genotype.json file, or {TEACHER}NAME with "
            f"the name of a backbone of keras.applications, got {architecture!r}."
        )
    return Student(
        genotype.load(architecture),
        num_identities,
        image_size=image_size,
        channels=channels,
        cells=cells,
        reductions=reductions,
        stem=stem,
        drop_path=drop_path,
    )
