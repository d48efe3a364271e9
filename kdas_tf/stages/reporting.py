"""The progress line that all stages print."""

import sys
import time
from collections.abc import Callable


def progress_line(title: str) -> Callable[[int, int | None], None]:
    """Makes a callback (done, total) that prints how many of the things are done, and how long the rest will take.

    On a terminal one line is rewritten; elsewhere a line is printed every ten seconds.
    """
    started = last = time.monotonic()
    live = sys.stdout.isatty()

    def report(done: int, total: int | None) -> None:
        nonlocal last
        total = done if total is None else total
        now = time.monotonic()
        if done < total and now - last < (0.2 if live else 10):
            return
        last = now
        left = (now - started) / max(done, 1) * (total - done)
        text = f"{title}: {done}/{total}" + (f", {left:.0f} s left" if done < total else f", {now - started:.0f} s")
        print(f"\r{text}   " if live else text, end="\n" if done == total or not live else "", flush=True)

    return report
