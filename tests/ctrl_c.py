"""Stops a run as people do."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def pressed_at(text: str) -> Iterator[None]:
    """Presses Ctrl-C as soon as something with this text is printed."""
    with contextlib.redirect_stdout(_Watched(sys.stdout, text)):  # type: ignore[type-var]
        yield


class _Watched:
    def __init__(self, output: Any, text: str):
        self.output = output
        self.text = text

    def write(self, words: str) -> int:
        length = self.output.write(words)
        if self.text in words:
            raise KeyboardInterrupt
        return length

    def __getattr__(self, name: str) -> Any:
        return getattr(self.output, name)
