"""Segmentation by a diffusion of masks: several samples, what they agree on, and how far they do not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import Sampler

__all__ = ["MaskEnsemble", "coded", "segment"]


@dataclass(frozen=True, eq=False)
class MaskEnsemble:
    """n masks of each of b images.

    Args:
        samples: (b, n, c, h, w), c masks each; the layout that `metric.ged` takes.
    """

    samples: Bool[Tensor, "b n c h w"]

    def __len__(self) -> int:
        return self.samples.shape[1]

    @property
    def probability(self) -> Float[Tensor, "b c h w"]:
        """P = the share of samples that have a pixel."""
        return self.samples.float().mean(1)

    @property
    def variance(self) -> Float[Tensor, "b c h w"]:
        """n / (n - 1) P (1 - P), of the samples; NaN for one sample, which has none."""
        if len(self) == 1:
            return torch.full_like(self.probability, math.nan)
        return self.samples.float().var(1)

    @property
    def label(self) -> Bool[Tensor, "b c h w"]:
        """P > 1/2."""
        return self.probability > 0.5


def coded(mask: Tensor) -> Float[Tensor, "b c h w"]:
    """A mask as a model takes it: -1 outside, 1 inside.

    >>> coded(torch.tensor([[[[True, False]]]])).tolist()
    [[[[1.0, -1.0]]]]
    """
    return 2 * mask.float() - 1


@torch.no_grad()
def segment(
    d: Denoiser,
    image: Float[Tensor, "b k h w"],
    seeds: Sequence[int],
    *,
    channels: int = 1,
    steps: int = 20,
    grid: Grid | Tensor | None = None,
    sampler: Sampler | None = None,
) -> MaskEnsemble:
    """Sample masks of each image from a model of masks that is told the image.

        m_j ~ p(m | image),   mask_j = m_j > 0

    Sample j of an image is what seeds[j] gives, whatever else is in the batch.

    Args:
        d: of masks coded -1 and 1, whose network reads the image as the condition "concat". Trained on one annotator's
            mask at a time, drawn anew at each step, its samples differ as annotators do.
        image: what it is told.
        seeds: one a sample.
        channels: masks an image.
        steps, grid: of the sampler; a tensor of times has its own number of steps.
        sampler: DDIM() by default.

    Raises:
        ValueError: for images that are none, no seed, and what a sampler refuses.

    Source: Wolleb et al. 2021 (implicit ensembles), as arXiv 2211.07804 tells it.

    >>> from mezzotint.core import Flow, Gaussian
    >>> d = Gaussian(torch.ones(1, 2, 2), std=0.1).denoiser(Flow())
    >>> segment(d, torch.zeros(3, 1, 2, 2), range(5), steps=2).label.float().mean().item()
    1.0
    """
    if image.ndim != 4 or channels < 1:
        raise ValueError(f"images are {tuple(image.shape)}, channels={channels}; expected (b, k, h, w) and 1 or more")
    run, told, shape = sampler or DDIM(), Condition({"concat": image}), (channels, *image.shape[2:])
    times = resolve_grid(grid, d.schedule, None if isinstance(grid, Tensor) else steps)
    sigma, made = float(d.schedule.sigma(times[:1])), []
    for seed in Noise(list(seeds)).seeds:
        noise = Noise([seed] * len(image))
        x_T = sigma * noise("x_T", 0, shape, dtype=image.dtype, device=image.device)
        made.append(run(d, x_T, grid=times, c=told, noise=noise) > 0)
    return MaskEnsemble(torch.stack(made, 1))
