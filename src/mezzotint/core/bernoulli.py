"""A chain of masks: each step keeps a pixel or replaces it by a fair coin."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mezzotint.core.noise import Noise

__all__ = ["BernoulliChain"]


@dataclass(frozen=True)
class BernoulliChain:
    """Diffusion of masks in {0, 1} by steps k = 1 to T, from the mask itself (k = 0) to fair coins.

        q(m_k | m_0) = B(abar_k m_0 + (1 - abar_k) / 2),    q(m_k | m_k-1) = B(a_k m_k-1 + (1 - a_k) / 2),
        a_k = abar_k / abar_k-1

    Args:
        keep: abar_1 to abar_T, falling, in [0, 1]: the chance that a pixel was never replaced.

    Raises:
        ValueError: for no step, or chances that do not fall or leave [0, 1].

    Source: BerDiff (Chen et al. 2023), as arXiv 2211.07804 tells it.

    >>> chain = BernoulliChain.cosine(10)
    >>> chain.steps, chain.keep[-1]
    (10, 0.0)
    """

    keep: tuple[float, ...]

    def __post_init__(self) -> None:
        levels = (1.0, *self.keep)
        falls = all(a >= b for a, b in zip(levels, self.keep))
        if not self.keep or not falls or self.keep[-1] < 0 or 0.0 in self.keep[:-1]:
            raise ValueError("keep needs falling chances in (0, 1], one a step; the last alone may be 0")

    @classmethod
    def cosine(cls, steps: int) -> BernoulliChain:
        """abar_k = cos(pi k / 2 T)^2, which ends at 0 (our choice of schedule)."""
        if steps < 1:
            raise ValueError(f"a chain has a step or more; got {steps}")
        return cls((*(math.cos(0.5 * math.pi * k / steps) ** 2 for k in range(1, steps)), 0.0))

    @property
    def steps(self) -> int:
        """T."""
        return len(self.keep)

    def marginal(self, mask: Tensor, k: int) -> Float[Tensor, "b *s"]:
        """P(m_k = 1 | m_0), float64.

        Args:
            mask: m_0, (b, *s), bool or 0 and 1, or P(m_0 = 1).
            k: step, 0 to T.
        """
        abar = self._abar(k)
        return abar * mask.double() + (1 - abar) / 2

    def posterior(self, state: Tensor, mask: Tensor, k: int) -> Float[Tensor, "b *s"]:
        """P(m_k-1 = 1 | m_k, m_0), float64; of a probable mask, the mean over m_0 given m_k.

            P(m_k-1 = v | m_k, m_0) ~ q(m_k | m_k-1 = v) q(m_k-1 = v | m_0)

        Args:
            state: m_k, (b, *s), bool or 0 and 1.
            mask: m_0, or P(m_0 = 1 | m_k) as a network predicts it (then its mean, which is linear in it).
            k: step, 1 to T.

        Raises:
            ValueError: for another step.
        """
        if not 1 <= k <= self.steps:
            raise ValueError(f"posterior got step {k}; expected 1 to {self.steps}")
        before = self._abar(k - 1)
        a = self._abar(k) / before
        m, p = state.double(), mask.double()
        ahead = torch.stack([a * (1 - m), a * m]) + (1 - a) / 2  # q(m_k | m_k-1 = 0), q(m_k | m_k-1 = 1)
        total = torch.zeros_like(m)
        for value, weight in ((0.0, 1 - p), (1.0, p)):
            one = ahead[1] * (before * value + (1 - before) / 2)
            zero = ahead[0] * (before * (1 - value) + (1 - before) / 2)
            whole = one + zero  # 0 where m_k cannot follow from this m_0
            total = total + weight * one / torch.where(whole > 0, whole, torch.ones_like(whole))
        return total

    def noised(self, mask: Tensor, k: int, noise: Noise) -> Bool[Tensor, "b *s"]:
        """m_k of masks m_0, one seed a mask."""
        u = noise.uniform("mask", k, mask.shape[1:], dtype=torch.float64, device=mask.device)
        return u < self.marginal(mask, k)

    def sample(
        self, predict: Callable[[Tensor, int], Tensor], shape: tuple[int, ...], noise: Noise
    ) -> Bool[Tensor, "b *s"]:
        """Masks from fair coins, by T steps of the posterior.

        Args:
            predict: (m_k bool (b, *shape), k) -> P(m_0 = 1 | m_k), such as a network's sigmoid. A network that
                predicts the flip, f = P(m_k != m_0), gives where(m_k, 1 - f, f).
            shape: of one mask.
            noise: one seed a mask.
        """
        state = noise.uniform("x_T", 0, shape, dtype=torch.float64) < 0.5
        for k in range(self.steps, 0, -1):
            chance = self.posterior(state, predict(state, k), k)
            state = noise.uniform("step", k, shape, dtype=torch.float64, device=chance.device) < chance
        return state

    def _abar(self, k: int) -> float:
        if not 0 <= k <= self.steps:
            raise ValueError(f"step {k}; expected 0 to {self.steps}")
        return (1.0, *self.keep)[k]
