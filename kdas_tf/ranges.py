"""What the arguments of stages and of the functions they are given may be, by name: checked before anything runs."""

import math
from typing import Any, NamedTuple

from kdas_tf.errors import UserError


class Range(NamedTuple):
    """Numbers from `least` (beyond it where `above`) to below `limit`."""

    least: float
    limit: float = math.inf
    above: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is in the range; what is not finite is not."""
        return (
            math.isfinite(value)
            and (self.least < value if self.above else self.least <= value)
            and (value < self.limit)
        )

    def __str__(self) -> str:
        begin = f"above {self.least:g}" if self.above else f"at least {self.least:g}"
        limit = f"{self.limit:g}" if self.limit < 1e6 else f"{self.limit:.0f}"
        return begin if self.limit == math.inf else f"{begin} and below {limit}"


SEEDS = 2**32
"""NumPy and Keras take none from here on."""
COUNT, SIZE, NOT_NEGATIVE, SHARE = Range(1), Range(8), Range(0), Range(0, 1)
POSITIVE = Range(0, above=True)
RANGES = {
    **dict.fromkeys(("epochs", "channels", "cells", "student_channels", "batch_size", "judge_every"), COUNT),
    **dict.fromkeys(("identities_per_batch", "images_per_identity", "picture_every", "partial_channels"), COUNT),
    **dict.fromkeys(("train_identities", "images_per_camera", "max_pixels", "last_stride", "batch_sizes"), COUNT),
    "measured_batches": COUNT,
    **dict.fromkeys(("image_size", "teacher_image_size"), SIZE),
    **dict.fromkeys(("reductions", "alpha_warmup_epochs", "max_skip", "shown_queries"), NOT_NEGATIVE),
    **dict.fromkeys(("seed", "seeds", "chosen_seed"), Range(0, SEEDS)),
    "size_tolerance": NOT_NEGATIVE,
    **dict.fromkeys(("beta_weight", "budget_weight", "padding", "weight_decay", "start_epoch"), NOT_NEGATIVE),
    **dict.fromkeys(("final_learning_rate", "distillation_weight", "triplet_weight", "margin"), NOT_NEGATIVE),
    **dict.fromkeys(("label_smoothing", "drop_path", "momentum", "beta_1", "beta_2"), SHARE),
    **dict.fromkeys(("learning_rate", "alpha_learning_rate", "gradient_norm", "parameter_budget"), POSITIVE),
    **dict.fromkeys(("student_floor", "held_out"), POSITIVE),
    "linear_temperature.start": NOT_NEGATIVE,
    "linear_temperature.end": NOT_NEGATIVE,
}
"""By the name of an argument, or of a function and its argument. The launcher checks its own."""


def check(binding: str, value: Any) -> None:
    """Checks what is bound to an argument.

    Args:
        binding: its name, `[scope/]module.function.argument`.
        value: a number, or several of them; what is no number is left to the argument's type.

    Raises:
        UserError: it is out of the argument's range.
    """
    function, argument = binding.split("/")[-1].split(".")[-2:]
    allowed = RANGES.get(f"{function}.{argument}", RANGES.get(argument))
    for number in value if isinstance(value, (tuple, list)) else (value,):
        if allowed and isinstance(number, (int, float)) and not isinstance(number, bool) and not allowed.holds(number):
            raise UserError(f"Expected {binding} to be {allowed}, got {value!r}. Correct it.")
