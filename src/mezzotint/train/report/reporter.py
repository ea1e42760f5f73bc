"""Where a run's rows, pictures and words go besides its folder: any number of places, none of which can stop it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

__all__ = ["Reporter", "Reporters"]


@runtime_checkable
class Reporter(Protocol):
    """A place that is told of a run. Only process 0 tells."""

    def row(self, step: int, row: Mapping[str, Any]) -> None:
        """A log row: names and numbers (and whatever else is in the row)."""
        ...

    def images(self, step: int, name: str, picture: UInt8[Tensor, "h w c"]) -> None:
        """A picture, 1 or 3 channels."""
        ...

    def text(self, step: int, name: str, text: str) -> None:
        """Words, for example the settings."""
        ...

    def close(self) -> None:
        """Write what is left and let go."""
        ...


class Reporters:
    """Several reporters as one, whose failures are told once each and never reach the run.

    Args:
        reporters: told in this order.

    >>> Reporters([]).row(1, {"loss": 1.0})
    """

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = list(reporters)
        self._warned: set[int] = set()

    def row(self, step: int, row: Mapping[str, Any]) -> None:
        self._tell(lambda reporter: reporter.row(step, row))

    def images(self, step: int, name: str, picture: UInt8[Tensor, "h w c"]) -> None:
        self._tell(lambda reporter: reporter.images(step, name, picture))

    def text(self, step: int, name: str, text: str) -> None:
        self._tell(lambda reporter: reporter.text(step, name, text))

    def close(self) -> None:
        self._tell(lambda reporter: reporter.close())

    def _tell(self, call: Callable[[Reporter], None]) -> None:
        for place, reporter in enumerate(self._reporters):
            try:
                call(reporter)
            except Exception as error:  # a service that is down is no reason to lose a run
                if place not in self._warned:
                    self._warned.add(place)
                    warnings.warn(
                        f"{type(reporter).__name__} failed ({type(error).__name__}: {error}); the run goes on, and "
                        "log.jsonl holds every row. Later failures of it are not told.",
                        stacklevel=2,
                    )
