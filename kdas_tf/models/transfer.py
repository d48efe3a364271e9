"""Starts a network from all weights of another network but its classifier's."""

import json
import os

import keras

from kdas_tf.errors import UserError
from kdas_tf.models import saved
from kdas_tf.models.drop_path import DropPath

_MAY_DIFFER = ("num_identities", "image_size", "drop_path", "last_stride")
"""Arguments of networks on which no weight but the classifier's depends."""


def start_from(network: keras.Model, folder: str | os.PathLike) -> int:
    """Copies the weights of a saved network into a network of the same architecture.

    Stem, cells and neck are copied, with the statistics of their normalisations. The classifier is not: it has other
    classes. Image sizes may differ. Call it inside the strategy's scope. Returns the number of copied variables.

    Args:
        network: built, with a `head`.
        folder: of a stage that saved a network, such as `pretrain`.

    Raises:
        UserError: there is no saved network, or it is of another architecture; nothing is copied then.
    """
    source = saved.load(folder)
    different = _differences(network, folder)
    if different:
        raise UserError(
            f"The network in {folder} is not of the same architecture: {', '.join(different)}. Give one that was "
            "trained with the same genotype, channels, cells and reductions.",
            code="fit",
        )
    ours, theirs = _copied(network), _copied(source)
    for target, value in zip(ours, theirs, strict=True):
        target.assign(value)
    return len(ours)


def _copied(network: keras.Model) -> list[keras.Variable]:
    """The weights that mean the same for any classes, in the order in which they were made."""
    others = [network.head.classifier, *(layer for layer in network._flatten_layers() if isinstance(layer, DropPath))]
    ids = {id(weight) for layer in others for weight in layer.weights}
    return [weight for weight in network.weights if id(weight) not in ids]


def _differences(network: keras.Model, folder: str | os.PathLike) -> list[str]:
    """Which arguments of the saved network are others than this network's, in words.

    Equal shapes would not be enough: genotypes may differ only in where their edges begin.
    """
    content = saved.describe(folder)
    if content["kind"] != type(network).__name__:
        return [f"it is a {content['kind']}, this one a {type(network).__name__}"]
    here = json.loads(json.dumps(network.get_config()))  # tuples become lists, as in the file
    return [
        f"another {name}" if isinstance(there, (dict, list)) else f"{name} {there} there and {here.get(name)} here"
        for name, there in content["config"].items()
        if name not in _MAY_DIFFER and there != here.get(name)
    ]
