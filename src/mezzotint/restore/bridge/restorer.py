"""Restoring with a network that was trained for the task: no operator is needed any more."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.restore.bridge.sampler import BridgeSampler
from mezzotint.sample.loop import OnStep, Sampler

__all__ = ["OneCall", "TrainedRestorer"]


@dataclass(frozen=True)
class TrainedRestorer:
    """A sampler whose denoiser is told the degraded picture: SR3 and Palette, and every process.

    `TrainedRestorer(DDIM(1.0))` for a denoiser of a schedule, trained on pairs by `Degraded(Denoise(...))`;
    `TrainedRestorer()` for a `BridgeDenoiser`. The state that on_step sees of a process is x_t - b(t) y; x0 is as ever.

    Args:
        sampler: any; the default is that of processes.

    Source: arXiv 2104.07636 (SR3), 2111.05826 (Palette), and the processes' own.

    >>> from mezzotint.restore.bridge import BridgeDenoiser, InDI
    >>> d = BridgeDenoiser(lambda x, time, c: 0.5 * c["concat"], InDI())
    >>> TrainedRestorer()(d, torch.ones(1, 1, 2, 2), Noise([0]), steps=3).mean().item()
    0.5
    """

    sampler: Sampler = field(default_factory=BridgeSampler)

    def __call__(
        self,
        d: Denoiser,
        y: Float[Tensor, "_ *s"],
        noise: Noise,
        *,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *s"]:
        """Restore.

        Args:
            d: the trained denoiser, guided or not.
            y: the degraded picture in the shape of x (`operator.guess(y)`), (b, *s); or (1, *s) and several seeds: as
                many samples.
            noise: one seed a row of the result.
            steps, grid: as of a sampler; 15 steps where neither is given.
            c: what else the network is told, b rows; its "concat" goes behind y (levels of noise, masks).
            on_step: called as on_step(k, state) after step k; state.x0 is a preview.

        Raises:
            ValueError: for wrong arguments, before any network call.
            FloatingPointError: where a prediction is not finite.
        """
        y, c = _told(y, noise, c)
        times = resolve_grid(grid, d.schedule, 15 if steps is None and not isinstance(grid, Tensor) else steps)
        z = noise("x_T", 0, tuple(y.shape[1:]), dtype=y.dtype, device=y.device)
        x_T = float(d.schedule.sigma(times[:1])) * z
        return self.sampler(d, x_T, grid=times, c=c, noise=noise, on_step=on_step)


@dataclass(frozen=True)
class OneCall:
    """A regressor: D(0, t = 1, y), trained by `Regress`; the same for every seed, whatever `steps`.

    Source: the baseline of arXiv 2104.07636 and 2111.05826 ("regression").
    """

    def __call__(
        self,
        d: Denoiser,
        y: Float[Tensor, "_ *s"],
        noise: Noise,
        *,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *s"]:
        """See TrainedRestorer; steps, grid and on_step have no effect."""
        y, c = _told(y, noise, c)
        return d(torch.zeros_like(y), y.new_ones(len(y)), c).x0


def _told(y: Tensor, noise: Noise, c: Condition | None) -> tuple[Tensor, Condition]:
    if not isinstance(y, Tensor) or not y.is_floating_point() or y.ndim < 2 or y.numel() == 0:
        shape = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
        raise ValueError(f"the degraded picture is {shape}; expected floats (batch, channels, ...), nothing empty")
    if not bool(torch.isfinite(y).all()):
        raise ValueError("the degraded picture holds NaN or infinity")
    if len(noise) != len(y):
        if len(y) != 1:
            raise ValueError(
                f"noise has {len(noise)} seeds but there are {len(y)} degraded pictures; give one seed a picture, or "
                "one picture and a seed for each sample of it"
            )
        y = y.expand(len(noise), *y.shape[1:])
    if c is None:
        return y, Condition({"concat": y})
    if len(c) and c.batch != len(y):
        raise ValueError(f"the condition has {c.batch} rows for {len(y)} results; give one row a result")
    return y, c.updated({"concat": torch.cat([y, c["concat"].to(y)], 1) if "concat" in c else y})
