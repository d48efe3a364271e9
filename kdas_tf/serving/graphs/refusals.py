"""What copies of a network for other runtimes refuse, whichever runtime it is."""

from collections.abc import Sequence
from pathlib import Path

import numpy.typing as npt

from kdas_tf.errors import UserError


def check_examples(examples: Sequence[npt.NDArray]) -> None:
    """Refuses to make integers without images to find the ranges from.

    Raises:
        UserError: there are none.
    """
    if not len(examples):
        raise UserError("int8 needs photographs to find the ranges of a network's maps, got none.")


def cannot_be_loaded(path: Path, error: Exception) -> UserError:
    """What to raise where a runtime does not take a file."""
    return UserError(
        f"Expected {path} to be a network that gin/export.gin wrote, but it cannot be loaded "
        f"({type(error).__name__}: {' '.join(str(error).split())[:200]})."
    )
