"""Guidance in the space of noises: Langevin dynamics on the latent code, through the whole sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise

__all__ = ["LatentDraw", "LatentLangevin"]


@dataclass(frozen=True)
class LatentDraw:
    """Where the dynamics ended.

    Args:
        z: (b, *s), the latent codes.
        energy: (b,), E(G(z)) of them.
    """

    z: Float[Tensor, "b *s"]
    energy: Float[Tensor, " b"]


@dataclass(frozen=True)
class LatentLangevin:
    """Samples of p(z | C) ∝ N(z; 0, I) exp(-w E(G(z))), by unadjusted Langevin steps:

        z <- z - (h/2) (z + w grad_z E(G(z))) + sqrt(h) omega,   z_0, omega ~ N(0, I).

    The pull to 0 is that of the prior; add no other. Nothing is accepted or refused, which widens the samples: with
    w = 0 the variance is 1 / (1 - h/4), and the dynamics diverge where h (1 + w curvature) >= 4.

    Args:
        weight: w >= 0. The paper: 500 (100 to 1000) for a CLIP energy, 5 for a classifier's.
        step: h, in (0, 4).
        iterations: >= 1.
        keep: "last", a sample; or "best", for each row the z of the lowest energy seen, an optimum.

    Raises:
        ValueError: for values out of range. When called: for an energy of another shape or one without a gradient.
        FloatingPointError: where the dynamics diverge; names the iteration.

    Source: arXiv 2210.05559, section 3.5 of the sheet.

    >>> toward = lambda x: 0.5 * (x - 2.0).square().sum(1)
    >>> z = LatentLangevin(weight=3.0)(lambda z: z, toward, Noise(range(64)), (8,)).z
    >>> abs(float(z.mean()) - 3 * 2 / (1 + 3)) < 0.1                       # w c / (1 + w)
    True
    """

    weight: float | int = 500.0
    step: float | int = 0.05
    iterations: int = 200
    keep: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"LatentLangevin got weight={self.weight}; expected a finite number >= 0")
        if not 0 < self.step < 4:
            raise ValueError(f"LatentLangevin got step={self.step}; expected a number in (0, 4), as 0.05")
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 1:
            raise ValueError(f"LatentLangevin got iterations={self.iterations!r}; expected a whole number >= 1")
        if self.keep not in ("last", "best"):
            raise ValueError(f"LatentLangevin got keep={self.keep!r}; expected 'last' or 'best'")

    def __call__(
        self,
        generate: Callable[[Tensor], Tensor],
        energy: Callable[[Tensor], Tensor],
        noise: Noise,
        shape: Sequence[int],
        *,
        on_step: Callable[[int, Tensor], object] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> LatentDraw:
        """Run.

        Args:
            generate: G, (b, *s) -> pictures, differentiable: `mezzotint.sample.FromNoise`, a GAN, a decoder.
            energy: energy(pictures) -> (b,), lower is better.
            noise: one seed a sample; purposes "z" and "langevin".
            shape: of one z; `FromNoise(...).shape(...)` tells it.
            on_step: called as on_step(k, z) after each iteration.
            dtype, device: of z.

        Returns:
            The codes and their energies. iterations + 1 calls of G, all but the last with a backward pass.
        """
        shape = tuple(shape)
        with torch.inference_mode(False):
            z = noise("z", 0, shape, dtype=dtype, device=device)
            best, least = z, torch.full((len(noise),), torch.inf, dtype=dtype, device=device)
            finite: list[Tensor] = []  # looked at once, at the end: a step does not wait for the device
            for k in range(self.iterations):
                value, gradient = self._slope(generate, energy, z)
                best, least = _lower(best, least, z, value)
                omega = noise("langevin", k, shape, dtype=dtype, device=device)
                z = z - 0.5 * self.step * (z + self.weight * gradient) + math.sqrt(self.step) * omega
                finite.append(torch.isfinite(z.sum()))
                if on_step is not None:
                    on_step(k, z)
            with torch.no_grad():
                value = _value(energy(generate(z)), z)
            good = torch.stack([*finite, torch.isfinite(value.sum())]).tolist()
            if not all(good):
                raise FloatingPointError(
                    f"Langevin dynamics diverged: not finite from iteration {good.index(False)} of {self.iterations} "
                    f"on; take a smaller step than {self.step:g} or weight than {self.weight:g}: step (1 + weight "
                    "curvature of the energy) must stay below 4"
                )
            if self.keep == "best":
                z, value = _lower(best, least, z, value)
            return LatentDraw(z, value)

    def _slope(
        self, generate: Callable[[Tensor], Tensor], energy: Callable[[Tensor], Tensor], z: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self.weight == 0 and self.keep == "last":
            return torch.zeros(len(z), dtype=z.dtype, device=z.device), torch.zeros_like(z)
        with torch.enable_grad():
            at = z.detach().requires_grad_()
            value = _value(energy(generate(at)), at)
            if not value.requires_grad:
                raise ValueError(
                    "no gradient comes from the energy to the noises: G and E must be differentiable and not work "
                    "under torch.no_grad()"
                )
            (gradient,) = torch.autograd.grad(value.sum(), at)
        return value.detach(), gradient


def _value(value: Tensor, z: Tensor) -> Tensor:
    if value.shape != (len(z),):
        raise ValueError(f"the energy gave {tuple(value.shape)}; expected ({len(z)},), one number a sample")
    return value.to(z.dtype)


def _lower(best: Tensor, least: Tensor, z: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    better = value < least
    return torch.where(better.view(-1, *[1] * (z.ndim - 1)), z, best), torch.where(better, value, least)
