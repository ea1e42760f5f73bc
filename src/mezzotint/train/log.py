"""The run's log: one JSON object a line, append-only, cut back to the checkpoint on a resume."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mezzotint.io.atomic import write_text


class JSONLog:
    """Rows of a run in `path`, each with its "step".

    Args:
        path: the file; its folder must exist.
        step: rows later than this step are dropped (they belong to steps that a killed run lost), and so is
            a half-written last line.

    >>> import tempfile
    >>> log = JSONLog(Path(tempfile.mkdtemp()) / "log.jsonl")
    >>> log.write({"step": 10, "loss": 0.5})
    >>> read_log(log.path)
    [{'step': 10, 'loss': 0.5}]
    """

    def __init__(self, path: str | Path, step: int = 0) -> None:
        self.path = Path(path)
        if self.path.exists():
            rows = [row for row in read_log(self.path) if row.get("step", 0) <= step]
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(dict(row)) + "\n")


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """Read the rows of a log, leaving out a half-written last line."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
