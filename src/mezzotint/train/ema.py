"""Exponential moving average of a module's parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Average of the trained parameters of a module, in float32 or wider.

        w_n = d_n w_(n-1) + (1 - d_n) theta_n,   d_n = min(decay, (1 + n) / (10 + n)),  n = 1, 2, ...

    so the first updates forget the initial weights quickly. Parameters that do not require a gradient and
    buffers are not averaged: the module's own values are used. Source: 2112.10752, official code.

    Args:
        module: what to follow; its present weights are the start w_0.
        decay: largest decay, in [0, 1).

    >>> net = nn.Linear(1, 1, bias=False); _ = nn.init.zeros_(net.weight)
    >>> ema = EMA(net, 0.9999)
    >>> _ = nn.init.ones_(net.weight); ema.update()
    >>> round(ema.averages["weight"].item(), 6) == round(1 - 2 / 11, 6)
    True
    """

    def __init__(self, module: nn.Module, decay: float = 0.9999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"EMA decay must be in [0, 1), got {decay}")
        self.module = module
        self.decay = self.length = decay
        self.updates = 0
        self._live = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.averages: dict[str, Tensor] = {name: _wide(p) for name, p in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the module's present weights into the average."""
        self.updates += 1
        averages = [_own(average) for average in self.averages.values()]
        pairs = zip(map(_own, self._live.values()), averages, strict=True)
        live = [p if p.dtype == a.dtype else p.to(a.dtype) for p, a in pairs]
        torch._foreach_lerp_(averages, live, 1.0 - self.decay_at(self.updates))

    def decay_at(self, update: int) -> float:
        """d_n of update n = 1, 2, ..."""
        return min(self.decay, (1 + update) / (10 + update))

    @torch.no_grad()
    def align(self) -> None:
        """Put the averages on the devices and in the memory formats of the module's parameters."""
        for name, p in self._live.items():
            self.averages[name] = torch.empty_like(p, dtype=self.averages[name].dtype).copy_(self.averages[name])

    def rebind(self, averages: Mapping[str, Tensor]) -> None:
        """Follow the parameters that the module has now (an engine may have replaced them), with these averages."""
        self._live = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        self.averages = {name: averages[name] for name in self._live}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the module's whole state with the averaged parameters in place: what to save as weights."""
        return {**self.module.state_dict(), **self.averages}

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """Lend the module with the averaged weights; its own come back on leaving.

        The module's own values are kept aside bit for bit, so training can go on afterwards.
        """
        kept = {name: p.detach().clone() for name, p in self._live.items()}
        self.copy_to_module()
        try:
            yield self.module
        finally:
            with torch.no_grad():
                for name, p in self._live.items():
                    p.copy_(kept[name])

    @torch.no_grad()
    def copy_to_module(self) -> None:
        """Overwrite the module's parameters with the averages, for good."""
        for name, p in self._live.items():
            p.copy_(self.averages[name])


def _own(tensor: Tensor) -> Tensor:
    """The part that this process holds, of a tensor divided among several."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # type: ignore[attr-defined]


def _wide(p: Tensor) -> Tensor:
    return p.detach().to(torch.promote_types(p.dtype, torch.float32), copy=True)
