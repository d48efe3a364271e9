"""Trained networks on disk: what they are as JSON, and their weights."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from kdas_tf import files
from kdas_tf.errors import UserError
from kdas_tf.models.networks import Student
from kdas_tf.models.resnet import ResNet
from kdas_tf.models.teacher_network import Teacher

INDEX = "network.json"
WEIGHTS = "network.weights.h5"
KINDS: Mapping[str, type[keras.Model]] = {"Student": Student, "Teacher": Teacher, "ResNet": ResNet}
"""Networks that a file may name; nothing else is made from it."""


def save(network: keras.Model, folder: Path, *, image_size: tuple[int, int]) -> None:
    """Writes a network's weights, then what it is; image_size is that of the photographs that it was trained on."""
    of_every_layer = ("name", "trainable", "dtype")
    config = {name: value for name, value in network.get_config().items() if name not in of_every_layer}
    with files.replacing(folder / WEIGHTS) as partial:
        network.save_weights(partial)
    content = {"kind": type(network).__name__, "config": config, "image_size": list(image_size)}
    files.write_json(folder / INDEX, content)


def describe(folder: str | os.PathLike) -> dict[str, Any]:
    """Reads what a saved network is: `kind`, `config` and `image_size`.

    Raises:
        UserError: there is no such network, or its file is damaged.
    """
    path = Path(folder) / INDEX
    try:
        content = files.read_json(path)
        kind, config, (height, width) = content["kind"], dict(content["config"]), content["image_size"]
        return {"kind": str(kind), "config": config, "image_size": (int(height), int(width))}
    except files.DAMAGE as error:
        raise UserError(
            f"Expected a trained network in {folder}, with {INDEX} and {WEIGHTS}, but {path} cannot be read "
            f"({type(error).__name__}: {error}).",
            code="damaged",
        ) from error


def load(folder: str | os.PathLike) -> keras.Model:
    """Makes the network that `save` wrote; call it inside a strategy's scope.

    Raises:
        UserError: there is no such network, or its files are damaged.
    """
    content = describe(folder)
    if content["kind"] not in KINDS:
        raise UserError(
            f"Expected the network in {folder} to be one of {', '.join(KINDS)}, got {content['kind']!r}.", code="choice"
        )
    try:
        files.open_file(Path(folder) / WEIGHTS).close()  # HDF5 would wait for a pipe
        network = KINDS[content["kind"]](**content["config"])
        network.load_weights(Path(folder) / WEIGHTS)
        return network
    except files.DAMAGE as error:
        raise UserError(
            f"The network in {folder} cannot be loaded ({type(error).__name__}: {' '.join(str(error).split())[:300]}). "
            "Run the stage that made it again.",
            code="damaged",
        ) from error
