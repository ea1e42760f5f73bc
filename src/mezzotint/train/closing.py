"""What batches leave behind at the end of a run: processes of their own to end, and a count of broken images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["broken_in", "closing"]


@contextmanager
def closing(batches: Any) -> Iterator[None]:
    """Batches with a `close()` are closed when this is left, by an error too.

    Args:
        batches: such as a `Loader`, whose workers end; it may be closed again, and the next call starts new ones.
    """
    try:
        yield
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()


def broken_in(batches: Any) -> dict[str, Any] | None:
    """How many images could not be read, of how many, and which: `batches.broken.report()`; None where none count."""
    broken = getattr(batches, "broken", None)
    return None if broken is None else broken.report()
