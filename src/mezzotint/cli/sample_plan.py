"""What a folder of many images holds, and what of it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FORMAT", "RECORD", "Plan", "arrow", "read_plan"]

FORMAT, RECORD = "mezzotint-sampling-1", "sampling.json"


@dataclass(frozen=True)
class Plan:
    """What a folder of many images holds.

    Attributes:
        prompts: one after the other, each with `each` images; None for an unconditional model.
        each: images a prompt.
        first: seed of the first image; image i has seed first + i.
        model, weights: its name, and a digest of numbers of its weights.
        sampler, grid, steps, guidance, size: arguments of the call, defaults filled in.
        batch: images computed at once.
        format: "png" or "parquet".
        rows: images of a file.
        threads: of the processor, in each process.
        rescale: whether attention is scaled to a size other than the training size.
    """

    prompts: list[str] | None
    each: int
    first: int
    model: str
    weights: str
    sampler: str
    grid: str | None
    steps: int
    guidance: float
    size: list[int]
    batch: int
    format: str
    rows: int
    threads: int
    rescale: bool = False

    @property
    def count(self) -> int:
        return self.each * len(self.prompts or [None])

    @property
    def blocks(self) -> int:
        """How many blocks of `block` images there are."""
        return -(-self.count // self.block)

    @property
    def block(self) -> int:
        """Images that one process makes before it takes up the next."""
        return self.batch if self.format == "png" else self.rows

    def seed(self, image: int) -> int:
        return self.first + image

    def prompt(self, image: int) -> str | None:
        return None if self.prompts is None else self.prompts[min(image // self.each, len(self.prompts) - 1)]

    def images(self, block: int) -> range:
        """Those of a block that are asked for."""
        return range(block * self.block, min((block + 1) * self.block, self.count))

    def file(self, folder: Path, image: int) -> Path:
        """Where an image is kept."""
        if self.format == "png":
            return folder / f"{self.seed(image):07d}.png"
        return folder / f"part-{image // self.rows:05d}.parquet"

    def holds(self, folder: Path, image: int) -> bool:
        """Whether the file of an image is there and not empty, as a disk that was full may have left it."""
        file = self.file(folder, image)
        return file.is_file() and file.stat().st_size > 0

    def missing(self, folder: Path, block: int) -> int:
        """How many images of a block are not there."""
        if self.format == "png":
            return sum(not self.holds(folder, i) for i in self.images(block))
        return 0 if self.done(folder, block) else len(self.images(block))

    def done(self, folder: Path, block: int) -> bool:
        """Whether all images of a block are there."""
        images = self.images(block)
        if self.format == "png":
            return all(self.holds(folder, i) for i in images)
        return _rows_in(self.file(folder, images[0])) == len(images)


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan that a folder holds; empty where there is none.

    Raises:
        ValueError: where its record is damaged or another kind of file.
    """
    try:
        told = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / RECORD}: damaged ({error}); remove it and the images, or choose another") from None
    if not isinstance(told, dict) or told.get("format") != FORMAT or not isinstance(told.get("plan"), dict):
        raise ValueError(f"{folder / RECORD} is not a record of many images (its format is not {FORMAT!r})")
    return told["plan"]


def _rows_in(path: Path) -> int:
    if not path.is_file():
        return 0
    parquet, pyarrow = arrow()
    try:
        return parquet.read_metadata(path).num_rows
    except (OSError, pyarrow.ArrowInvalid):
        return 0  # damaged: it is made again


def arrow() -> tuple[Any, Any]:
    """pyarrow.parquet and pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("--format parquet needs pyarrow: pip install 'mezzotint[train]'") from error
    return pyarrow.parquet, pyarrow
