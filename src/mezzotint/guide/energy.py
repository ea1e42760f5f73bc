"""Energy guidance: any differentiable score of the data prediction pulls the sample, with nothing trained on noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.guide.guided import GuidedDenoiser

__all__ = ["Energy"]


@dataclass(frozen=True)
class Energy:
    """The score of p(x_t) exp(-w E(D(x_t))): x0_w = x0 - w sigma^2 / alpha grad_{x_t} E(D(x_t)).

    As dD/dx_t = alpha / sigma^2 Cov[x0 | x_t] this is x0 - w Cov[x0 | x_t] grad E: exact for a linear E on Gaussian
    data, otherwise the first term of E's mean over p(x0 | x_t). "prediction" puts sigma^2 / (alpha^2 + sigma^2), the
    variance for data of unit spread, in place of the covariance: no backward pass through the network, and cruder.

    Costs one evaluation and one backward pass. At alpha = 0, where x_t says nothing of the data, there is no pull. Goes
    around other guides, compose(CFG(3.0), Energy(...)), and inside Interval. In latent space let E decode:
    lambda z: E(autoencoder.decode(z)).

    Args:
        energy: energy(x0) -> (b,), lower is better, each row of its own: -log of a classifier's probability, 1 minus a
            cosine, a distance.
        weight: w >= 0; 0 is the plain denoiser, without a call of E.
        through: "network" as above, or "prediction".

    Raises:
        ValueError: for other settings; when called, for an energy of another shape or one without a gradient.

    Source: in the style of plug-and-play guidance by an energy of the clean picture, arXiv 2210.05559, section 3.5 of
    the sheet, whose own way is `LatentLangevin`; the one-pass form is that of 2209.14687, equation 8, and 2302.07121.

    >>> from mezzotint.core import Gaussian, VP
    >>> d = Energy(lambda x: x.sum(1), weight=2.0)(Gaussian(torch.ones(3), std=0.5).denoiser(VP()))
    >>> wanted = Gaussian(torch.full((3,), 1 - 2 * 0.25), std=0.5).denoiser(VP())       # tilted by exp(-2 x)
    >>> x, t = torch.randn(4, 3), torch.full((4,), 0.5)
    >>> torch.allclose(d(x, t).x0, wanted(x, t).x0, atol=1e-5)
    True
    """

    energy: Callable[[Tensor], Tensor]
    weight: float | int
    through: Literal["network", "prediction"] = "network"

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ValueError(
                f"Energy got weight={self.weight}; expected a finite number >= 0 (of a score that is to grow, give the "
                "negative as the energy)"
            )
        if self.through not in ("network", "prediction"):
            raise ValueError(f"Energy got through={self.through!r}; expected 'network' or 'prediction'")

    def __call__(self, denoiser: Denoiser) -> GuidedDenoiser:
        """The guided denoiser."""
        return _EnergyDenoiser(denoiser, self)


class _EnergyDenoiser(GuidedDenoiser):
    def __init__(self, denoiser: Denoiser, guide: Energy) -> None:
        super().__init__(denoiser)
        self.guide = guide

    def pair(
        self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None
    ) -> tuple[Prediction, Prediction]:
        """See GuidedDenoiser.pair."""
        if self.guide.weight == 0:
            plain = self.denoiser(x_t, t, c)
            return plain, plain
        flows = torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        with torch.inference_mode(False), torch.enable_grad():  # callers may sample without gradients
            if flows and x_t.requires_grad:
                x = x_t
            else:
                x = (x_t.clone() if x_t.is_inference() else x_t.detach()).requires_grad_()
            if self.guide.through == "network":
                plain = self.denoiser(x, t, c)
                at, pull = x, _through(self, t, x)
                said = plain.x0
            else:
                with torch.set_grad_enabled(flows):
                    plain = self.denoiser(x, t, c)
                said = plain.x0 if flows else plain.x0.detach()
                at = said = said if said.requires_grad else said.clone().requires_grad_()
                pull = _alone(self, t, x)
            down = _gradient(self.guide.energy(said), at, flows)
            moved = plain.x0 - self.guide.weight * pull * down
        if not flows:
            moved, plain = moved.detach(), plain.with_x0(plain.x0.detach())
        return Prediction.from_x0(moved, x_t, t, self.schedule), plain


def _gradient(energy: Tensor, at: Tensor, keep: bool) -> Tensor:
    """d sum E / d at, with its own graph where gradients flow on."""
    if energy.shape != (len(at),):
        raise ValueError(f"the energy gave {tuple(energy.shape)}; expected ({len(at)},), one number a sample")
    if not energy.requires_grad:
        raise ValueError(
            "no gradient comes from the energy to the picture: it must be differentiable, and neither it nor the "
            "denoiser may work under torch.no_grad() or inference_mode"
        )
    return torch.autograd.grad(energy.sum(), at, create_graph=keep, retain_graph=keep)[0]


def _levels(d: Denoiser, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    wide = t.detach().to(torch.float64)
    shape = (-1, *[1] * (x.ndim - 1))
    return d.schedule.alpha(wide).view(shape), d.schedule.sigma(wide).view(shape)


def _through(d: Denoiser, t: Tensor, x: Tensor) -> Tensor:
    alpha, sigma = _levels(d, t, x)
    return torch.where(alpha > 0, sigma**2 / alpha.clamp_min(1e-12), 0.0).to(x.dtype)


def _alone(d: Denoiser, t: Tensor, x: Tensor) -> Tensor:
    alpha, sigma = _levels(d, t, x)
    return torch.where(alpha > 0, sigma**2 / (alpha**2 + sigma**2), 0.0).to(x.dtype)
