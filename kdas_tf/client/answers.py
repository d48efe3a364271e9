"""What comes back from a server: embeddings, or an error that says whose fault it is.

A `UserError` is the user's: the same call cannot succeed. A `ServerError` is the server's or the network's: the same
call may succeed later.
"""

import re
from typing import NamedTuple

import numpy.typing as npt

from kdas_tf.errors import UserError

SIGNATURE, INPUT, OUTPUT = "embed_jpeg", "image_bytes", "embedding"
"""Of an exported model: the one that takes files, which may be of different sizes."""

_SHOWN = 400  # characters of a server's message


class Answer(NamedTuple):
    """What a server has answered.

    Attributes:
        rows: embeddings; nothing of them was checked.
        version: of the model that made them; None where the server does not tell.
    """

    rows: npt.NDArray
    version: int | None


class ServerError(Exception):
    """The server is down, too slow or too busy, or its answer is none."""


class Unavailable(ServerError):
    """The server did not take the request: it may be sent again at once."""


class Refused(UserError):
    """The server took the request, and will refuse it however often it is sent."""


class UnknownModel(Refused):
    """The server has no such model, or not that version of it."""


class WrongServer(Refused):
    """It is not TensorFlow Serving, or something in front of it lets nobody in."""


def told(text: str | None) -> str:
    """A server's message as one line for people: short, without nodes of graphs and without control characters."""
    text = re.sub(r"\[\[\{\{.*?\}\}\]\]", " ", str(text or "no reason given"), flags=re.DOTALL)
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."
