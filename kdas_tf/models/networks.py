"""The supernet that is searched and the student that is derived from it: stem, cells, head."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from kdas_tf.errors import UserError
from kdas_tf.genotype import EDGES, PRIMITIVES, Genotype
from kdas_tf.models.cells import Cell, DerivedCell, SupernetCell, cell_plan
from kdas_tf.models.heads import ReIDHead
from kdas_tf.models.stem import Stem

PAPER_REDUCTIONS = (2, 4, 6)
"""The 3rd, 5th and 7th of eight cells (section 3.2.2)."""


class CellNetwork(keras.Model):
    """Stem - cells - head: the macro structure of section 3.2.2.

    Args:
        num_identities: number of training identities.
        image_size: (height, width) of the input in pixels.
        channels: C, channels of the stem and the first cell (32 in search, 64 in training).
        cells: number of cells.
        reductions: positions of the reduction cells, counted from 0.

    Input shape: `[batch, height, width, 3]`, RGB in 0..255. Output: `ReIDOutput`.

    Raises:
        UserError: channels, sizes or positions that make no network.
    """

    def __init__(
        self,
        num_identities: int,
        *,
        image_size: tuple[int, int] = (384, 128),
        channels: int = 32,
        cells: int = 8,
        reductions: Sequence[int] = PAPER_REDUCTIONS,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if channels < 4 or channels % 2 or len(image_size) != 2 or min(image_size) < 8:
            raise UserError(
                "Expected an even number of channels from 4 on and an image_size (height, width) of at least 8 pixels "
                f"each, got channels={channels}, image_size={tuple(image_size)}."
            )
        self.stem = Stem(channels, name="stem", dtype=self.dtype_policy)
        self.cells: list[Cell] = [
            self.make_cell(i, **arguments) for i, arguments in enumerate(cell_plan(cells, reductions, channels))
        ]
        self.head = ReIDHead(num_identities, name="head", dtype=self.dtype_policy)
        self.build((None, *image_size, 3))

    def make_cell(self, index: int, **arguments: Any) -> Cell:
        """Makes the cell at a position."""
        raise NotImplementedError

    def build(self, input_shape):
        # Shapes are passed on by hand: building by a symbolic call would trace every operation once more.
        self.stem.build(input_shape)
        older = newer = self.stem.compute_output_shape(input_shape)
        for cell in self.cells:
            cell.build(older, newer)
            older, newer = newer, self._cell_output_shape(cell, newer)
        self.head.build(newer)
        self.built = True

    @staticmethod
    def _cell_output_shape(cell: Cell, input_shape):
        batch, height, width, _ = input_shape
        step = 2 if cell.reduction else 1
        nodes = len(cell.genotype.concat) if isinstance(cell, DerivedCell) else 4
        return (batch, -(-height // step), -(-width // step), nodes * cell.channels)

    def call(self, images, training: bool = False):
        older = newer = self.stem(ops.cast(images, self.compute_dtype), training=training)
        for cell in self.cells:
            older, newer = newer, cell(older, newer, training=training, **self.cell_arguments(cell))
        return self.head(newer, training=training)

    def cell_arguments(self, cell: Cell) -> dict[str, Any]:
        """What a cell needs beside its inputs."""
        return {}


class Student(CellNetwork):
    """A network derived from a genotype.

    Args:
        genotype: the architecture.
        num_identities: number of training identities.
        **kwargs: as in `CellNetwork`.
    """

    def __init__(self, genotype: Genotype, num_identities: int, *, channels: int = 64, **kwargs: Any):
        self.genotype = genotype
        super().__init__(num_identities, channels=channels, **kwargs)

    def make_cell(self, index: int, **arguments: Any) -> Cell:
        return DerivedCell(
            genotype=self.genotype, affine=True, name=f"cell_{index}", dtype=self.dtype_policy, **arguments
        )


class Supernet(CellNetwork):
    """The supernet: every edge of every cell mixes all candidates, by weights that all cells of a kind share.

    `alpha_normal` and `alpha_reduce`, `[14, 7]` each, start at 1e-3 * N(0, 1) (DARTS) and are float32 always.
    """

    def make_cell(self, index: int, **arguments: Any) -> Cell:
        return SupernetCell(affine=False, name=f"cell_{index}", dtype=self.dtype_policy, **arguments)

    def build(self, input_shape):
        for kind in ("normal", "reduce"):
            alpha = self.add_weight(
                name=f"alpha_{kind}",
                shape=(len(EDGES), len(PRIMITIVES)),
                initializer=keras.initializers.RandomNormal(stddev=1e-3),
                dtype="float32",
                autocast=False,
            )
            setattr(self, f"alpha_{kind}", alpha)
        super().build(input_shape)

    def cell_arguments(self, cell: Cell) -> dict[str, Any]:
        return {"weights": ops.softmax(self.alpha_reduce if cell.reduction else self.alpha_normal, -1)}

    @property
    def alphas(self) -> list[keras.Variable]:
        """The architecture parameters."""
        return [self.alpha_normal, self.alpha_reduce]

    @property
    def network_weights(self) -> list[keras.Variable]:
        """All trainable weights but the architecture parameters."""
        alphas = {id(alpha) for alpha in self.alphas}
        return [v for v in self.trainable_variables if id(v) not in alphas]


def derived_parameters(genotype: Genotype, num_identities: int, **kwargs: Any) -> int:
    """Counts the trainable parameters of the network that a genotype gives, without keeping it."""
    with keras.StatelessScope():  # variables get no values, so this is cheap
        student = Student(genotype, num_identities, **kwargs)
    return sum(math_prod(v.shape) for v in student.trainable_variables)


def math_prod(shape: Sequence[int]) -> int:
    """Number of elements of a shape."""
    product = 1
    for size in shape:
        product *= size
    return product
