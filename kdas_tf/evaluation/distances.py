"""Distances of queries to a gallery, made a few rows at a time so that memory stays bounded."""

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Distances(Protocol):
    """What ranks a gallery: plain distances of features, or re-ranked ones."""

    @property
    def shape(self) -> tuple[int, int]:
        """(queries, gallery images)."""

    def rows(self, first: int, last: int) -> npt.NDArray[np.float32]:
        """Distances of the queries `first` .. `last` - 1 to the whole gallery, as an array that is the caller's own."""

    def exact(self, row: int, columns: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        """Distances of one query to some gallery images, the same whichever rows and columns are asked for together.

        Rows of float32 products depend on their last digits on how the product is cut; this settles their order.
        """
