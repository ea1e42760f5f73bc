"""The denoising objective: what almost every diffusion model is trained with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mezzotint.core import Denoiser, Noise
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.coupling import Coupling
from mezzotint.objective.times import TimeSampling, UniformTime
from mezzotint.objective.weight import Unweighted, Weighting

__all__ = ["Denoise"]

Target = Literal["x0", "eps", "v", "flow"]


@dataclass(frozen=True)
class Denoise:
    """E_{x, eps, t} w(t) |target - prediction|^2 at x_t = alpha x + sigma eps.

    Times, noise and condition dropout are functions of each sample's seed, so that a resumed or re-sharded run sees
    the same numbers. The mean is over all elements of a sample, then over the batch.

    Args:
        target: the space the error is measured in: "x0", "eps", "v" or "flow". The cheapest is the network's own.
        times: the distribution of t.
        weight: of each noise level.
        drop: probability in [0, 1] that a sample's condition becomes null, for classifier-free guidance
            (0.1 is our choice; arXiv 2112.10752 does not state one).
        coupling: of noise and data; `OptimalTransport` straightens the paths of flow matching. None: as drawn.

    Raises:
        ValueError: for an unknown target or a drop outside [0, 1].

    Source: arXiv 2006.11239, equation 14; 2202.00512 (v); 2209.03003 (flow); dropout: 2207.12598.

    >>> import torch
    >>> from mezzotint.core import Flow, Gaussian
    >>> exact = Gaussian(torch.zeros(4), std=0.0).denoiser(Flow())
    >>> Denoise("x0")(exact, Batch(torch.zeros(2, 4)), Noise([0, 1])).total.item()
    0.0
    """

    target: Target = "eps"
    times: TimeSampling = UniformTime()
    weight: Weighting = Unweighted()
    drop: float = 0.1
    coupling: Coupling | None = None

    def __post_init__(self) -> None:
        if self.target not in ("x0", "eps", "v", "flow"):
            raise ValueError(f"unknown target {self.target!r}; expected x0, eps, v or flow")
        if not 0 <= self.drop <= 1:
            raise ValueError(f"drop={self.drop}; expected a probability in [0, 1]")

    def __call__(self, denoiser: Denoiser, batch: Batch, noise: Noise) -> Loss:
        """The loss of a batch; `noise` has one seed a sample.

        Returns:
            total (scalar) and terms: "mse", the same without the weight.
        """
        x, c = batch.x, batch.c
        if len(noise) != len(x):
            raise ValueError(f"noise has {len(noise)} seeds for {len(x)} samples; give one a sample")
        schedule = denoiser.schedule
        t = self.times(noise, schedule)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        weight = self.weight(self.target, alpha, sigma).to(x.device, x.dtype)
        shape = (-1, *[1] * (x.ndim - 1))
        a, s = (level.to(x.device, x.dtype).view(shape) for level in (alpha, sigma))
        eps = noise("eps", 0, x.shape[1:], dtype=x.dtype, device=x.device)
        if self.coupling is not None:
            eps = self.coupling(x, eps)
        if c is not None and self.drop > 0:
            c = c.drop((noise.uniform("drop", 0) < self.drop).to(x.device))
        prediction = denoiser(a * x + s * eps, t.to(x.device, x.dtype), c)
        truth = {"x0": lambda: x, "eps": lambda: eps, "v": lambda: a * eps - s * x, "flow": lambda: eps - x}
        error = (getattr(prediction, self.target) - truth[self.target]()).square().flatten(1).mean(1)
        return Loss((weight * error).mean(), {"mse": error.detach().mean()})
