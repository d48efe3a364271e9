"""Starts a network from the weights of another one, all but its classifier."""

import itertools
import json
import os

import keras

from kdas_tf.errors import UserError
from kdas_tf.models import saved
from kdas_tf.models.drop_path import DropPath

_MAY_DIFFER = ("num_identities", "image_size", "drop_path", "last_stride")
"""Arguments of networks on which no weight but the classifier's depends."""


def start_from(network: keras.Model, folder: str | os.PathLike) -> int:
    """Copies the weights of a saved network into one of the same architecture.

    Stem, cells and neck are copied, with the statistics of their normalisations. The classifier is left: its classes
    are other ones. Image sizes may differ. Call it inside the strategy's scope.

    Args:
        network: built, with a `head`.
        folder: of a stage that left a network, such as `pretrain`.

    Returns:
        The number of variables that were copied.

    Raises:
        UserError: there is no saved network, or it is of another architecture; nothing is copied then.
    """
    source = saved.load(folder)
    ours, theirs = _copied(network), _copied(source)
    different = _differences(network, folder)
    misfit = next((pair for pair in itertools.zip_longest(ours, theirs) if not _fit(*pair)), None)
    if different or misfit:
        because = f": {', '.join(different)}" if different else ""
        first = ""
        if misfit:
            name = _name(network, misfit[0]) if misfit[0] is not None else _name(source, misfit[1])
            first = (
                f" The first weight that does not fit is {name}: {_shape(misfit[0])} here, {_shape(misfit[1])} there."
            )
        raise UserError(
            f"The network in {folder} is not of the same architecture{because}.{first} Give one that was trained with "
            "the same genotype, channels, cells and reductions.",
            code="fit",
        )
    for target, value in zip(ours, theirs, strict=True):
        target.assign(value)
    return len(ours)


def _copied(network: keras.Model) -> list[keras.Variable]:
    """The weights that mean the same for any classes, in the order in which they were made."""
    left = [network.head.classifier, *(layer for layer in network._flatten_layers() if isinstance(layer, DropPath))]
    ids = {id(weight) for layer in left for weight in layer.weights}
    return [weight for weight in network.weights if id(weight) not in ids]


def _differences(network: keras.Model, folder: str | os.PathLike) -> list[str]:
    """Which arguments make the saved network another one, in words.

    Equal shapes do not make two networks equal: genotypes may differ only in where their edges begin.
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


def _fit(target: keras.Variable | None, value: keras.Variable | None) -> bool:
    if target is None or value is None:
        return False
    return target.path.rpartition("/")[2] == value.path.rpartition("/")[2] and target.shape == value.shape


def _name(network: keras.Model, weight: keras.Variable) -> str:
    return weight.path.removeprefix(f"{network.name}/")


def _shape(weight: keras.Variable | None) -> str:
    return "missing" if weight is None else str(tuple(weight.shape))
