"""Edits along a direction: a step at a noisy state, then a sampler down to the data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise
from mezzotint.sample import DDIM, invert
from mezzotint.sample.loop import Sampler

__all__ = ["edit_along", "edit_strip", "state_at"]


def state_at(
    d: Denoiser,
    x0: Float[Tensor, "b *s"],
    t: float,
    *,
    steps: int = 100,
    sampler: Sampler | None = None,
    c: Condition | None = None,
) -> Float[Tensor, "b *s"]:
    """The noisy state at time t from which a deterministic sampler makes x0, by inversion.

    Args:
        d: the denoiser that will edit.
        x0: data, (b, *s): pictures in [-1, 1], or latents.
        t: 0 < t <= 1.
        steps: of the inversion, uniform from 0 to t.
        sampler: deterministic; None for DDIM.
        c: the condition, b rows.

    Raises:
        ValueError: for a t out of range, and what `invert` refuses.

    Source: arXiv 2409.02426, section 5 (DDIM inversion, 100 steps).

    >>> from mezzotint.core import Gaussian, VP
    >>> d, x = Gaussian(torch.zeros(2), std=1.0).denoiser(VP()), torch.ones(1, 2).double()
    >>> bool((edit_along(d, state_at(d, x, 0.7), 0.7, torch.zeros_like(x), 1.0, steps=100) - x).abs().max() < 0.05)
    True
    """
    chosen = DDIM() if sampler is None else sampler
    return invert(chosen, d, x0, grid=_times(t, steps), c=c)


def edit_along(
    d: Denoiser,
    x_t: Float[Tensor, "b *s"],
    t: float,
    v: Float[Tensor, "#b *s"],
    strength: float,
    *,
    steps: int = 20,
    sampler: Sampler | None = None,
    c: Condition | None = None,
    noise: Noise | None = None,
) -> Float[Tensor, "b *s"]:
    """x_t + a |x_t| / sqrt(n) v, sampled down to 0.

    Directions compose (a sum of several v) and can be carried from one picture to another.

    Args:
        d: the denoiser.
        x_t: the states, (b, *s).
        t: their time, 0 < t <= 1.
        v: directions of length 1, one a sample or one for all, as `Directions.vectors[:, i]`.
        strength: a; 0.5 to 8 in the paper's code, either sign. The unit is the level of x_t, which under a
            variance-preserving schedule is about 1.
        steps: from t to 0, uniform.
        sampler: None for DDIM; one that draws noise gives texture, and needs `noise`.
        c: the condition, b rows.
        noise: one seed a sample.

    Raises:
        ValueError: for a t out of range, a strength that is not finite, directions of another shape.

    Source: arXiv 2409.02426, section 5; the unit of strength is our choice.
    """
    return edit_strip(d, x_t, t, v, [strength], steps=steps, sampler=sampler, c=c, noise=noise)[0]


def edit_strip(
    d: Denoiser,
    x_t: Float[Tensor, "b *s"],
    t: float,
    v: Float[Tensor, "#b *s"],
    strengths: Sequence[float | int],
    *,
    steps: int = 20,
    sampler: Sampler | None = None,
    c: Condition | None = None,
    noise: Noise | None = None,
) -> Float[Tensor, "k b *s"]:
    """`edit_along` for several strengths, in one batch: (k, b, *s), strength first.

    Args:
        d, x_t, t, v, steps, sampler, c, noise: as in `edit_along`.
        strengths: k numbers; 0 is the picture unedited.
    """
    grid, b = _times(t, steps), len(x_t)
    if not len(strengths) or not all(math.isfinite(a) for a in strengths):
        raise ValueError(f"strengths {list(strengths)}; expected one finite number or more")
    if tuple(v.shape[1:]) != tuple(x_t.shape[1:]) or len(v) not in (1, b):
        raise ValueError(
            f"directions have shape {tuple(v.shape)} for states of {tuple(x_t.shape)}; expected one a sample, or one"
        )
    if noise is not None and len(noise) != b:
        raise ValueError(f"{len(noise)} seeds for {b} samples; give one a sample")
    level = x_t.flatten(1).norm(dim=1).view(-1, *[1] * (x_t.ndim - 1)) / math.prod(x_t.shape[1:]) ** 0.5
    moved = torch.cat([x_t + a * level * v for a in strengths])
    rows = list(range(b)) * len(strengths)
    told = None if c is None or not len(c) else c.rows(rows)
    run = DDIM() if sampler is None else sampler
    made = run(d, moved, grid=grid, c=told, noise=None if noise is None else noise.rows(rows))
    return made.reshape(len(strengths), *x_t.shape)


def _times(t: float, steps: int) -> Tensor:
    if not 0 < t <= 1:
        raise ValueError(f"the time t={t}; expected 0 < t <= 1")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r}; expected a whole number >= 1")
    return torch.linspace(t, 0, steps + 1, dtype=torch.float64)
