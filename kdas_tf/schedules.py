"""Schedules as functions of the epoch; standard library only."""

import dataclasses
import math

from kdas_tf.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearTemperature:
    """Temperature of the distillation loss (section 3.3.3): it falls linearly and then stays.

    It is `start` until `start_epoch` and `end` from `end_epoch` on (section 4.2.1: 190 of 200). The abstract lets it
    end at 1 and the body at 0; `end` says which. A constant temperature has start == end.

    Raises:
        UserError: a number is negative or not finite.
    """

    start: float = 2.0
    end: float = 0.0
    start_epoch: float = 0.0
    end_epoch: float = 190.0

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():  # settings.check_range would be a circle of imports
            if not 0 <= value < math.inf:
                raise UserError(
                    f"Expected LinearTemperature.{name} to be at least 0, got {value!r}. Correct it.", code="range"
                )

    def __call__(self, epoch: float) -> float:
        """The temperature in an epoch, counted from 0, fractions allowed."""
        return self.start + (self.end - self.start) * _progress(epoch, self.start_epoch, self.end_epoch)


def cosine(epoch: float, *, start: float, end: float, epochs: float) -> float:
    """Cosine from `start` at epoch 0 to `end` at `epochs` (Loshchilov and Hutter, 2017, without restarts)."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * _progress(epoch, 0.0, epochs)))


def _progress(value: float, first: float, last: float) -> float:
    return 1.0 if last <= first else min(max((value - first) / (last - first), 0.0), 1.0)
