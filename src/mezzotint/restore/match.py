"""Denoising by a diffusion model: the image is taken for a state of the process, at the time that has its noise."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise
from mezzotint.core.schedule import Schedule
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.loop import Sampler

__all__ = ["denoise", "time_of_noise"]


def time_of_noise(schedule: Schedule, std: float) -> float:
    """t* with sigma / alpha = std.

    Raises:
        ValueError: for a std that is negative, or above what the schedule reaches.

    >>> from mezzotint.core import Flow
    >>> time_of_noise(Flow(), 1.0)
    0.5
    """
    if not 0 <= std < math.inf:
        raise ValueError(f"the noise has std={std}; expected a finite number >= 0, for images in [-1, 1]")
    if std == 0:
        return 0.0
    t = schedule.t_of(torch.tensor([-math.log(std)], dtype=torch.float64))
    reached = float(torch.exp(-schedule.half_log_snr(t)))
    if reached < 0.999 * std:
        raise ValueError(f"the noise has std={std:g} but this schedule ends at {reached:.4g}; nothing is seen at that")
    return float(t)


def denoise(
    d: Denoiser,
    y: Float[Tensor, "b *s"],
    std: float,
    noise: Noise | None = None,
    *,
    steps: int = 1,
    sampler: Sampler | None = None,
    c: Condition | None = None,
) -> Float[Tensor, "b *s"]:
    """y = x + std n: start at alpha y at the time t* where sigma / alpha = std, and run down.

    One step is the model's expectation of x, which is best in mean square; ancestral steps (`DDPM()`) draw from
    p(x | y); deterministic ones keep the law of images, and lie between the two. The noise must be Gaussian with one
    level: of a magnitude image (Rician) only where the signal is well above it.

    Args:
        d: the denoiser.
        y: noisy images, in the range of the model.
        std: of their noise, >= 0, in that range; `restore.measure` estimates it.
        noise: one seed an image; where the sampler draws.
        steps: evenly in t.
        sampler: DDIM() by default.
        c: the condition, b rows.

    Raises:
        ValueError: as `time_of_noise`, and what a sampler refuses.

    Source: arXiv 2211.07804, denoising by partial diffusion.

    >>> from mezzotint.core import VP, Gaussian
    >>> denoise(Gaussian(torch.zeros(2), std=1.0).denoiser(VP()), torch.ones(1, 2), 1.0).round(decimals=4).tolist()
    [[0.5, 0.5]]
    """
    start = time_of_noise(d.schedule, std)
    if start == 0:
        return y
    times = torch.linspace(start, 0, steps + 1, dtype=torch.float64)
    x = float(d.schedule.alpha(times[:1])) * y
    return (sampler or DDIM())(d, x, grid=times, c=c, noise=noise)
