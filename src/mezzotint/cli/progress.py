"""How far a command has come, on stderr."""

from __future__ import annotations

import sys
import time


class Progress:
    """Called with (done, of): one line that is rewritten on a terminal, a line a minute elsewhere; none for one thing.

    Args:
        what: is counted.

    >>> clock(59.6), clock(3661.0)
    ('1:00', '1:01:01')
    """

    def __init__(self, what: str) -> None:
        self.what, self.terminal = what, sys.stderr.isatty()
        self.start = self.last = time.monotonic()

    def __call__(self, done: int, of: int) -> None:
        """Tell it, no more often than is of use."""
        now, last = time.monotonic(), done == of
        if of == 1 or (now - self.last < (0.2 if self.terminal else 60.0) and not (last and self.terminal)):
            return
        self.last = now
        left = "" if last else f", {clock((now - self.start) / done * (of - done))} left"
        text = f"{self.what} {done} of {of}{left}"
        if self.terminal:
            print(f"\r{text:<50}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
