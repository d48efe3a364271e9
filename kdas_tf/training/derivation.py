"""The network that a search would derive now."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kdas_tf.genotype import Genotype, derive
from kdas_tf.models.costs import derived_parameters
from kdas_tf.models.networks import Supernet


@dataclasses.dataclass(frozen=True)
class Derivation:
    """Derives a genotype from the architecture parameters of a supernet."""

    supernet: Supernet
    student: Mapping[str, Any]  # of the derived network: num_identities, image_size, channels, cells, reductions, stem
    max_skip: int | None = None  # cap on the skip connections of the normal cell, as in `genotype.derive`

    def alphas(self) -> dict[str, np.ndarray]:
        """The architecture parameters as arrays: `alpha_normal` and `alpha_reduce`."""
        names = ("alpha_normal", "alpha_reduce")
        return {name: np.asarray(keras.ops.convert_to_numpy(getattr(self.supernet, name))) for name in names}

    def genotype(self, *, capped: bool = True) -> Genotype:
        """The genotype of the alphas as they are now; without the cap where `capped` is False."""
        return derive(*self.alphas().values(), max_skip=self.max_skip if capped else None)

    def parameters(self) -> int:
        """Trainable parameters of the network that would be derived now."""
        return derived_parameters(self.genotype(), **self.student)
