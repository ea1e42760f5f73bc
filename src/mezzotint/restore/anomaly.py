"""Anomalies by partial diffusion: what a model of healthy images does not give back is suspect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, fold
from mezzotint.restore.operators.kernels import gaussian_kernel
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.ddpm import DDPM
from mezzotint.sample.invert import invert
from mezzotint.sample.loop import Sampler

__all__ = ["Anomaly", "PartialDiffusion", "healthy_twin", "smoothed"]


@dataclass(frozen=True, eq=False)
class Anomaly:
    """Where an image departs from what its model knows; a score of difference, and no diagnosis.

    Args:
        score: (b, 1, h, w), >= 0.
        twin: (b, c, h, w), the mean of what was given back: synthetic.
    """

    score: Float[Tensor, "b 1 h w"]
    twin: Float[Tensor, "b c h w"]


@dataclass(frozen=True)
class PartialDiffusion:
    """score = mean_k mean_c |x - x_k|^2, x_k = alpha x + sigma n denoised from t = start to 0 by the same noise law.

    A network trained with one law of noise fails from another (`objective.Structured`), so the law is given once, for
    the start and for the steps of the sampler. start = 0 gives x back, and score 0.

    Args:
        start: t*, in [0, 1); 0.25 is 250 of 1000 steps.
        law: seeds -> Noise: the one of training, `Noise` or `Simplex()`.
        repeats: K >= 1.
        steps: of the sampler, from t* to 0, evenly in t.
        sampler: ancestral as in the paper, or any.
        blur: std in pixels of the Gaussian that smooths the score inside the mask; 0 for none.

    Raises:
        ValueError: for values outside these ranges; when called, for images that are not (b, c, h, w).

    Source: AnoDDPM (Wyatt et al. 2022), as arXiv 2211.07804 tells it; repeats, steps and blur are our choice.

    >>> from mezzotint.core import VP, Gaussian
    >>> d = Gaussian(torch.zeros(1, 8, 8), std=0.1).denoiser(VP())
    >>> PartialDiffusion(blur=0.0)(d, torch.ones(1, 1, 8, 8), [0]).score.mean().round().item()
    1.0
    """

    start: float = 0.25
    law: Callable[[Sequence[int]], Noise] = Noise
    repeats: int = 4
    steps: int = 25
    sampler: Sampler = field(default_factory=DDPM)
    blur: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise ValueError(f"PartialDiffusion got start={self.start}; expected a time in [0, 1), about 0.25")
        if min(self.repeats, self.steps) < 1 or not 0 <= self.blur < float("inf"):
            raise ValueError(
                f"PartialDiffusion got repeats={self.repeats}, steps={self.steps}, blur={self.blur}; expected 1 or "
                "more of the first two, and a blur >= 0"
            )

    def back(
        self, d: Denoiser, x: Float[Tensor, "b c h w"], seeds: Sequence[int], c: Condition | None = None
    ) -> Float[Tensor, "b c h w"]:
        """x with noise up to t* on it, and denoised again: one x_k.

        Args:
            d: of healthy images, with noise of the same law.
            x: images.
            seeds: one an image.
            c: the condition, b rows.
        """
        if x.ndim != 4 or len(seeds) != len(x):
            raise ValueError(
                f"images are {tuple(x.shape)} and there are {len(seeds)} seeds; expected (b, c, h, w) and b"
            )
        if self.start == 0:
            return x
        noise, times = self.law(seeds), torch.linspace(self.start, 0, self.steps + 1, dtype=torch.float64)
        alpha, sigma = float(d.schedule.alpha(times[:1])), float(d.schedule.sigma(times[:1]))
        n = noise("x_T", 0, tuple(x.shape[1:]), dtype=x.dtype, device=x.device)
        return self.sampler(d, alpha * x + sigma * n, grid=times, c=c, noise=noise)

    @torch.no_grad()
    def __call__(
        self,
        d: Denoiser,
        x: Float[Tensor, "b c h w"],
        seeds: Sequence[int],
        *,
        mask: Bool[Tensor, "b 1 h w"] | None = None,
        c: Condition | None = None,
    ) -> Anomaly:
        """Score each image.

        Args:
            d, x, seeds, c: as of `back`.
            mask: the body; outside of it the score is 0.
        """
        seen = [self.back(d, x, [fold(s, "repeat", k) for s in seeds], c) for k in range(self.repeats)]
        score = torch.stack([(x - one).square().mean(1, keepdim=True) for one in seen]).mean(0)
        return Anomaly(smoothed(score, self.blur, mask), torch.stack(seen).mean(0))


@torch.no_grad()
def healthy_twin(
    d: Denoiser,
    guided: Denoiser,
    x: Float[Tensor, "b c h w"],
    *,
    start: float = 0.5,
    steps: int = 50,
    c: Condition | None = None,
    told: Condition | None = None,
    blur: float = 0.0,
    mask: Bool[Tensor, "b 1 h w"] | None = None,
) -> Anomaly:
    """score = sum_c |x - twin|: x encoded to t = start by DDIM without a guide, and decoded with one to "healthy".

    Inversion takes DDIM's exact map on the same times. With guided = d the twin is x up to the error of the inversion.
    A guide removes lesions and may add structure: what it makes is synthetic.

    Args:
        d: encodes.
        guided: decodes, such as `CFG(3.0)(d)` with a condition that says healthy.
        x: images.
        start: t_L in (0, 1).
        steps: each way.
        c: the condition of the encoder.
        told: that of the decoder.
        blur, mask: as of `PartialDiffusion`.

    Raises:
        ValueError: for a start outside of (0, 1), and what a sampler refuses.

    Source: Wolleb et al. 2022 and Sanchez et al. 2022 ("What is healthy?"), as arXiv 2211.07804 tells them.
    """
    if not 0 < start < 1:
        raise ValueError(f"healthy_twin got start={start}; expected a time in (0, 1), about 0.5")
    times = torch.linspace(start, 0, steps + 1, dtype=torch.float64)
    twin = DDIM()(guided, invert(DDIM(), d, x, grid=times, c=c), grid=times, c=told)
    return Anomaly(smoothed((x - twin).abs().sum(1, keepdim=True), blur, mask), twin)


def smoothed(
    score: Float[Tensor, "b 1 h w"], std: float, mask: Bool[Tensor, "b 1 h w"] | None = None
) -> Float[Tensor, "b 1 h w"]:
    """The Gaussian mean of a score over the pixels of a mask that are near; 0 outside of it.

    (g * (m s)) / (g * m) where m = 1: neither the image's border nor the mask's draws the score down.

    >>> smoothed(torch.ones(1, 1, 9, 9), 2.0)[0, 0, 0, 0].round(decimals=5).item()
    1.0
    """
    m = torch.ones_like(score) if mask is None else mask.to(score)
    if std > 0:
        kernel = gaussian_kernel(std).to(score)[None, None]
        pad = kernel.shape[-2] // 2, kernel.shape[-1] // 2
        score = F.conv2d(score * m, kernel, padding=pad) / F.conv2d(m, kernel, padding=pad).clamp_min(1e-12)
    return score * m
