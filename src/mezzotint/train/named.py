"""What every recipe is to the command line: a frozen dataclass that has a name and runs in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from mezzotint.train.engine import Engine
from mezzotint.train.loop import Progress, Report
from mezzotint.train.report.reporting import Reporting

__all__ = ["AnyRecipe"]


@runtime_checkable
class AnyRecipe(Protocol):
    """A recipe of one stage (`Recipe`) or of several (`LatentRecipe`, `DistillationRecipe`).

    It is a dataclass, so that its leaves can be listed and replaced (`with_overrides`). One whose run ends in a model
    has `model(out)` besides.

    Attributes:
        name: of the run or of the model.
    """

    @property
    def name(self) -> str: ...

    def run(
        self,
        out: str | Path,
        engine: Engine,
        *,
        on_step: Callable[[Progress], None] | None = None,
        reporting: Reporting | None = ...,
    ) -> Report:
        """Train in the folder `out`, going on from what it holds; see `Runnable.run`."""
        ...

    def holds(self, out: str | Path) -> bool:
        """Whether the folder holds a run to go on with."""
        ...
