"""What starting costs: `import mezzotint` over `import torch`, and `mezzotint --help`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

# Measured in a fresh interpreter each: modules that one import leaves behind would make the next look free.
_OVER_TORCH = """
import json, time
start = time.perf_counter(); import torch
torch_done = time.perf_counter(); import {name}
print(json.dumps([torch_done - start, time.perf_counter() - torch_done]))
"""


def import_seconds(name: str = "mezzotint", repeats: int = 3) -> dict[str, float]:
    """Median seconds of `import torch`, and of `import NAME` after it, in fresh interpreters."""
    rows = [json.loads(_python("-c", _OVER_TORCH.format(name=name))) for _ in range(repeats)]
    return {"torch": statistics.median(r[0] for r in rows), name: statistics.median(r[1] for r in rows)}


def help_seconds(repeats: int = 3) -> float:
    """Median seconds of `python -m mezzotint --help`, the interpreter's start included."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        _python("-m", "mezzotint", "--help")
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"python {arguments[0]} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
