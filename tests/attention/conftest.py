"""Networks whose zero-initialised layers are filled, so that nothing hides behind a zero."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def alive() -> Callable[[nn.Module], nn.Module]:
    """Fill every parameter with small random numbers, the same each time, and go to float64."""

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
