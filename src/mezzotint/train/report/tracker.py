"""Reporting to experiment trackers (wandb, trackio, ...) by the one method they share; none of them is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

__all__ = ["Tracker"]


class Tracker:
    """Anything with `log(values, step=...)`, such as `wandb.init(...)`, `trackio.init(...)` or those modules.

        import wandb
        Reporting(reporters=[lambda folder: Tracker(wandb.init(project="shapes"), image=wandb.Image)])

    Args:
        run: what is logged to. Its `finish()`, where it has one, is called at the end.
        image: uint8 array (h, w, c) -> what `run` takes as a picture, such as `wandb.Image`; None sends none.

    Raises:
        ValueError: where `run` has no `log`.

    >>> class Run:
    ...     def log(self, values, step=None):
    ...         print(step, values)
    >>> Tracker(Run()).row(10, {"step": 10, "loss": 0.5})
    10 {'loss': 0.5}
    """

    def __init__(self, run: Any, image: Callable[[Any], Any] | None = None) -> None:
        if not callable(getattr(run, "log", None)):
            raise ValueError(
                f"{type(run).__name__} has no method log(values, step=...); give wandb.init(...) or the like"
            )
        self._run, self._image = run, image

    def row(self, step: int, row: Mapping[str, Any]) -> None:
        self._run.log({name: value for name, value in row.items() if name != "step"}, step=step)

    def images(self, step: int, name: str, picture: UInt8[Tensor, "h w c"]) -> None:
        if self._image is not None:
            self._run.log({name: self._image(picture.numpy())}, step=step)

    def text(self, step: int, name: str, text: str) -> None:
        self._run.log({name: text}, step=step)

    def close(self) -> None:
        finish = getattr(self._run, "finish", None)
        if callable(finish):
            finish()
