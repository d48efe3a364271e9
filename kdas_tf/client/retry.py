"""Sends a request again where that can help, and never past a deadline."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from kdas_tf.client.answers import ServerError, Unavailable

Answer = TypeVar("Answer")

_FIRST, _LONGEST = 0.1, 5.0  # seconds to wait before the second try, and before any


def until(attempt: Callable[[float], Answer], *, end: float, timeout: float, retries: int) -> Answer:
    """Calls `attempt` until it returns.

    Tries again after `Unavailable` only. The wait doubles from one try to the next; a random part of it, between half
    and all, is waited, so that many clients of a server that was down do not come back together.

    An attempt gets the seconds that it may last, at most `timeout`; `end` is the `time.monotonic()` of the deadline.

    Raises:
        Unavailable: the last try's error, with the number of tries.
        ServerError: another error of a try, or the deadline has passed.
    """
    number = 0
    while True:
        number += 1
        seconds = end - time.monotonic()
        if seconds <= 0:
            raise ServerError("no time is left of the deadline. Give it more, or send fewer images at once.")
        try:
            return attempt(min(timeout, seconds))
        except Unavailable as error:
            wait = random.uniform(0.5, 1.0) * min(_FIRST * 2 ** (number - 1), _LONGEST)
            if number > retries or time.monotonic() + wait >= end:
                reason = ", until the deadline" if number <= retries else ""
                raise Unavailable(f"{error} (tried {number} times{reason})" if retries else str(error)) from error
        time.sleep(wait)
