"""Multistep consistency sampling: jump to the data, go back to less noise, jump again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mezzotint.sample.multistep import Multistep, Row
from mezzotint.sample.plan import Node

__all__ = ["Consistency"]


@dataclass(frozen=True)
class Consistency(Multistep):
    """x_t = alpha_t D(x_s, s) + sigma_t z, D a consistency function: the end of the probability flow through x_s.

    The sampler of consistency models and of LCM, one evaluation a step; the last step is D itself, without noise. With
    the exact function every number of steps gives exact samples, and a path through one step is the flow's; with a
    learned one each step repairs what the one before left. A function that is learned down to a least level m, as
    `BoundaryDenoiser`, ends at m and not at 0: the sources then add sqrt(sigma_t^2 - m^2) z, and we sigma_t z (our
    choice; at m = 0.002 the two are the same but for the smallest levels). What maps a network's output to D (c_skip,
    c_out, a distilled guidance) is in the denoiser. Which times were distilled is in the grid.

    The order is 0: what is wrong with D stays at any number of steps. A posterior mean, as plain denoisers give, is no
    consistency function: use another sampler for them.

    Source: arXiv 2303.01469, algorithm 1; arXiv 2310.04378, algorithm 3 (LCM).

    >>> import torch; from mezzotint.core import Gaussian, Noise, VP
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> Consistency()(d, torch.ones(1, 2), steps=4, noise=Noise([0])).shape
    torch.Size([1, 2])
    """

    order = 0

    @property
    def stochastic(self) -> bool:
        """True: all steps but the last draw."""
        return True

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """See Sampler.first_order; the only estimate's whole weight."""
        return nodes[k + 1].alpha

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        """See Multistep.row."""
        return Row(0.0, (nodes[k + 1].alpha,), nodes[k + 1].sigma)
