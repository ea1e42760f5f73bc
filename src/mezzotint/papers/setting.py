"""Where and with what a number was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version


def hardware(device: str = "cpu") -> str:
    """One line: the accelerator's name, or the processor's kind and cores."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(torch.device(device))
    return f"{platform.machine()} CPU, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on.

    >>> "torch" in versions()
    True
    """
    found = {"python": platform.python_version()}
    for name in ("mezzotint", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # run from a source tree that is not installed
            found[name] = "unknown"
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread, so that processor seconds mean the same whatever else the machine does."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
