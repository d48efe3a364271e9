"""Output that nobody may be reading: the work goes on without it."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Lenient:
    """A stream of text whose writes never fail; what cannot be written is dropped from then on.

    Args:
        stream: of text. All but `write` and `flush` is its own.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:  # a stream that cannot be told to escape
            return self.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        except OSError:
            return self._drop(len(text))

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop(0)

    def _drop(self, length: int) -> int:
        """Sends what is still buffered nowhere: `head` has seen enough, the terminal is gone, the disk is full."""
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        return length

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lenient() -> Iterator[None]:
    """Lets the work go on, and end with its own exit code, whatever becomes of stdout and stderr."""
    for number in range(3):  # closed ones: a file of the run would get their numbers, and then their output
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115, it stays for the process
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, Lenient(stream))
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
