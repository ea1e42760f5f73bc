"""What the machine can do at most, and what a run has taken of it."""

from __future__ import annotations

import platform
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch

__all__ = ["measured_peak", "memory_peak", "processor", "software"]

_SIDE = {"cpu": 768, "cuda": 8192}  # of the matrices: large enough that a longer side is no faster
_SECONDS = 0.15


def measured_peak(device: torch.device, precision: Literal["float32", "bfloat16"] = "float32") -> float:
    """Floating point operations a second of a large matrix product, as torch does it here: median of 0.15 s of them.

        2 n^3 / time   (a multiply-add counts as two)

    It is what this process gets on this machine now (threads, other work, settings such as TF32), not what the
    maker says.

    Args:
        device: where.
        precision: of the networks.
    """
    side = _SIDE.get(device.type, 2048)
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    # a constant that is no denormal; its value does not matter, and no generator is touched
    a = torch.full((side, side), 0.5, dtype=dtype, device=device)
    out = torch.empty_like(a)
    taken: list[float] = []
    while sum(taken) < _SECONDS or len(taken) < 3:  # the first is a warm-up
        _wait(device)
        start = time.perf_counter()
        torch.mm(a, a, out=out)
        _wait(device)
        taken.append(time.perf_counter() - start)
    return 2.0 * side**3 / statistics.median(taken[1:])


def memory_peak(device: torch.device) -> float:
    """MiB: the most that tensors took on a GPU, else the most that the process took (0 where that is not told)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def processor(device: torch.device) -> dict[str, Any]:
    """The device's name, and for a processor its threads."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "torch_threads": torch.get_num_threads()}
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return {"device": name, "torch_threads": torch.get_num_threads()}


def software() -> dict[str, str]:
    """Versions of what a run's numbers depend on; packages that are not there are left out.

    >>> "torch" in software()
    True
    """
    from mezzotint import __version__

    found = {"python": platform.python_version(), "mezzotint": __version__}
    for name in ("torch", "numpy", "safetensors", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
