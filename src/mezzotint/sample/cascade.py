"""Sampling level by level: a small image, then each next resolution given the one below."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Prediction, fold, karras
from mezzotint.core.grid import Grid
from mezzotint.core.known import spread_time
from mezzotint.core.multires import pyramid_of, with_low
from mezzotint.core.pyramid import ResolutionPyramid
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.names import sampler_named

__all__ = ["Cascaded", "CascadeSampler"]

OnLevel = Callable[[int, int, State], Any]


@dataclass(frozen=True)
class Cascaded:
    """What a cascade made.

    Args:
        x: data of the highest level, (b, c, *places).
        previews: data of every level, the lowest first; the last is x.
        nfe: network evaluations at each level, one for a batch; guidance on the condition makes two of one.
        cost: of the steps, in steps at the highest level: sum_l N_l (r_l / r_L)^dims.
    """

    x: Tensor
    previews: tuple[Tensor, ...]
    nfe: tuple[int, ...]
    cost: float


@dataclass(frozen=True)
class CascadeSampler:
    """For l = 0 .. L - 1: x_l = solver(D(., level l | x_(l-1) + s_aug n), N_l steps from smax_l to 0); a_L x_L at last.

    A level starts "cold", from pure noise at t = 1, or "warm", at sigma / alpha = smax_l, from
    alpha U(x_(l-1) + s_aug n) + sigma n: given the level below only fine detail is unknown, so that a few times its
    standard deviation is enough. Much less biases the law, at any number of steps. Each level draws from seeds of its
    own, those of level 0 being the plain ones; so a single level is the plain sampler, bit for bit.

    Args:
        solver: any sampler or its name, or one a level.
        steps: N_l, one a level.
        smax: sigma / alpha where each level starts; () for the schedule's end at every level. A level that starts cold
            has the schedule's end there (80 where that is infinite).
        start: how the levels above the first start.
        aug: s_aug, noise added to the level below, of which the network is told; in units of the level below, whose
            standard deviation is 0.5.
        guidance: g in D_nocond + g (D_cond - D_nocond), the condition being the level below; 1 is none.
        grid: times from 1 to 0, which a warm start multiplies by its own time; None is Karras' grid from smax_l.

    Raises:
        ValueError: for settings out of range; a warm start whose smax is not lowered, a lowered smax without a warm
            start (pure noise of that level has the wrong mean); when called: for another number of levels.

    Source: in the style of arXiv 2509.15342; starts, seeds, grid and noise on the condition are our choice.

    >>> CascadeSampler("heun", (18, 6), smax=(80.0, 3.0), start="warm").cost(ResolutionPyramid((16, 32)))
    10.5
    """

    solver: Sampler | str | tuple[Sampler | str, ...]
    steps: Sequence[int]
    smax: Sequence[float] = ()
    start: Literal["cold", "warm"] = "cold"
    aug: float = 0.05
    guidance: float = 1.0
    grid: Grid | None = None

    def __post_init__(self) -> None:
        many = self.solver if isinstance(self.solver, tuple) else (self.solver,) * len(self.steps)
        solvers = tuple(sampler_named(s) if isinstance(s, str) else s for s in many)
        for name, value in (("solver", solvers), ("steps", tuple(self.steps)), ("smax", tuple(self.smax))):
            object.__setattr__(self, name, value)
        n = len(self.steps)
        if not n or any(isinstance(k, bool) or not isinstance(k, int) or k < 1 for k in self.steps):
            raise ValueError(f"a cascade got steps={list(self.steps)}; expected a whole number >= 1 for each level")
        if len(solvers) != n or len(self.smax) not in (0, n):
            raise ValueError(
                f"a cascade of {n} levels got {len(solvers)} solvers and {len(self.smax)} values of smax; "
                "expected one a level (or no smax)"
            )
        if self.start not in ("cold", "warm"):
            raise ValueError(f"unknown start {self.start!r}; expected cold or warm")
        if self.start == "warm" and n > 1 and not self.smax:
            raise ValueError("a warm start needs smax, one a level, as smax=(80, 3): where the levels above begin")
        if not all(0 < s for s in self.smax):
            raise ValueError(f"a cascade got smax={list(self.smax)}; expected noise levels sigma / alpha > 0")
        if not 0 <= self.aug <= 0.5 or not 0 <= self.guidance < math.inf:
            raise ValueError(
                f"a cascade got aug={self.aug}, guidance={self.guidance}; expected aug in [0, 0.5], which training "
                "covers, and a finite guidance >= 0 (1 means none)"
            )

    def cost(self, pyramid: ResolutionPyramid) -> float:
        """sum_l N_l (r_l / r_L)^dims, in steps at the highest level."""
        return math.fsum(n * pyramid.area(level) for level, n in enumerate(self.steps))

    def nfe(self) -> tuple[int, ...]:
        """Network evaluations at each level."""
        guided = 1 if self.guidance == 1 else 2
        return tuple(s.nfe(n) * (guided if k else 1) for k, (s, n) in enumerate(zip(self._solvers, self.steps)))

    def __call__(
        self,
        d: Denoiser,
        shape: Sequence[int],
        noise: Noise,
        c: Condition | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
        on_step: OnLevel | None = None,
    ) -> Cascaded:
        """Sample.

        Args:
            d: a denoiser with a pyramid (`MultiResDenoiser`, `LevelDenoisers`), guided on other keys or not.
            shape: of one sample of the highest level, (c, *places).
            noise: one seed a sample.
            c: what every level is told.
            dtype, device: of the numbers drawn, and so of the result.
            on_step: called as on_step(level, k, state).

        Raises:
            ValueError: for a denoiser without a pyramid or with other levels, or another shape.
        """
        pyramid = pyramid_of(d)
        self._check(d, pyramid, shape)
        low, previews = None, []
        for level in range(len(pyramid)):
            drawn = level_noise(noise, level)
            places = [side // pyramid.factor(level) for side in shape[1:]]
            eps = drawn("x_T", 0, (shape[0], *places), dtype=dtype, device=device)
            extra = None if low is None else drawn("aug", 0, low.shape[1:], dtype=dtype, device=device)
            heard = None if on_step is None else partial(on_step, level)
            low = self.level(d, level, eps, low=low, extra=extra, c=c, noise=drawn, on_step=heard)
            previews.append(pyramid.data(low, level))
        return Cascaded(previews[-1], tuple(previews), self.nfe(), self.cost(pyramid))

    def level(
        self,
        d: Denoiser,
        level: int,
        eps: Float[Tensor, "b c *s"],
        *,
        low: Float[Tensor, "b c *r"] | None = None,
        extra: Float[Tensor, "b c *r"] | None = None,
        c: Condition | None = None,
        noise: Noise | None = None,
        on_step: Callable[[int, State], Any] | None = None,
    ) -> Float[Tensor, "b c *s"]:
        """One level, from its normal numbers: x_l in its own units.

        Args:
            eps: what it starts from.
            low: x_(l-1), in its own units; above level 0 None asks for a plain sample of this resolution.
            extra: the normal numbers of s_aug; None for zeros.
            c, noise, on_step: as a sampler has them.
        """
        pyramid, schedule, solver = pyramid_of(d), d.schedule, self._solvers[level]
        warm = level > 0 and self.start == "warm" and low is not None
        times = self._times(schedule, level, warm=warm)
        sigma, alpha = float(schedule.sigma(times[0])), float(schedule.alpha(times[0]))
        x = sigma * eps
        if low is not None:
            told = low if extra is None or not self.aug else low + self.aug * extra
            if warm:
                x = x + alpha * pyramid.lift(told, level)
            c = with_low(c, told, self.aug)
            d = d if self.guidance == 1 else _LowGuided(d, self.guidance)
        return solver(d, x, grid=times, c=c, noise=noise, on_step=on_step)

    @property
    def _solvers(self) -> tuple[Sampler, ...]:
        assert isinstance(self.solver, tuple)
        return self.solver  # type: ignore[return-value]

    def _times(self, schedule: Any, level: int, *, warm: bool) -> Tensor:
        steps = self.steps[level]
        if not warm:
            return karras(schedule, steps) if self.grid is None else self.grid(schedule, steps)
        if self.grid is None:
            return karras(schedule, steps, sigma_max=self.smax[level])
        first = schedule.t_of(torch.tensor(-math.log(self.smax[level]), dtype=torch.float64))
        return self.grid(schedule, steps) * first

    def _check(self, d: Denoiser, pyramid: ResolutionPyramid, shape: Sequence[int]) -> None:
        levels = list(pyramid.levels)
        if len(self.steps) != len(levels):
            raise ValueError(f"this model was trained for levels {levels}; the cascade has steps={list(self.steps)}")
        if len(shape) != pyramid.dims + 1 or shape[1] != levels[-1] or any(n % pyramid.factor(0) for n in shape[1:]):
            raise ValueError(
                f"shape {tuple(shape)} is no sample of levels {levels}; expected (c, *places) with a first side of "
                f"{levels[-1]} and sides that {pyramid.factor(0)} divides"
            )
        top = float(d.schedule.half_log_snr(torch.ones((), dtype=torch.float64)).neg().exp())
        end = top if math.isfinite(top) else 80.0  # where Karras' grid takes its spacing from
        for level, s in enumerate(self.smax):
            warm, lowered = level > 0 and self.start == "warm", s < end * (1 - 1e-6)
            told = f"level {levels[level]} has smax={s:g} where the schedule ends at {end:.6g}"
            if s > end * (1 + 1e-6):
                raise ValueError(f"{told}; nothing can start beyond it")
            if warm and not lowered:
                raise ValueError(f"{told}, and starts warm: lower it to 2 to 5, or use start='cold'")
            if lowered and not warm:
                raise ValueError(
                    f"{told}, and starts from pure noise, which has the wrong mean at a lowered level; "
                    + ("use start='warm'" if level else "the lowest level has nothing to start warm from")
                )


class _LowGuided(Denoiser):
    """x0 = x0_without + g (x0_with - x0_without), in one call: guidance on the level below alone."""

    def __init__(self, denoiser: Denoiser, g: float) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.g = denoiser, g

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        """See Denoiser.forward."""
        assert c is not None and "low" in c
        without = c.updated({"low_given": torch.zeros_like(c["low_given"])})
        times = spread_time(t, torch.cat([t, t]))
        both = self.denoiser(torch.cat([x_t, x_t]), times, Condition.cat([without, c]))
        plain, told = both.x0.chunk(2)
        return Prediction.from_x0(torch.lerp(plain, told, self.g), x_t, t, self.schedule)


def level_noise(noise: Noise, level: int) -> Noise:
    """The noise of a level: that of the seeds at level 0, of seeds made of them above."""
    return noise if level == 0 else Noise([fold(seed, "level", level) for seed in noise.seeds])
