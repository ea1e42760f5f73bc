"""The peak of memory: of this process, or as a process of its own tells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["CLEAR", "peak", "told"]

_STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def told(module: str, arguments: list[str], device: str = "cpu") -> float | None:
    """The number that a module of this room prints last in a process of its own; None where none can be measured."""
    if device == "cpu" and not CLEAR.exists():
        return None
    command = [sys.executable, "-m", f"mezzotint.bench.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    try:
        return float(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None


def peak(device: Any, *, reset: bool = False) -> float:
    """MiB at most since the last reset; at a reset what is taken now."""
    import torch

    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    if reset:
        CLEAR.write_text("5")  # the peak becomes what is resident now (man 5 proc)
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10
