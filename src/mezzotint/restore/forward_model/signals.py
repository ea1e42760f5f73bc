"""Signals drawn by a denoiser over observations, one view after the other where there are several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, fold, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.restore.forward_model.denoiser import ForwardModelDenoiser
from mezzotint.sample import DDIM
from mezzotint.sample.loop import Sampler

__all__ = ["autoregressive_views", "sample_signals"]

_STEPS = 50


def sample_signals(
    d: ForwardModelDenoiser,
    c: Condition,
    noise: Noise,
    shape: Sequence[int],
    *,
    guided: Denoiser | None = None,
    sampler: Sampler | None = None,
    steps: int | None = None,
    grid: Grid | Tensor | None = None,
    temperature: float = 1.0,
) -> tuple[Any, Float[Tensor, "b *s"]]:
    """Signals S given c, and the observation of each at phi.

    The observation y is sampled; the signal is that of the last evaluation, G(y_t, t, c) at the last time above 0
    (its input is slightly noisy still). It is a sample of the posterior for what (c, y) determine, and a posterior
    *mean* for the rest: Cov(S_hat | c) = Cov(S | c) - E Cov(S | y, c). `ForwardModel.coverage` says how much is seen.

    Args:
        d: the denoiser.
        c: the condition, b rows; its entry "phi" says which observation is diffused.
        noise: one seed a signal.
        shape: of an observation.
        guided: d with a guide around it, for the sampling; the signal is the unguided one. None: d.
        sampler: DDIM by default, as in the source.
        steps, grid: of the sampler; 50 steps where neither is given.
        temperature: of the initial noise (0.85 for the source's indoor scenes).

    Returns:
        the signal, and y, (b, *shape).

    Raises:
        ValueError: for wrong arguments.

    Source: arXiv 2306.11719, released code (the field of the last evaluation).
    """
    if not temperature >= 0:
        raise ValueError(f"temperature={temperature}; expected >= 0 (1: the model's own)")
    keep = _Remembering(guided or d, d)
    times = resolve_grid(grid, d.schedule, _STEPS if steps is None and not isinstance(grid, Tensor) else steps)
    x_T = temperature * float(d.schedule.sigma(times[:1])) * noise("x_T", 0, tuple(shape))
    first = next(iter(c.values()))
    y = (sampler or DDIM())(keep, x_T.to(first.device), grid=times, c=c, noise=noise)
    assert keep.last is not None
    x, t = keep.last
    return d.signal(x, t, c), y


def autoregressive_views(
    d: ForwardModelDenoiser,
    c: Condition,
    phis: Float[Tensor, "b n *p"],
    append: Callable[[Condition, Tensor, Tensor], Condition],
    noise: Noise,
    shape: Sequence[int],
    **settings: Any,
) -> tuple[Any, Float[Tensor, "b n *s"]]:
    """Sample view after view, each with the earlier ones' renderings in its context.

    Args:
        d: the denoiser.
        c: the condition, with the first context; its entry "phi" is replaced.
        phis: of the views, in order.
        append: (condition, observation, its phi) -> condition with that observation in the context.
        noise: one seed a signal; each view draws its own numbers.
        shape: of an observation.
        settings: of `sample_signals`.

    Returns:
        the last signal, and what was seen at every phi *of the signal of its turn*, (b, n, *shape).

    Source: arXiv 2306.11719, released code (the rendered image, not the diffused one, joins the context).
    """
    if phis.ndim < 2 or phis.shape[1] == 0:
        raise ValueError(f"phis has shape {tuple(phis.shape)}; expected (b, views, ...) with at least one view")
    signal, seen = None, []
    for n in range(phis.shape[1]):
        phi = phis[:, n]
        now = Condition({**c, d.key: phi}, {k: v for k, v in c.null_rows.items() if k != d.key})
        signal, _ = sample_signals(d, now, Noise([fold(s, "view", n) for s in noise.seeds]), shape, **settings)
        seen.append(d.model(signal, phi))
        c = append(now, seen[-1], phi)
    return signal, torch.stack(seen, 1)


class _Remembering(Denoiser):
    """Hands on, and keeps the last input."""

    def __init__(self, denoiser: Denoiser, source: Denoiser) -> None:
        super().__init__(source.schedule)
        self.denoiser = denoiser
        self.last: tuple[Tensor, Tensor] | None = None

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Any:
        """See Denoiser.forward."""
        self.last = (x_t, t)
        return self.denoiser(x_t, t, c)
