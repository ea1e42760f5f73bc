"""What every test shares: one torch thread a worker, and shapes and types checked while tests run.

`MEZZOTINT_TYPECHECK=0` switches the checks off (to time something, or to debug without them).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch starts its pools; the workers share the cores
os.environ.setdefault("MKL_NUM_THREADS", "1")

if os.environ.get("MEZZOTINT_TYPECHECK", "1") != "0":
    # Whatever of mezzotint is imported from here on checks its annotations, shapes included. Each xdist worker
    # loads this file itself before it collects, so the hook is in place there too; installed code stays unchecked.
    from jaxtyping import install_import_hook

    install_import_hook("mezzotint", "beartype.beartype")

from collections.abc import Callable

import pytest
import torch
from torch import nn

torch.set_num_threads(1)


@pytest.fixture
def unchecked():
    """Types and shapes are not checked in this test, so that the library's own messages are what a user sees."""
    from jaxtyping import config

    before = config.jaxtyping_disable
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", before)


@pytest.fixture
def alive() -> Callable[[nn.Module], nn.Module]:
    """Fill every parameter with small random numbers (zero-initialised layers would hide what a test looks for), the
    same each time, and go to float64."""

    def fill(net: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(0)
        net = net.double()
        with torch.no_grad():
            for p in net.parameters():
                scale = 0.1 if p.ndim == 1 else (p[0].numel()) ** -0.5
                p.copy_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * scale + (p.ndim == 1) * 0.2)
        return net

    return fill


@pytest.fixture
def draw() -> Callable[..., torch.Tensor]:
    """Return float64 normal numbers, new ones at each call, the same in each run of a test."""
    generator = torch.Generator().manual_seed(1)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
