"""What a run's folder tells of the run: read back for the report, also while the run goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mezzotint.io.atomic import write_text
from mezzotint.io.picture import grid, pixels, write_png
from mezzotint.metric.result import MetricResult
from mezzotint.train.folder import LOG, RUN
from mezzotint.train.log import JSONLog, read_log

__all__ = ["FACTS", "METRICS", "PAGE", "RECIPE", "SAMPLES", "RunRecord", "find_runs", "read_run"]

RECIPE, FACTS, METRICS, SAMPLES, PAGE = "recipe.json", "facts.json", "metrics.jsonl", "samples", "report.html"
_GRID = re.compile(r"(\d{8,})\.png")


@dataclass(frozen=True)
class RunRecord:
    """A run as its folder has it.

    Args:
        folder: of the run.
        recipe: its settings, flat.
        facts: versions, hardware, peak, parameters, how it ended; empty for runs of older versions.
        rows: of the log.
        metrics: rows of `step` and what `MetricResult.to_dict` gives.
        samples: (step, picture), by step.
    """

    folder: Path
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]
    rows: list[dict[str, Any]]
    metrics: list[dict[str, Any]]
    samples: list[tuple[int, Path]]

    @property
    def name(self) -> str:
        return str(self.recipe.get("name") or self.folder.resolve().name)


def find_runs(folder: str | Path) -> list[Path]:
    """The run folders in a folder: itself, or those directly inside (the stages of a recipe), oldest first.

    Raises:
        ValueError: where there is none.
    """
    folder = Path(folder)
    if (folder / RUN).is_file():
        return [folder]
    found = [p.parent for p in folder.glob(f"*/{RUN}")] if folder.is_dir() else []
    if not found:
        raise ValueError(f"{folder}: no run there (no {RUN}, in it or one folder down); give the --out of a training")
    return sorted(found, key=lambda run: ((run / RUN).stat().st_mtime, run.name))


def read_run(folder: str | Path) -> RunRecord:
    """What the folder of one run tells. Files that are missing, or half written, count as empty."""
    folder = Path(folder)
    return RunRecord(
        folder,
        _mapping(folder / RECIPE) or _mapping(folder / RUN),
        _mapping(folder / FACTS),
        _rows(folder / LOG),
        _rows(folder / METRICS),
        _grids(folder),
    )


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Replace the run's facts."""
    write_text(folder / FACTS, json.dumps(dict(facts), indent=1))


def write_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Replace the run's recipe, as it is run now."""
    write_text(folder / RECIPE, json.dumps(dict(recipe), indent=1))


def write_metric(folder: Path, step: int, result: MetricResult) -> dict[str, Any]:
    """Append a measured value with its card, and return the row."""
    row = {"step": step, **result.to_dict()}
    JSONLog(folder / METRICS, step).write(row)
    return row


def write_samples(folder: Path, step: int, images: Any) -> Any:
    """Write images (n, c, h, w) in [-1, 1] as one picture of the step, and return its pixels (h, w, c)."""
    (folder / SAMPLES).mkdir(exist_ok=True)
    picture = grid(pixels(images))
    write_png(folder / SAMPLES / f"{step:08d}.png", picture)
    return picture


def forget_after(folder: Path, step: int) -> None:
    """Remove pictures and metrics of later steps: they belong to steps that a killed run lost."""
    for late, path in _grids(folder):
        if late > step:
            path.unlink(missing_ok=True)
    JSONLog(folder / METRICS, step)


def _grids(folder: Path) -> list[tuple[int, Path]]:
    if not (folder / SAMPLES).is_dir():
        return []
    named = ((_GRID.fullmatch(path.name), path) for path in (folder / SAMPLES).iterdir())
    return sorted((int(match[1]), path) for match, path in named if match is not None and path.is_file())


def _mapping(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        rows = read_log(path)
    except OSError:
        return []
    return [row for row in rows if isinstance(row.get("step"), int)]
