"""What comes back from a server: embeddings, or an error that says whose fault it is.

After a `UserError` the same call cannot succeed; after a `ServerError`, of the server or the network, it may later.
"""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kdas_tf.errors import UserError

SIGNATURE, INPUT, OUTPUT, ERROR = "embed_jpeg", "image_bytes", "embedding", "error"
"""Of an exported model: the signature that takes files, which may be of different sizes, and what it gives."""


class Answer(NamedTuple):
    """What a server says about the files of a request.

    Attributes:
        rows: embeddings `[files, D]`.
        errors: what is wrong with each file, empty where nothing is; none at all from exports before version 0.2.
        version: of the model; None where the server does not tell it.
    """

    rows: npt.NDArray[np.float32]
    errors: list[str]
    version: int | None = None


_LONGEST = 400  # characters of a server's message


class ServerError(Exception):
    """The server is down, too slow or too busy, or gives no answer that can be read."""


class Unavailable(ServerError):
    """The server did not take the request: it may be sent again at once."""


class Refused(UserError):
    """The server took the request, and will refuse it however often it is sent."""


class UnknownModel(Refused):
    """The server has no such model, or not that version of it."""


class WrongServer(Refused):
    """It is not TensorFlow Serving, or something in front of it lets nobody in."""


def too_slow(timeout: float) -> ServerError:
    """What to raise after `timeout` seconds without an answer."""
    return ServerError(f"no answer within {timeout:.3g} s. Is it reachable, and is a batch too much for it?")


def told(text: str | None) -> str:
    """A server's message as one line for people: short, without nodes of graphs and without control characters."""
    text = re.sub(r"\[\[\{\{.*?\}\}\]\]", " ", str(text or "no reason given"), flags=re.DOTALL)
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."
