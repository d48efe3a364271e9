"""The networks that gpu_jax.py and backend_numbers.py measure: the same weights on every backend of Keras."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import keras
import numpy as np

from kdas_tf import genotype as genotypes
from kdas_tf.models.networks import Student, Supernet
from kdas_tf.models.resnet import ResNet
from kdas_tf.space import operations

IDENTITIES = 751  # Market-1501's
SEARCHED = Path(__file__).with_name("searched_genotype.json")
SUPERNET, RESNET = "supernet", "ResNet-50"
STUDENTS = {"Auto-ReID": "AUTO_REID", "searched": str(SEARCHED)}
REMATERIALIZED = f"{SUPERNET}-remat"
NETWORKS = (*STUDENTS, RESNET, SUPERNET, REMATERIALIZED)


class Scale(NamedTuple):
    """Sizes of a measurement; a student has twice the supernet's channels, and twice its batch."""

    image_size: tuple[int, int]
    channels: int
    cells: int
    reductions: tuple[int, ...]
    batch: int
    identities: int

    def batch_of(self, name: str) -> int:
        """Photographs in a batch of a network's step."""
        return self.batch if name.startswith(SUPERNET) else 2 * self.batch


PAPER = Scale((384, 128), channels=32, cells=8, reductions=(2, 4, 6), batch=16, identities=IDENTITIES)
TINY = Scale((32, 16), channels=4, cells=2, reductions=(1,), batch=4, identities=7)


def make_network(name: str, scale: Scale, policy: str) -> keras.Model:
    """Makes one of `NETWORKS` with weights that depend on nothing but its shape."""
    with numpy_initializers():
        size = {"image_size": scale.image_size, "dtype": policy}
        if name == RESNET:
            return ResNet(50, scale.identities, **size)
        cells = {"cells": scale.cells, "reductions": scale.reductions}
        if name in STUDENTS:
            genotype = genotypes.load(STUDENTS[name])
            return Student(genotype, scale.identities, channels=2 * scale.channels, **cells, **size)
        again = name == REMATERIALIZED
        return Supernet(scale.identities, channels=scale.channels, rematerialize=again, **cells, **size)


@contextlib.contextmanager
def numpy_initializers(seed: int = 0) -> Iterator[None]:
    """Lets NumPy make all new variables: the same numbers on every backend, and nothing compiled for them.

    JAX compiles a program for each shape of random numbers, about a second each; a supernet has hundreds.
    """
    rng = np.random.default_rng(seed)

    def normal(initializer, shape, dtype=None, **_):
        return rng.normal(initializer.mean, initializer.stddev, shape).astype(dtype or "float32")

    def scaled(initializer, shape, dtype=None, **_):
        fan_in = math.prod(shape[:-1])
        return rng.normal(0.0, math.sqrt(initializer.scale / fan_in), shape).astype(dtype or "float32")

    def constant(value: float):
        return lambda _, shape, dtype=None, **__: np.full(shape, value, dtype or "float32")

    kinds = keras.initializers
    made = {
        kinds.RandomNormal: normal,
        kinds.VarianceScaling: scaled,
        kinds.Zeros: constant(0.0),
        kinds.Ones: constant(1.0),
    }
    with contextlib.ExitStack() as stack:
        for kind, call in made.items():
            stack.enter_context(mock.patch.object(kind, "__call__", call))
        yield


@contextlib.contextmanager
def other_operations(**replaced: Any) -> Iterator[None]:
    """Exchanges functions of kdas_tf.space.operations while networks are made and traced."""
    with contextlib.ExitStack() as stack:
        for name, function in replaced.items():
            stack.enter_context(mock.patch.object(operations, name, function))
        yield
