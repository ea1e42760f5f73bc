"""Beta tables rescaled to zero terminal SNR, where the last step is pure noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from mezzotint.core import Discrete

__all__ = ["ZeroTerminal", "rescaled_betas"]


def rescaled_betas(betas: Sequence[float], last: float = 0.0) -> list[float]:
    """The betas of sqrt(alpha_bar) moved and stretched so that its first value stays and its last is 0.

    Args:
        betas: of the table.
        last: alpha_bar of the last step in place of 0; diffusers' solvers in the noise level have 2^-24.

    Source: arXiv 2305.08891, algorithm 1.

    >>> rescaled_betas([0.1, 0.2, 0.3])[-1]
    1.0
    """
    root = torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0).sqrt()
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    bar = torch.cat([root.new_ones(1), root**2])
    bar[-1] = last
    return (1 - bar[1:] / bar[:-1]).tolist()


class ZeroTerminal(Discrete):
    """A table whose last beta is 1: alpha(1) = 0.

    As `Discrete` up to the last step but one; from there alpha, not its logarithm, falls linearly (our choice).

    Args:
        betas: (N,), in (0, 1) but for the last, which is 1.

    Source: arXiv 2305.08891, section 3.1.

    >>> schedule = ZeroTerminal(rescaled_betas([0.1, 0.2, 0.3]))
    >>> t = torch.tensor([1.0, 0.9, 0.5], dtype=torch.float64)
    >>> schedule.alpha(t)[0].item(), bool(torch.allclose(schedule.t_of(schedule.half_log_snr(t)), t))
    (0.0, True)
    """

    def __init__(self, betas: Sequence[float]) -> None:
        super().__init__(betas[:-1])
        self._inner = Discrete(betas[:-1])
        self._floor = float(self._inner._log_alpha(torch.ones((), dtype=torch.float64)))
        self.betas = (*self.betas, 1.0)

    def _log_alpha(self, t: Tensor) -> Tensor:
        last = self.steps - 1
        place = (t.to(torch.float64) * self.steps).clamp(0, self.steps)
        return self._inner._log_alpha(place.clamp(max=last) / last) + torch.log1p(-(place - last).clamp(min=0))

    def t_of(self, lam: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The time at which half_log_snr equals lam."""
        wide = lam.to(torch.float64)
        beyond = (1 - (-0.5 * softplus(-2 * wide) - self._floor).exp()).clamp(min=0)
        t = (self._inner.t_of(wide) * (self.steps - 1) + beyond) / self.steps
        return t.to(torch.promote_types(lam.dtype, torch.float32))
