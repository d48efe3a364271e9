"""What the plain form of an operation is made of: maps, and the values of weights and normalisations.

An exported network is a plain function of constants. Its operations have one edge, their normalisations are folded, and
they are written in a `kdas_tf.serving.graphs.targets.Target`, here `target`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]


class Map:
    """A map and its ReLU, each made when it is first asked for, and once for all who ask.

    Most maps are needed after a ReLU only. The map itself is then never made, and runtimes make the ReLU a part of the
    convolution before it.
    """

    def __init__(self, raw: Callable[[], Any], relu: Callable[[], Any]):
        self._raw, self._relu = raw, relu

    @functools.cached_property
    def raw(self) -> Any:
        """The map."""
        return self._raw()

    @functools.cached_property
    def relu(self) -> Any:
        """Its ReLU."""
        return self._relu()


Forward = Callable[[Map], Map]


def as_map(target: Any, x: Any) -> Map:
    """A tensor of the target as a `Map`."""
    return Map(lambda: x, lambda: target.relu(x))


def joined(target: Any, maps: Sequence[Map]) -> Map:
    """Joins channels. The ReLU is that of the parts, which may come for free there."""
    return Map(lambda: target.concat([m.raw for m in maps]), lambda: target.concat([m.relu for m in maps]))


def to_array(variable: keras.Variable) -> Array:
    """The values of a variable."""
    return keras.ops.convert_to_numpy(variable.value)


def kernel_1x1(kernel: Array, scale: Array | float = 1.0) -> Array:
    """The kernel `[inputs, filters]` of a 1x1 convolution, times the scale of each filter, as targets take it."""
    return (kernel * scale).astype(np.float32)[None, None]


def scale_and_offset(norm: keras.layers.Layer) -> tuple[Array, Array]:
    """What a normalisation does in inference, y = scale * x + offset, as float64 `[channels]`.

    Args:
        norm: a `keras.layers.BatchNormalization` of the last axis, or an `EdgeBatchNorm` of one edge.
    """
    affine = getattr(norm, "affine", True)  # EdgeBatchNorm's; Keras has one argument for each half of it
    scaled, centred = affine and getattr(norm, "scale", True), affine and getattr(norm, "center", True)
    mean, variance = _flat(norm.moving_mean), _flat(norm.moving_variance)
    scale = (_flat(norm.gamma) if scaled else 1.0) / np.sqrt(variance + norm.epsilon)
    return scale, (_flat(norm.beta) if centred else 0.0) - scale * mean


def _flat(variable: keras.Variable) -> Array:
    return to_array(variable).astype(np.float64).reshape(-1)
