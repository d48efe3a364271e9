"""What copies of a network for other runtimes refuse, whichever runtime it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdas_tf.errors import UserError


def cannot_be_loaded(path: Path, reason: object) -> UserError:
    """What to raise where a runtime does not take a file."""
    return UserError(
        f"Expected {path} to be a network that gin/export.gin wrote, but it cannot be loaded "
        f"({' '.join(str(reason).split())[:200]}).",
        code="damaged",
    )


def image_size_of(path: Path, inputs: Sequence[Sequence[Any]], outputs: Sequence[Sequence[Any]]) -> tuple[int, int]:
    """The (height, width) that a file takes, from the shapes of what goes in and what comes out.

    Raises `UserError` if not images `[batch, height, width, 3]` go in, or not embeddings `[batch, D]` come out.
    """
    fits = [len(shape) for shape in (*inputs, *outputs)] == [4, 2]
    if not fits or not all(isinstance(side, int) for side in inputs[0][1:3]) or inputs[0][3] != 3:
        raise cannot_be_loaded(
            path,
            f"expected images [batch, height, width, 3] in and embeddings out, got {list(inputs)} and {list(outputs)}",
        )
    return inputs[0][1], inputs[0][2]
