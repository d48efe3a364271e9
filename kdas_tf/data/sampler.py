"""Class-balanced P x K batches as a pure function of (seed, epoch, step): resuming needs no state."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError

# Separate the random numbers of the two draws from each other and from those of the split and the augmentation.
_IDENTITY_STREAM, _IMAGE_STREAM = 201, 202


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Batches in an epoch: as many as the images fill, at least one."""
    return max(1, images // batch_size)


class BalancedSampler:
    """Draws batches of P identities with K images each (Hermans et al. 2017, "In Defense of the Triplet Loss").

    An epoch goes through all identities in random order, pass after pass; the fewer than P that remain at the end of a
    pass are dropped. In each pass an identity shows its next K images, in a random order that is fixed for the epoch,
    so that all its images are seen before one comes again. An identity with fewer than K images repeats them.

    Args:
        labels: identity of every image, `[images]`; any numbers that are not negative.
        identities_per_batch: P.
        images_per_identity: K.
        seed: not negative. Samplers that run side by side over the same identities need different ones.

    Raises:
        UserError: there are fewer than P identities.
    """

    def __init__(
        self,
        labels: Sequence[int] | npt.NDArray,
        identities_per_batch: int,
        images_per_identity: int,
        seed: int,
    ):
        labels = np.asarray(labels, np.int64)
        _, self._labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
        if len(counts) < identities_per_batch:
            raise UserError(
                f"Expected at least identities_per_batch = {identities_per_batch} identities, but the images show "
                f"{len(counts)}. Add photographs of more people, or lower settings.Sampling.identities_per_batch of "
                "the stage: TEACHER_IDENTITIES_PER_BATCH for the teacher, else with search/ or train/ before it.",
                code="fit",
            )
        self._counts, self._starts = counts, np.cumsum(counts) - counts
        self._order_of: tuple[int, npt.NDArray[np.int64]] | None = None
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.seed = seed
        self.batch_size = identities_per_batch * images_per_identity
        self.steps_per_epoch = steps_per_epoch(len(labels), self.batch_size)

    def batch(self, epoch: int, step: int) -> npt.NDArray[np.int64]:
        """The images of one batch, grouped by identity.

        Args:
            epoch: not negative.
            step: step within the epoch; not negative, may exceed `steps_per_epoch`.

        Returns:
            Indices into `labels`, `[identities_per_batch * images_per_identity]`.
        """
        batches_per_pass = len(self._counts) // self.identities_per_batch
        number, slot = divmod(step, batches_per_pass)
        shuffled = np.random.default_rng([_IDENTITY_STREAM, self.seed, epoch, number]).permutation(len(self._counts))
        identities = shuffled[slot * self.identities_per_batch : (slot + 1) * self.identities_per_batch, np.newaxis]
        window = np.arange(number * self.images_per_identity, (number + 1) * self.images_per_identity)
        return self._order(epoch)[self._starts[identities] + window % self._counts[identities]].ravel()

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        """All images, grouped by identity, at random within each; kept until another epoch is asked for."""
        kept = self._order_of
        if kept is None or kept[0] != epoch:
            chance = np.random.default_rng([_IMAGE_STREAM, self.seed, epoch]).random(len(self._labels))
            kept = self._order_of = epoch, np.lexsort((chance, self._labels))
        return kept[1]
