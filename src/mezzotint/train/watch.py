"""Who looks at a run while it goes on: what the loop tells, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mezzotint.train.engine import Engine
from mezzotint.train.task import Task

__all__ = ["Opening", "Watcher"]


@dataclass(frozen=True)
class Opening:
    """A run as it begins, or goes on.

    Args:
        task: placed, and filled from the checkpoint where there is one.
        engine: where it runs.
        folder: of the run.
        step: steps done.
        steps: in all.
        seed: of the run.
        minutes: limit of its training time, None for none.
    """

    task: Task
    engine: Engine
    folder: Path
    step: int
    steps: int
    seed: int
    minutes: float | None = None


@runtime_checkable
class Watcher(Protocol):
    """Told of a run in every process. Nothing it does may change the run, and none of it counts as training time."""

    def begin(self, opening: Opening) -> None:
        """Before the first step."""
        ...

    def more(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Entries to add to a log row."""
        ...

    def row(self, row: Mapping[str, Any]) -> None:
        """After a log row was written."""
        ...

    def due(self, step: int) -> bool:
        """Whether it wants to look after `step` steps: the same in every process."""
        ...

    def look(self, step: int) -> None:
        """Look at the task, where `due` said so."""
        ...

    def end(self, ended: str) -> None:
        """After the last step of this call, or after the error of that name."""
        ...
