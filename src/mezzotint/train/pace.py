"""How often a run looks up from its steps."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Pace"]


@dataclass(frozen=True)
class Pace:
    """When the loop looks up. None of it changes the numbers.

    Args:
        log: steps between log rows.
        save: steps between checkpoints; there is always one at the end.
        minutes: also save when so long has passed since the last one; None for never.
        keep: checkpoints kept.
    """

    log: int = 50
    save: int = 1000
    minutes: float | None = None
    keep: int = 2

    def __post_init__(self) -> None:
        for name in ("log", "save", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes between checkpoints must be positive, got {self.minutes}")
