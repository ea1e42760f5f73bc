"""The `.json` beside the images: everything that regenerates them, and how to tell that it did."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

FORMAT = "mezzotint-sample-1"


@dataclass(frozen=True)
class Record:
    """One call of `mezzotint sample`.

    Attributes:
        prompt, model, sampler, steps, guidance, seeds, batch: arguments of the call, defaults filled in.
        size: (height, width) in pixels.
        device, threads: where it ran; the same device and number of CPU threads give the same bits.
        images: file name -> SHA-256 of its pixels, in the order of the seeds.
        grid: file name of the contact sheet, or None.
        versions: of Python, torch and this library.
    """

    prompt: str
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

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self), "size": list(self.size), "seeds": list(self.seeds)}


_TYPES: dict[str, type | tuple[type, ...]] = {
    "prompt": str,
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
    except ValueError as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from None
    if not isinstance(row, dict) or row.pop("format", None) != FORMAT:
        raise ValueError(f"{path} is not a record of `mezzotint sample` (its format is not {FORMAT!r})")
    names = [field.name for field in fields(Record)]
    wrong = [name for name in names if name not in row or not isinstance(row[name], _TYPES[name])]
    if wrong or set(row) - set(names):
        raise ValueError(f"{path}: missing or of the wrong type: {wrong}; unknown: {sorted(set(row) - set(names))}")
    for name in row["images"]:
        _check_name(path, name)
    if row["grid"] is not None:
        _check_name(path, row["grid"])
    if len(row["images"]) != len(row["seeds"]) or len(row["size"]) != 2:
        raise ValueError(f"{path}: expected one image a seed, and a size of height and width")
    return Record(**{**row, "size": tuple(row["size"]), "seeds": tuple(row["seeds"])})


def _check_name(path: Path, name: str) -> None:
    """A record names files beside itself, nothing else."""
    if Path(name).name != name or name.startswith(".") or "\\" in name:
        raise ValueError(f"{path}: {name!r} is not a plain file name")
