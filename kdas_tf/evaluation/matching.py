"""Which gallery images match a query, and which the rules of Market-1501 remove from its gallery."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError
from kdas_tf.evaluation.embeddings import Embeddings

JUNK = -1
"""Identity of junk (Market-1501): gallery images that no query is compared with. Distractors, identity 0, need no rule:
no query shows them, so they match no query."""


class Matches(NamedTuple):
    """The gallery images of the person that a query shows, as ascending positions in the gallery.

    Attributes:
        wanted: images from other cameras, the matches.
        removed: images from the query's own camera, which the rules remove from its gallery.
    """

    wanted: npt.NDArray[np.intp]
    removed: npt.NDArray[np.intp]


class Matching:
    """Finds the `Matches` of each query in the sorted identities of the gallery.

    Args:
        query: identities from 0 on.
        gallery: identities from -1 on; -1 is junk.

    Raises:
        UserError: identities out of range, or no query has a match.
    """

    def __init__(self, query: Embeddings, gallery: Embeddings):
        if (query.identities <= JUNK).any():
            raise UserError(
                f"Expected query identities from 0 on, since -1 is junk, got "
                f"{query.identities.min()}. Renumber the identities, or leave such queries out."
            )
        if (gallery.identities < JUNK).any():
            raise UserError(
                f"Expected gallery identities from -1 on, where -1 is junk, got "
                f"{gallery.identities.min()}. Renumber the identities."
            )
        self._query, self._gallery = query, gallery
        self._order = np.argsort(gallery.identities, kind="stable")
        self._sorted = gallery.identities[self._order]
        self._first = np.searchsorted(self._sorted, query.identities, "left")
        self._last = np.searchsorted(self._sorted, query.identities, "right")
        self.junk = self._order[: np.searchsorted(self._sorted, JUNK, "right")]
        self.counts = np.array([len(self[row].wanted) for row in range(len(query))], np.int64)
        if not self.counts.any():
            raise UserError(self._why_none())

    def __getitem__(self, row: int) -> Matches:
        images = self._order[self._first[row] : self._last[row]]
        own = self._gallery.cameras[images] == self._query.cameras[row]
        return Matches(images[~own], images[own])

    @property
    def negatives(self) -> int:
        """Number of pairs of a query and an image of another person; distractors count, junk does not."""
        kept = len(self._gallery) - len(self.junk)
        return kept * len(self._query) - int((self._last - self._first).sum())

    def groups(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Gallery positions ordered by identity, without junk, and the index in them at which each identity begins."""
        order, identities = self._order[len(self.junk) :], self._sorted[len(self.junk) :]
        return order, np.flatnonzero(np.diff(identities, prepend=JUNK))

    def _why_none(self) -> str:
        """The message when no query has a match."""
        shown = int((self._last > self._first).sum())
        count = len(self._query)
        if shown:
            others = "" if shown == count else f", and the other {count - shown} have none at all"
            return (
                f"Expected queries with a match from another camera, but {shown} of {count} have photographs of their "
                f"person in the gallery only from their own camera, which the rules remove{others}. Give the "
                "photographs the cameras that took them; where nobody knows them, a camera of its own each."
            )
        return (
            f"Expected queries with a match in the gallery, but none of {count} shares an identity with any of "
            f"{len(self._gallery)} gallery images. Check that query and gallery come from the same data set."
        )
