"""The `.json` beside the images: everything that regenerates them, and how to tell that it did."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mezzotint.cli.options import MOST

FORMAT = "mezzotint-sample-1"


@dataclass(frozen=True)
class Record:
    """One call of `mezzotint sample`.

    Attributes:
        prompt: one, or several that have the same number of images each, in order; None for an unconditional model.
        model, sampler, steps, guidance, seeds, batch: arguments of the call, defaults filled in.
        size: (height, width) in pixels.
        device, threads: where it ran; the same device and number of CPU threads give the same bits.
        images: file name -> SHA-256 of its pixels, in the order of the seeds.
        grid: file name of the contact sheet, or None.
        versions: of Python, torch and this library.
        time_grid: name of the grid of times, or None for the sampler's own (which older records, without it, had).
        rescale: whether attention was scaled to a size other than the training size (older records: no).
    """

    prompt: str | tuple[str, ...] | None
    model: str
    sampler: str
    steps: int
    guidance: float
    size: tuple[int, int]
    seeds: tuple[int, ...]
    batch: int
    device: str
    threads: int
    images: dict[str, str]
    grid: str | None
    versions: dict[str, str]
    time_grid: str | None = None
    rescale: bool = False

    def to_dict(self) -> dict[str, Any]:
        row = {"format": FORMAT, **asdict(self), "size": list(self.size), "seeds": list(self.seeds)}
        return row | {"prompt": list(self.prompt)} if isinstance(self.prompt, tuple) else row

    @property
    def prompts(self) -> int:
        """How many prompts there are; each has the same number of images."""
        return len(self.prompt) if isinstance(self.prompt, tuple) else 1


_TYPES: dict[str, type | tuple[type, ...]] = {
    "prompt": (str, list, type(None)),
    "model": str,
    "sampler": str,
    "steps": int,
    "guidance": (int, float),
    "size": list,
    "seeds": list,
    "batch": int,
    "device": str,
    "threads": int,
    "images": dict,
    "grid": (str, type(None)),
    "versions": dict,
    "time_grid": (str, type(None)),
    "rescale": bool,
}


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        ValueError: the file is missing or is no record; names the file and the field.
    """
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no file {path}; --from takes the .json that `mezzotint sample` wrote") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None
    if not isinstance(row, dict) or row.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not a record of `mezzotint sample` (its format is not {FORMAT!r})")
    row.setdefault("time_grid", None)
    row.setdefault("rescale", False)
    names = [field.name for field in fields(Record)]
    wrong = [name for name in names if name not in row or not _fits(row[name], _TYPES[name])]
    if wrong or set(row) - set(names):
        raise ValueError(f"{path}: missing or of the wrong type: {wrong}; unknown: {sorted(set(row) - set(names))}")
    for name in row["images"]:
        _check_name(path, name)
    if row["grid"] is not None:
        _check_name(path, row["grid"])
    if len(row["images"]) != len(row["seeds"]) or len(row["size"]) != 2 or row["grid"] in row["images"]:
        raise ValueError(
            f"{path}: expected one image a seed, another name for the grid, and a size of height and width"
        )
    if not all(_fits(number, int) for number in [*row["seeds"], *row["size"]]):
        raise ValueError(f"{path}: seeds and size should be whole numbers")
    if not all(1 <= row[name] <= MOST for name in ("steps", "batch", "threads")):
        raise ValueError(f"{path}: steps, batch and threads should be from 1 to {MOST}")
    if isinstance(row["prompt"], list):
        if (
            not row["prompt"]
            or not all(isinstance(p, str) for p in row["prompt"])
            or len(row["seeds"]) % len(row["prompt"])
        ):
            raise ValueError(f"{path}: expected prompts as strings, each with the same number of images")
        row["prompt"] = tuple(row["prompt"])
    return Record(**{**row, "size": tuple(row["size"]), "seeds": tuple(row["seeds"])})


def _check_name(path: Path, name: str) -> None:
    """A record names pictures beside itself, nothing else."""
    if Path(name).name != name or name.startswith(".") or "\\" in name or "\0" in name:
        raise ValueError(f"{path}: {name!r} is not a plain file name")
    if Path(name).suffix.lower() != ".png":
        raise ValueError(f"{path}: {name!r} is not the name of a .png file")


def _fits(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
