"""How much a condition tells a denoiser about an image, and about each pixel of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, student_in
from mezzotint.interpret.pid_levels import InformationLevels, level_error

__all__ = ["Information", "contributions", "information"]

Form = Literal["orthogonal", "standard"]
_HELD = 1 << 23  # numbers of noise held at once


@dataclass(frozen=True)
class Information:
    """Pointwise mutual information of an image's pixels with a condition, in nats.

    Args:
        maps: (b, pairs, *s), summed over channels.
        errors: standard errors of the maps.
        totals: (b, pairs): what a whole image has; the sums of the maps.
        total_errors: standard errors of the totals (not the sums of the pixels': those are not independent).
    """

    maps: Tensor
    errors: Tensor
    totals: Tensor
    total_errors: Tensor


def information(
    denoiser: Denoiser,
    x: Float[Tensor, "b channels *s"],
    conditions: Condition,
    pairs: Sequence[tuple[int, int]],
    noise: Noise,
    *,
    levels: InformationLevels | None = None,
    form: Form = "orthogonal",
    batch: int = 64,
) -> Information:
    """What condition q tells beyond condition p, for pairs (p, q): an integral over the noise levels.

    orthogonal: i_j = int E sum_c (eps(x_t | p) - eps(x_t | q))^2_cj d lambda, never negative;
    standard: i_j = int E sum_c (eps - eps(x_t | p))^2_cj - (eps - eps(x_t | q))^2_cj d lambda, which for one image is
    log p(x|q) / p(x|p), and noisier. Their means over images agree where the denoiser is exact. All conditions see the
    same x_t: with other noises the first would measure the noise.

    Args:
        denoiser: not guided.
        x: images, or latents for a latent model.
        conditions: K rows, the same for every image; row p of a pair is the reference.
        pairs: (p, q), each a row of `conditions`.
        noise: one seed an image; what an image gets depends on its seed alone.
        levels: `InformationLevels()` if None.
        form: see above.
        batch: network rows at once.

    Raises:
        ValueError: for what does not fit together, or a guided denoiser.

    Source: arXiv 2302.03792 and 2310.07972, equations of section 3.

    >>> from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(1, 2), std=1.0).denoiser(VP())
    >>> nothing = Condition({"label": torch.zeros(2)})
    >>> float(information(d, torch.ones(1, 1, 2), nothing, [(0, 1)], Noise([0])).totals)
    0.0
    """
    levels = levels or InformationLevels()
    kept = []
    for told in contributions(denoiser, x, conditions, pairs, noise, levels, form, batch):
        whole = told.flatten(3).sum(-1)
        kept.append((told.mean(0), level_error(told), whole.mean(0), level_error(whole)))
    return Information(*(torch.cat(parts) for parts in zip(*kept, strict=True)))


@torch.no_grad()
def contributions(
    denoiser: Denoiser,
    x: Float[Tensor, "b channels *s"],
    conditions: Condition,
    pairs: Sequence[tuple[int, int]],
    noise: Noise,
    levels: InformationLevels,
    form: Form = "orthogonal",
    batch: int = 64,
) -> Iterator[Float[Tensor, "levels part pairs *s"]]:
    """What each level adds, weights included, for some of the images at a time, float64 on the CPU.

    See `information`; its maps are the means over levels.
    """
    _check(denoiser, x, conditions, pairs, noise, form, batch)
    first = torch.tensor([p for p, _ in pairs], device=x.device)
    second = torch.tensor([q for _, q in pairs], device=x.device)
    schedule, each = denoiser.schedule, levels.count * levels.draws
    step = max(1, _HELD // (each * math.prod(x.shape[1:])))
    cells = max(1, batch // conditions.batch)
    for start in range(0, len(x), step):
        part, own = x[start : start + step], noise.rows(slice(start, start + step))
        lam, w = levels(schedule, own)
        times = schedule.t_of(lam).repeat_interleave(levels.draws, 1).flatten()
        eps = own("pid", 0, (each, *x.shape[1:]), dtype=x.dtype).flatten(0, 1)
        made = []
        for low in range(0, len(eps), cells):
            t, e = times[low : low + cells], eps[low : low + cells].to(x.device)
            image = part[torch.arange(low, low + len(t), device=x.device) // each]
            alpha, sigma = (f(t).to(x).view(-1, *[1] * (x.ndim - 1)) for f in (schedule.alpha, schedule.sigma))
            said = _eps(denoiser, alpha * image + sigma * e, t.to(x), conditions, batch)
            if form == "orthogonal":
                square = (said[:, first] - said[:, second]).square()
            else:
                missed = (said - e[:, None]).square()
                square = missed[:, first] - missed[:, second]
            made.append(square.sum(2).double().cpu())
        told = torch.cat(made).unflatten(0, (len(part), levels.count, levels.draws)).mean(2)
        told = told.transpose(0, 1) * w.T.reshape(levels.count, len(part), *[1] * (told.ndim - 2))
        if not bool(torch.isfinite(told).all()):
            raise ValueError(
                "the denoiser gave numbers that are not finite; check the model and the interval of levels"
            )
        yield told


@torch.no_grad()
def _eps(denoiser: Denoiser, x_t: Tensor, t: Tensor, conditions: Condition, batch: int) -> Tensor:
    """(cells, K, *s): every condition on the same x_t."""
    n, k = len(x_t), conditions.batch
    cell = torch.arange(n, device=x_t.device).repeat_interleave(k)
    row = torch.arange(k, device=x_t.device).repeat(n)
    said = [
        denoiser(x_t[cell[low : low + batch]], t[cell[low : low + batch]], conditions.rows(row[low : low + batch])).eps
        for low in range(0, n * k, batch)
    ]
    return torch.cat(said).unflatten(0, (n, k))


def _check(
    denoiser: Denoiser, x: Tensor, c: Condition, pairs: Sequence[tuple[int, int]], noise: Noise, form: str, batch: int
) -> None:
    if form not in ("orthogonal", "standard"):
        raise ValueError(f"unknown form {form!r}; expected 'orthogonal' or 'standard'")
    if x.ndim < 3 or not x.is_floating_point():
        raise ValueError(f"x has shape {tuple(x.shape)} and {x.dtype}; expected floats (images, channels, ...)")
    if len(noise) != len(x):
        raise ValueError(f"{len(noise)} seeds for {len(x)} images; give one seed an image")
    if not pairs or not all(0 <= p < c.batch and 0 <= q < c.batch for p, q in pairs):
        raise ValueError(f"pairs {list(pairs)} of {c.batch} conditions; expected pairs of rows, counted from 0")
    if batch < 1:
        raise ValueError(f"batch={batch}; expected a whole number >= 1")
    from mezzotint.guide.guided import GuidedDenoiser

    if isinstance(denoiser, GuidedDenoiser) or student_in(denoiser) is not None:
        raise ValueError("information is read off a plain denoiser; give it without guidance")
