"""Schedules as plain functions of the epoch; stdlib only."""

import math


def linear_temperature(
    epoch: float, *, start: float = 2.0, end: float = 0.0, start_epoch: float = 0.0, end_epoch: float = 190.0
) -> float:
    """Temperature of the distillation loss (section 3.3.3): falls linearly and then stays.

    The abstract lets it end at 1 and the body at 0; `end` says which. A constant temperature has start == end.

    Args:
        epoch: epochs done, fractions allowed.
        start: temperature until `start_epoch`.
        end: temperature from `end_epoch` on.
        start_epoch: epoch at which it begins to fall.
        end_epoch: epoch at which `end` is reached (section 4.2.1: 190 of 200).

    Returns:
        The temperature, without unit.
    """
    return start + (end - start) * _progress(epoch, start_epoch, end_epoch)


def cosine(epoch: float, *, start: float, end: float, epochs: float) -> float:
    """Cosine from `start` at epoch 0 to `end` at `epochs` (Loshchilov and Hutter, 2017, without restarts)."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * _progress(epoch, 0.0, epochs)))


def _progress(value: float, first: float, last: float) -> float:
    return 1.0 if last <= first else min(max((value - first) / (last - first), 0.0), 1.0)
