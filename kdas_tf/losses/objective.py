"""The objective of search and training (Eq. 9)."""

import dataclasses
from typing import Any, NamedTuple

from kdas_tf.losses.distillation import distillation_loss
from kdas_tf.losses.triplet import batch_hard_triplet_loss
from kdas_tf.settings import check_range


class Terms(NamedTuple):
    """The objective and its two terms, scalars."""

    total: Any
    distillation: Any
    triplet: Any


@dataclasses.dataclass(frozen=True)
class Objective:
    """L = lambda1 * L_d + lambda2 * L_t (Eq. 9).

    Raises:
        UserError: a negative number, or a student_floor of 0.
    """

    distillation_weight: float = 1.0  # lambda1
    triplet_weight: float = 1.0  # lambda2
    margin: float = 0.3  # of the triplet loss
    student_floor: float = 1.0  # lowest temperature of the student in L_d
    temperature_squared: bool = False  # Hinton's factor in L_d

    def __post_init__(self):
        check_range(self, "distillation_weight triplet_weight margin", least=0)
        check_range(self, "student_floor", above=0)

    def __call__(self, *, targets, logits, temperature, features, labels, replicas: int = 1) -> Terms:
        """Computes the terms on one replica, so that their sum over replicas is the global batch's.

        Args:
            targets: `[batch, identities]` of this replica, from `soft_targets`.
            logits: `[batch, identities]` of this replica.
            temperature: T, scalar.
            features: `[global batch, D]`, gathered from all replicas, so that mining sees the global batch.
            labels: `[global batch]`, gathered likewise.
            replicas: number of replicas; every term is divided by it.
        """
        options: dict[str, Any] = {"student_floor": self.student_floor, "temperature_squared": self.temperature_squared}
        distillation = distillation_loss(targets, logits, temperature, **options) / replicas
        triplet = batch_hard_triplet_loss(features, labels, margin=self.margin) / replicas
        total = self.distillation_weight * distillation + self.triplet_weight * triplet
        return Terms(total, distillation, triplet)
