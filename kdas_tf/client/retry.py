"""Sends a request again where that can help, and never past a deadline."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from kdas_tf.client.answers import ServerError, Unavailable

Answer = TypeVar("Answer")

_FIRST, _LONGEST = 0.1, 5.0  # seconds to wait before the second try, and before any


def until(
    attempt: Callable[[float], Answer],
    *,
    end: float,
    timeout: float,
    retries: int,
    draw: Callable[[float, float], float] = random.uniform,
) -> Answer:
    """Calls `attempt` until it gives an answer.

    Tries again after `Unavailable` only. The wait doubles from one try to the next, and a random part of it, between
    half and all, is waited, so that many clients of a server that was down do not come back together.

    Args:
        attempt: takes the seconds it may last.
        end: `time.monotonic()` at which all is over.
        timeout: seconds that one try may last.
        retries: tries after the first.
        draw: a random number between two.

    Raises:
        ServerError: the last try's, or that time is up.
    """
    busy: Unavailable | None = None
    for number in range(retries + 1):
        left = end - time.monotonic()
        if left <= 0:
            raise ServerError("no time is left of the deadline. Give it more, or send fewer images at once.")
        try:
            return attempt(min(timeout, left))
        except Unavailable as error:
            busy = error
        except ServerError as error:
            if busy is None or time.monotonic() < end:
                raise
            # The deadline cut this try short, so what came before says more.
            raise Unavailable(f"{busy} (tried {number + 1} times, until the deadline)") from error
        wait = min(_FIRST * 2**number, _LONGEST)
        wait = draw(wait / 2, wait)
        if number < retries and time.monotonic() + wait < end:
            time.sleep(wait)
            continue
        until_when = ", until the deadline" if number < retries else ""
        raise Unavailable(f"{busy} (tried {number + 1} times{until_when})" if retries else str(busy)) from busy
    raise AssertionError("unreachable: the last try returns or raises")
