"""Peak memory of one loop, in a process of its own: `python -m mezzotint.bench.train_memory NET SIDE BATCH DEVICE`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["memory_of", "peak", "told"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_STEPS = 4


def memory_of(net: str, side: str, batch: int, device: str) -> float | None:
    """MiB that a loop's first steps take at their peak over what the process had before it was made.

    On a GPU what torch allocated; on Linux the resident set; elsewhere None.
    """
    return told("train_memory", [net, side, str(batch), device], device)


def told(module: str, arguments: list[str], device: str = "cpu") -> float | None:
    """The number that a module of this room prints last in a process of its own; None where none can be measured."""
    if device == "cpu" and not _CLEAR.exists():
        return None
    command = [sys.executable, "-m", f"mezzotint.bench.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    try:
        return float(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None


def _main(net: str, side: str, batch: str, device: str) -> None:
    import torch

    from mezzotint.bench.train import SIDES
    from mezzotint.bench.train_side import problem

    make = SIDES[side][0]
    what = problem(net, int(batch), device=device)
    make(what).close()  # what a library imports when it is first used is none of the loop's
    before = peak(torch.device(device), reset=True)
    loop = make(what)
    loop.advance(_STEPS)
    print(round(peak(torch.device(device)) - before, 1))
    loop.close()


def peak(device, *, reset: bool = False) -> float:
    """MiB at most since the last reset; at a reset what is taken now."""
    import torch

    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device) / 2**20
    if reset:
        _CLEAR.write_text("5")  # the peak becomes what is resident now (man 5 proc)
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


if __name__ == "__main__":
    _main(*sys.argv[1:])
