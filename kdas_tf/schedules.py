"""Schedules as functions of the epoch; standard library only."""

import dataclasses
import math
from collections.abc import Callable

from kdas_tf.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearTemperature:
    """Temperature of the distillation loss (section 3.3.3): it falls linearly and then stays.

    It is `start` until `start_epoch` and `end` from the last 5 % of the epochs on (section 4.2.1: 190 of 200), in whole
    epochs, so that the labels have an epoch for themselves also in a short run. The abstract lets it end at 1 and the
    body at 0; `end` says which. A constant temperature has start == end.

    Args:
        start: temperature of the first epochs.
        end: temperature of the last epochs.
        start_epoch: epoch at which it begins to fall.
        end_epoch: epoch from which on it is `end`; None for 190/200 of the epochs that there are (`over`; 200 if
            nobody says so), rounded down, at least 1.

    Raises:
        UserError: a number is negative or not finite.
    """

    start: float = 2.0
    end: float = 0.0
    start_epoch: float = 0.0
    end_epoch: float | None = None

    def __post_init__(self):
        for name, value in dataclasses.asdict(self).items():  # settings.check_range would be a circle of imports
            if value is not None and not 0 <= value < math.inf:
                raise UserError(
                    f"Expected LinearTemperature.{name} to be at least 0, got {value!r}. Correct it.", code="range"
                )

    def __call__(self, epoch: float) -> float:
        """The temperature in an epoch, counted from 0, fractions allowed."""
        last = _end_of(200) if self.end_epoch is None else self.end_epoch
        return self.start + (self.end - self.start) * _progress(epoch, self.start_epoch, last)


def over(temperature: Callable[[float], float], epochs: int) -> Callable[[float], float]:
    """A temperature as it falls in a search or a training of so many epochs."""
    if isinstance(temperature, LinearTemperature) and temperature.end_epoch is None:
        return dataclasses.replace(temperature, end_epoch=_end_of(epochs))
    return temperature


def _end_of(epochs: int) -> int:
    return max(1, 190 * epochs // 200)


def cosine(epoch: float, *, start: float, end: float, epochs: float) -> float:
    """Cosine from `start` at epoch 0 to `end` at `epochs` (Loshchilov and Hutter, 2017, without restarts)."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * _progress(epoch, 0.0, epochs)))


def _progress(value: float, first: float, last: float) -> float:
    return 1.0 if last <= first else min(max((value - first) / (last - first), 0.0), 1.0)
