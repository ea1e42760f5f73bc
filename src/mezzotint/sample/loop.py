"""The loop that drives every sampler: plan once, step n times, keep no state between calls."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.sample.expint import psi0
from mezzotint.sample.plan import Node, Plan
from mezzotint.sample.remembered import planned

__all__ = ["OnStep", "Sampler", "State"]


@dataclass(frozen=True)
class State:
    """Where a run stands.

    Args:
        x: the sample at node k, (b, *s), float32 or wider.
        k: steps taken so far.
        x0: the latest data prediction (a preview), None before the first step.
        history: data predictions of earlier nodes, newest first; what a multistep solver needs, no more.
    """

    x: Tensor
    k: int = 0
    x0: Tensor | None = None
    history: tuple[Tensor, ...] = ()


OnStep = Callable[[int, State], Any]


@dataclass(frozen=True)
class Sampler(ABC):
    """From x_T at the first time of a grid to x at its last.

    A subclass gives `plan` (all coefficients) and `step` (one step by them), states its `order` of accuracy and its
    network evaluations (`nfe`), both of which are tested. Samplers are immutable and keep nothing between calls.
    Gradients flow through them: put `torch.no_grad()` around the call when none are wanted.
    """

    order: ClassVar[int]

    @property
    def stochastic(self) -> bool:
        """Whether noise is drawn during the run, so that `noise=` is needed."""
        return False

    def nfe(self, steps: int) -> int:
        """Network evaluations of `steps` steps on a grid that ends at t = 0 (`plan(...).nfe` for any grid)."""
        return steps

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """The weight of the data estimate in the first-order part of step k, at a given state.

        For every solver that is exact in the linear part it is alpha_t (1 - e^-h), h = lambda_t - lambda_s: the rest
        of its step is built of differences of predictions. h = inf (from alpha = 0, to sigma = 0) gives alpha_t. A
        solver with another weight, as those that draw noise, states its own; `DualFast` changes this term alone.

        Args:
            nodes: of the run, from noise to data.
            k: the step, from nodes[k] to nodes[k + 1].

        Source: arXiv 2506.13058 ("the first-order term of the base solver"), 2211.01095, equation 8.
        """
        return nodes[k + 1].alpha * psi0(nodes[k + 1].lam - nodes[k].lam)

    @abstractmethod
    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """All coefficients of a run over the times `grid`, once, in float64 on the CPU."""

    @abstractmethod
    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """Step k of the plan: from node k to node k + 1."""

    def __call__(
        self,
        d: Denoiser,
        x_T: Float[Tensor, "b *s"],
        *,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        noise: Noise | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *s"]:
        """Sample.

        Args:
            d: the denoiser, guided or not.
            x_T: the state at the first time, (b, *s): at t = 1 that is sigma(1) times standard normal noise (plus
                alpha(1) times data, which is nothing or next to it).
            steps: number of steps, >= 1; may be left out when grid is a tensor.
            grid: a grid function, or a descending tensor of times (steps + 1,) in [0, 1]; default uniform in t.
            c: the condition, b rows.
            noise: one seed a sample; needed where `stochastic`.
            on_step: called as on_step(k, state) after step k = 0, 1, ....

        Returns:
            x at the last time, (b, *s), with the dtype of x_T.

        Raises:
            ValueError: for wrong arguments, before any network call.
            FloatingPointError: if a data prediction or the result is not finite; names the step.
        """
        state = State(x_T)
        for state in self.trajectory(d, x_T, steps=steps, grid=grid, c=c, noise=noise):
            if on_step is not None:
                on_step(state.k - 1, state)
        return state.x.to(x_T.dtype)

    def trajectory(
        self,
        d: Denoiser,
        x_T: Float[Tensor, "b *s"],
        *,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        noise: Noise | None = None,
    ) -> Iterator[State]:
        """The states after each step, for previews: `for state in sampler.trajectory(...): show(state.x0)`.

        Arguments are checked at once, not at the first state. Non-finite values are looked for once, when the last
        state has been handed out, so that no step waits for the device.
        """
        if not hasattr(d, "schedule"):
            raise ValueError(
                f"a sampler needs a Denoiser, which has a schedule; got {type(d).__name__}. "
                "Wrap a network first, for example EpsDenoiser(net, VP())"
            )
        _check_start(x_T)
        times = resolve_grid(grid, d.schedule, steps)
        _check_informed(d, times)
        if c is not None and len(c) and c.batch != len(x_T):
            raise ValueError(f"the condition has {c.batch} rows but x_T has {len(x_T)} samples; give one row a sample")
        self._check_noise(noise, len(x_T))
        x = x_T.to(torch.promote_types(x_T.dtype, torch.float32))
        return self._run(d, State(x), planned(self, d.schedule, times).on(x, d.schedule), c, noise)

    def _run(self, d: Denoiser, state: State, plan: Plan, c: Condition | None, noise: Noise | None) -> Iterator[State]:
        sums: list[Tensor] = []
        for k in range(plan.steps):
            state = self.step(d, state, k, plan, c, noise)
            if state.x0 is not None:
                # one number a step, looked at after the last: a sum is finite unless a term is not
                sums.append((state.x0.detach() if state.x0.requires_grad else state.x0).sum())
            yield state
        _check_finite(sums, state.x, plan)

    def _check_noise(self, noise: Noise | None, batch: int) -> None:
        if not self.stochastic:
            return
        if noise is None:
            raise ValueError(
                f"{type(self).__name__} draws noise at every step; pass noise=Noise(seeds) with {batch} seeds"
            )
        if len(noise) != batch:
            raise ValueError(f"noise has {len(noise)} seeds but x_T has {batch} samples; give one seed a sample")

    def predict(
        self, d: Denoiser, x: Tensor, k: int, plan: Plan, c: Condition | None = None, call: int = 0
    ) -> Float[Tensor, "b *s"]:
        """The data prediction at x for one evaluation of step k, in the dtype of the solver's state.

        Raises:
            ValueError: if its shape is not that of x.
        """
        x0 = d(x, plan.time(k, x, call), c).x0
        if x0.dtype is not x.dtype:
            x0 = x0.to(x.dtype)
        if x0.shape != x.shape:
            raise ValueError(f"the denoiser predicts data of shape {tuple(x0.shape)} for x of {tuple(x.shape)}")
        return x0


def _check_start(x: Tensor) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x_T is {kind}; expected a floating-point tensor (batch, ...)")
    if x.ndim < 1 or x.numel() == 0:
        raise ValueError(f"x_T has shape {tuple(x.shape)}; expected (batch, ...), nothing empty, as (4, 3, 64, 64)")
    # a sum is finite unless a term is not; where it overflows the terms are looked at
    if not (math.isfinite(x.detach().sum()) or bool(torch.isfinite(x).all())):
        raise ValueError("x_T holds NaN or infinity; start from finite numbers, for example noise('x_T', 0, shape)")


def _check_informed(d: Denoiser, times: Tensor) -> None:
    """At alpha = 0 x_t is all noise: a network that predicts the noise there says nothing of the data."""
    inner: object = d
    while isinstance(inner, Denoiser) and hasattr(inner, "denoiser"):
        inner = inner.denoiser
    kind = getattr(inner, "kind", None)
    if kind in ("eps", "score") and float(d.schedule.alpha(times[:1])) == 0:
        raise ValueError(
            f"the network predicts {kind}, which says nothing of the data at alpha = 0, where this grid starts; start "
            "below t = 1 (grid=), or use a network that predicts v, flow or x0"
        )


def _check_finite(sums: list[Tensor], x: Tensor, plan: Plan) -> None:
    finite = torch.isfinite(torch.stack([*sums, x.detach().sum()])).tolist()
    if all(finite):
        return
    k = finite.index(False)
    where = f"x0 at step {k} of {plan.steps} (t = {plan.calls[k][0]:.6g})" if k < len(sums) else "x after the last step"
    raise FloatingPointError(
        f"sampling gave NaN or infinity: {where}. Check the network's output there (half precision overflows; "
        "an eps prediction says nothing at alpha = 0) and the guidance weight"
    )
