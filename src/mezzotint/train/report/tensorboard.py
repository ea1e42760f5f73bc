"""Reporting to TensorBoard's files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

__all__ = ["TensorBoard"]


class TensorBoard:
    """Rows, pictures and words as TensorBoard events (`tensorboard --logdir FOLDER` shows them).

    Args:
        folder: for the event files, such as RUN/tensorboard.
        flush: seconds between writes.

    Raises:
        ImportError: where tensorboard is not installed.
    """

    def __init__(self, folder: str | Path, flush: int = 30) -> None:
        self._writer = self.check()(str(folder), flush_secs=flush)

    @staticmethod
    def check() -> Any:
        """The class that writes; ImportError where tensorboard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("reporting to TensorBoard needs it: pip install 'mezzotint[train]'") from error
        return SummaryWriter

    def row(self, step: int, row: Mapping[str, Any]) -> None:
        """Every finite number of the row but its step."""
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)) and math.isfinite(value):
                self._writer.add_scalar(name, value, step)

    def images(self, step: int, name: str, picture: UInt8[Tensor, "h w c"]) -> None:
        self._writer.add_image(name, picture.numpy(), step, dataformats="HWC")

    def text(self, step: int, name: str, text: str) -> None:
        # four spaces: shown as it is, not read as Markdown
        self._writer.add_text(name, "\n".join(f"    {line}" for line in text.splitlines()), step)

    def close(self) -> None:
        self._writer.close()
