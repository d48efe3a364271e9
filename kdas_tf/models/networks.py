"""The supernet that is searched and the student that is derived from it: stem, cells, head."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kdas_tf.errors import UserError
from kdas_tf.genotype import EDGES, PRIMITIVES, Genotype
from kdas_tf.models.cells import Cell, DerivedCell, SupernetCell, as_genotype, cell_plan, genotype_config
from kdas_tf.models.drop_path import DropPath
from kdas_tf.models.heads import ReIDHead
from kdas_tf.models.stem import STEMS
from kdas_tf.settings import PAPER_REDUCTIONS
from kdas_tf.space.edges import deferred_statistics


class CellNetwork(keras.Model):
    """Stem - cells - head: the macro structure of section 3.2.2.

    Args:
        num_identities: number of training identities.
        image_size: (height, width) of the input in pixels.
        channels: C, channels of the stem and the first cell (32 in search, 64 in training).
        cells: number of cells.
        reductions: positions of the reduction cells, counted from 0.
        stem: one of `STEMS`; "inet4" is the paper's.

    Input shape: `[batch, height, width, 3]`, RGB in 0..255. Output: `ReIDOutput`.

    Raises:
        UserError: channels, sizes, positions or a stem that make no network.
    """

    def __init__(
        self,
        num_identities: int,
        *,
        image_size: tuple[int, int] = (384, 128),
        channels: int = 32,
        cells: int = 8,
        reductions: Sequence[int] = PAPER_REDUCTIONS,
        stem: str = "inet4",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if channels < 4 or channels % 2 or len(image_size) != 2 or min(image_size) < 8:
            raise UserError(
                "Expected an even number of channels from 4 on and an image_size (height, width) of at least 8 pixels "
                f"each, got channels={channels}, image_size={tuple(image_size)}."
            )
        if stem not in STEMS:
            raise UserError(f"Expected stem to be one of {', '.join(STEMS)}, got {stem!r}.", code="choice")
        self.num_identities = num_identities
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.channels = channels
        self.reductions = tuple(reductions)
        self.stem_name = stem
        self.stem = STEMS[stem](channels, name="stem", dtype=self.dtype_policy)
        self.cells: list[Cell] = [
            self.make_cell(i, **arguments) for i, arguments in enumerate(cell_plan(cells, reductions, channels))
        ]
        self.head = ReIDHead(num_identities, name="head", dtype=self.dtype_policy)
        self.build((None, *self.image_size, 3))

    def make_cell(self, index: int, **arguments: Any) -> Cell:
        """Makes the cell at a position."""
        raise NotImplementedError

    def build(self, input_shape):
        # Shapes are passed on by hand: building by a symbolic call would trace every operation once more.
        self.stem.build(input_shape)
        older = newer = self.stem.compute_output_shape(input_shape)
        for cell in self.cells:
            cell.build(older, newer)
            older, newer = newer, cell.compute_output_shape(older, newer)
        self.head.build(newer)
        self.built = True

    def build_from_config(self, config):
        """Does nothing: a network is built when it is made."""

    def call(self, images, training: bool = False):
        older = newer = self.stem(ops.cast(images, self.compute_dtype), training=training)
        for cell in self.cells:
            older, newer = newer, self.run_cell(cell, older, newer, training)
        return self.head(newer, training=training)

    def run_cell(self, cell: Cell, older, newer, training: bool):
        """The output of a cell."""
        raise NotImplementedError

    def get_config(self):
        config = {name: getattr(self, name) for name in ("num_identities", "image_size", "channels", "reductions")}
        return {**super().get_config(), **config, "cells": len(self.cells), "stem": self.stem_name}


@keras.saving.register_keras_serializable("kdas_tf")
class Student(CellNetwork):
    """A network derived from a genotype.

    Args:
        genotype: the architecture, or its fields as in a Keras config.
        num_identities: number of training identities.
        drop_path: rate at which operations' outputs are dropped in training (`DropPath`). 0, the paper's, adds nothing
            to the network; with another rate a callback can set `student.drop_path.rate`.
        **kwargs: as in `CellNetwork`.
    """

    def __init__(
        self,
        genotype: Genotype | Mapping[str, Any],
        num_identities: int,
        *,
        channels: int = 64,
        drop_path: float = 0.0,
        **kwargs: Any,
    ):
        self.genotype = as_genotype(genotype)
        self.drop_path_rate = drop_path
        super().__init__(num_identities, channels=channels, **kwargs)

    def build(self, input_shape):
        rate = self.drop_path_rate
        self.drop_path = DropPath(rate, name="drop_path", dtype=self.dtype_policy) if rate else None
        super().build(input_shape)

    def make_cell(self, index: int, **arguments: Any) -> Cell:
        arguments |= {"affine": True, "genotype": self.genotype}
        return DerivedCell(name=f"cell_{index}", dtype=self.dtype_policy, **arguments)

    def run_cell(self, cell: Cell, older, newer, training: bool):
        return cell(older, newer, drop_path=self.drop_path, training=training)

    def get_config(self):
        config = {"genotype": genotype_config(self.genotype), "drop_path": self.drop_path_rate}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("kdas_tf")
class Supernet(CellNetwork):
    """The supernet: every edge of every cell mixes all candidates, by weights that all cells of a kind share.

    `alpha_normal` and `alpha_reduce`, `[14, 7]` each, start at 1e-3 * N(0, 1) (DARTS), float32 in mixed precision too.

    Args:
        num_identities: number of training identities.
        partial_channels: K, of which one K-th of the channels is mixed (PC-DARTS); 1 mixes all, as the paper does.
        rematerialize: whether a training step keeps only the inputs of the cells, and computes the cells once more for
            the gradient: the same numbers with less memory and more time (Chen et al., 2016).
        **kwargs: as in `CellNetwork`.
    """

    def __init__(self, num_identities: int, *, partial_channels: int = 1, rematerialize: bool = False, **kwargs: Any):
        self.partial_channels = partial_channels
        self.rematerialize = rematerialize
        super().__init__(num_identities, **kwargs)

    def make_cell(self, index: int, **arguments: Any) -> Cell:
        arguments |= {"affine": False, "partial_channels": self.partial_channels}
        return SupernetCell(name=f"cell_{index}", dtype=self.dtype_policy, **arguments)

    def build(self, input_shape):
        for kind in ("normal", "reduce"):
            name, shape, dtype = f"alpha_{kind}", (len(EDGES), len(PRIMITIVES)), keras.config.floatx()
            small = keras.initializers.RandomNormal(stddev=1e-3)
            alpha = self.add_weight(name=name, shape=shape, initializer=small, dtype=dtype, autocast=False)
            setattr(self, name, alpha)
        super().build(input_shape)

    def run_cell(self, cell: Cell, older, newer, training: bool):
        weights = ops.softmax(self.alpha_reduce if cell.reduction else self.alpha_normal, -1)
        if not (training and self.rematerialize):
            return cell(older, newer, weights=weights, training=training)
        moving: list[keras.Variable] = []

        def run(older, newer, weights):
            with deferred_statistics() as updates:
                output = cell(older, newer, weights=weights, training=True)
            moving[:] = [variable for variable, _ in updates]
            return output, [value for _, value in updates]

        output, values = keras.remat(run)(older, newer, weights)
        for variable, value in zip(moving, values, strict=True):
            variable.assign(value)
        return output

    def get_config(self):
        config = {"partial_channels": self.partial_channels, "rematerialize": self.rematerialize}
        return {**super().get_config(), **config}

    @property
    def alphas(self) -> list[keras.Variable]:
        """The architecture parameters."""
        return [self.alpha_normal, self.alpha_reduce]

    @property
    def network_weights(self) -> list[keras.Variable]:
        """All trainable weights but the architecture parameters."""
        alphas = {id(alpha) for alpha in self.alphas}
        return [v for v in self.trainable_variables if id(v) not in alphas]


def trainable_parameters(layer: keras.layers.Layer) -> int:
    """Counts the trainable parameters of a built layer or network."""
    return sum(math.prod(v.shape) for v in layer.trainable_variables)
