"""Every network that can be trained, by name: hand-made ones, published cells, cells from a file, the teacher's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from kdas_tf import genotype
from kdas_tf.errors import UserError
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import BLOCKS, ResNet
from kdas_tf.models.teacher_network import Teacher

_RESNETS = {f"ResNet{depth}": depth for depth in BLOCKS}
TEACHER = "teacher:"
"""Prefix of the name of a backbone of keras.applications."""

NAMES = (*_RESNETS, *genotype.NAMED)
"""Architectures that `make` knows by name."""


def make(
    architecture: str,
    num_identities: int,
    *,
    image_size: tuple[int, int],
    last_stride: int | None = None,
    backbone_arguments: Mapping[str, Any] | None = None,
    **cells: Any,
) -> keras.Model:
    """Makes a network with new weights, which takes raw pixels and returns `ReIDOutput`.

    Arguments that an architecture does not have are ignored, so that one set serves all rows of a table: a ResNet has
    no cells.

    Args:
        architecture: one of `NAMES`, the path of a genotype.json, or "teacher:" and the name of a backbone of
            keras.applications, without its ImageNet weights: "teacher:MobileNetV2".
        num_identities: number of training identities.
        image_size: (height, width) in pixels.
        last_stride: of ResNets, also as backbones.
        backbone_arguments: more arguments of the backbone behind "teacher:".
        **cells: arguments of a `Student`: channels, cells, reductions, stem, drop_path.

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
            last_stride=last_stride,
            backbone_arguments=backbone_arguments,
        )
    check(architecture)
    return Student(genotype.load(architecture), num_identities, image_size=image_size, **cells)


def check(architecture: str) -> None:
    """Refuses an architecture that is none, without making it.

    Raises:
        UserError: there is no such name or file, or the file holds no genotype.
    """
    if architecture in NAMES or architecture.startswith(TEACHER):
        return
    if not Path(architecture).is_file():
        raise UserError(
            f"Expected an architecture to be one of {', '.join(NAMES)}, a genotype.json file, or {TEACHER}NAME with "
            f"the name of a backbone of keras.applications, got {architecture!r}.",
            code="choice",
        )
    genotype.load(architecture)
