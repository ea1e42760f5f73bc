"""From data to noise: a deterministic sampler on the reversed grid, or the exact preimage of its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.sample.combine import combine
from mezzotint.sample.expint import psi0
from mezzotint.sample.loop import OnStep, Sampler, State, _check_start
from mezzotint.sample.multistep import Multistep
from mezzotint.sample.plan import Node, Plan, nodes_of

__all__ = ["fixed_point", "invert"]


def invert(
    sampler: Sampler,
    d: Denoiser,
    x0: Float[Tensor, "b *s"],
    *,
    steps: int | None = None,
    grid: Grid | Tensor | None = None,
    c: Condition | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b *s"]:
    """The noise from which the sampler makes x0, up to its error: the sampler itself on the grid from data to noise.

    The formulas of a plan hold for steps of either sign, h = lambda_t - lambda_s < 0, and so does their order. Two
    ends are steps of first order of their own, one evaluation each:
        from sigma = 0 to the first node above:  x = alpha x0 + sigma eps, eps = (x - alpha D(x)) / sigma at alpha x0,
        to alpha = 0:  x = sigma eps, with eps predicted at the node before.
    The first of them inverts the sampler's last step x0 = D(x), as DDIM inversion does; on a grid that stops above 0
    there is none, x0 is then the state at its last time. Steps are counted as in sampling, and numbered from the data.

    Args:
        sampler: deterministic, with a plan of its own: multistep, single-step, Heun, ....
        d: the denoiser; guided only if sampling was, and then weakly: inversion under strong guidance drifts.
        x0: data, (b, *s); or the state at the grid's last time.
        steps, grid: those of the sampling run: times from noise to data, as in Sampler.__call__.
        c: the condition, b rows.
        on_step: called as on_step(k, state) after step k = 0, 1, ... from the data.

    Returns:
        x at the grid's first time, (b, *s), with the dtype of x0.

    Raises:
        ValueError: for a sampler that draws noise or runs in one direction only, and what Sampler.__call__ refuses.
        FloatingPointError: if the result is not finite.

    Source: arXiv 2010.02502, section 4.3, for any solver; arXiv 2211.01095, official code ("inverse").

    >>> from mezzotint.core import Gaussian, VP, uniform_lambda; from mezzotint.sample import DPMSolverPP
    >>> d, x = Gaussian(torch.zeros(2), std=0.5).denoiser(VP()), torch.ones(1, 2, dtype=torch.float64)
    >>> x_T = invert(DPMSolverPP(), d, x, steps=50, grid=uniform_lambda)
    >>> bool((DPMSolverPP()(d, x_T, steps=50, grid=uniform_lambda) - x).abs().max() < 1e-3)
    True
    """
    run = _Run.of(sampler, d, x0, steps, grid, c)
    up = list(reversed(run.nodes))
    x, k = run.x, 0
    if up[0].sigma == 0:
        x, up, k = _from_data(d, x, up[1], c), up[1:], 1
        _told(on_step, State(x, k))
    end = up[-1]
    last = end.alpha == 0
    up = up[:-1] if last else up
    if len(up) > 1:
        plan = sampler.plan(d.schedule, torch.tensor([node.t for node in up], dtype=torch.float64)).on(x, d.schedule)
        state = State(x)
        for j in range(plan.steps):
            state = sampler.step(d, state, j, plan, c)
            _told(on_step, State(state.x, k + j + 1, state.x0))
        x, k = state.x, k + plan.steps
    if last:
        m = _data(d, x, up[-1], c)
        x = combine((end.sigma / up[-1].sigma, x), (-end.sigma * up[-1].alpha / up[-1].sigma, m))
        _told(on_step, State(x, k + 1, m))
    if not math.isfinite(x.detach().sum()) and not bool(torch.isfinite(x).all()):
        raise FloatingPointError("inversion gave NaN or infinity; take more steps, or a sampler of lower order")
    return x.to(x0.dtype)


def fixed_point(
    sampler: Sampler,
    d: Denoiser,
    x0: Float[Tensor, "b *s"],
    *,
    steps: int | None = None,
    grid: Grid | Tensor | None = None,
    c: Condition | None = None,
    tol: float | None = None,
    iterations: int = 200,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b *s"]:
    """The noise that the sampler maps to x0 exactly: each step x' = F(x) is solved for x, from the last to the first.

        x <- x + (x' - F(x)) / g,   g = sigma'/sigma + alpha' (1 - e^-h) alpha / (alpha^2 + sigma^2),

    g being the slope of a step of first order for data of variance 1. As the slope of a denoiser lies between 0 and
    1/alpha where data is spread less than that, 0 < F'/g <= 1 there and the residual shrinks in every iteration, for
    any step length (with g = sigma'/sigma, plain DDIM inversion repeated, only steps h < log 2 do). Where it grows
    nevertheless, in a sample, half as much is added from then on. Samples are solved for themselves: one alone comes
    out as in a batch, bit for bit, if the denoiser does. Each iteration waits for the device, once. Gradients do not
    flow through it.

    Args:
        sampler: deterministic, each step from the state alone: DDIM, Euler, Heun, single-step solvers.
        d: the denoiser; the guidance may be as strong as in sampling, as long as the iteration converges.
        x0: data, (b, *s); or the state at the grid's last time.
        steps, grid: those of the sampling run.
        c: the condition, b rows.
        tol: greatest |x' - F(x)| that is taken for 0, > 0; None for 1e-12 in float64, else 1e-5.
        iterations: at most so many a step, >= 1.
        on_step: called as on_step(k, state) after step k = 0, 1, ... from the data.

    Returns:
        x at the grid's first time, (b, *s), with the dtype of x0.

    Raises:
        ValueError: for other values, a sampler that draws noise or uses earlier steps, what Sampler.__call__ refuses.
        RuntimeError: if a step does not converge; says which, and how far it came.

    Source: in the style of AIDI, arXiv 2309.04907 (DDIM inversion as a fixed point); g is our choice.

    >>> from mezzotint.core import Gaussian, VP; from mezzotint.sample import DDIM
    >>> d, x = Gaussian(torch.zeros(2), std=0.5).denoiser(VP()), torch.ones(1, 2, dtype=torch.float64)
    >>> bool((DDIM()(d, fixed_point(DDIM(), d, x, steps=5), steps=5) - x).abs().max() < 1e-10)
    True
    """
    if tol is not None and not 0 < tol < math.inf:
        raise ValueError(f"fixed_point got tol={tol}; expected a finite number > 0, as 1e-6")
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise ValueError(f"fixed_point got iterations={iterations!r}; expected a whole number >= 1")
    if isinstance(sampler, Multistep) and sampler.order > 1:
        raise ValueError(
            f"{type(sampler).__name__} of order {sampler.order} uses predictions of earlier steps, so no step can be "
            "solved by itself; take DDIM, Heun or a single-step solver, or invert"
        )
    run = _Run.of(sampler, d, x0, steps, grid, c)
    x = run.x
    limit = tol if tol is not None else (1e-12 if x.dtype == torch.float64 else 1e-5)
    with torch.no_grad():
        plan = sampler.plan(d.schedule, torch.tensor([node.t for node in run.nodes], dtype=torch.float64))
        plan = plan.on(x, d.schedule)
        for k in reversed(range(plan.steps)):
            x = _solved(sampler, d, x, k, plan, c, limit, iterations)
            _told(on_step, State(x, plan.steps - k))
    return x.to(x0.dtype)


def _solved(
    sampler: Sampler, d: Denoiser, target: Tensor, k: int, plan: Plan, c: Condition | None, limit: float, most: int
) -> Tensor:
    """x with F_k(x) = target."""
    s, t = plan.nodes[k], plan.nodes[k + 1]
    slope = t.sigma / s.sigma + t.alpha * psi0(t.lam - s.lam) * s.alpha / (s.alpha**2 + s.sigma**2)
    shape = (-1, *[1] * (target.ndim - 1))
    gain = torch.full((len(target),), 1 / slope, dtype=target.dtype, device=target.device)
    before = torch.full_like(gain, math.inf)
    # a first guess without noise: x' in the scale of s
    x = combine((s.alpha / t.alpha, target))
    worst = math.inf
    for _ in range(most):
        off = target - sampler.step(d, State(x, k), k, plan, c).x
        size = off.abs().flatten(1).amax(1) if off.ndim > 1 else off.abs()
        worst = float(size.max())
        if worst <= limit:
            return x
        if not math.isfinite(worst):
            break
        gain = torch.where(size > before, 0.5 * gain, gain)
        before = size
        x = torch.where((size <= limit).view(shape), x, x + gain.view(shape) * off)
    raise RuntimeError(
        f"fixed-point inversion did not converge between t = {t.t:.6g} and {s.t:.6g}: after {most} iterations the step "
        f"still misses its end by {worst:.3g}, more than tol={limit:.3g}. Take more steps, weaker guidance, a larger "
        "tol, or float64"
    )


@dataclass(frozen=True)
class _Run:
    """What both directions share: arguments that were checked."""

    x: Tensor
    nodes: tuple[Node, ...]

    @classmethod
    def of(
        cls,
        sampler: Sampler,
        d: Denoiser,
        x0: Tensor,
        steps: int | None,
        grid: Grid | Tensor | None,
        c: Condition | None,
    ) -> _Run:
        name = type(sampler).__name__
        if sampler.stochastic:
            raise ValueError(f"{name} draws noise in its steps, which cannot be undone; take a deterministic sampler")
        if type(sampler).trajectory is not Sampler.trajectory or type(sampler)._run is not Sampler._run:
            raise ValueError(f"{name} runs from noise to data only; invert with another, such as dpmpp-2m")
        if not hasattr(d, "schedule"):
            raise ValueError(f"inversion needs a Denoiser, which has a schedule; got {type(d).__name__}")
        _check_start(x0)
        if c is not None and len(c) and c.batch != len(x0):
            raise ValueError(f"the condition has {c.batch} rows but x0 has {len(x0)} samples; give one row a sample")
        nodes = nodes_of(d.schedule, resolve_grid(grid, d.schedule, steps))
        if len(nodes) == 2 and nodes[0].alpha == 0 and nodes[1].sigma == 0:
            raise ValueError("one step from alpha = 0 to sigma = 0 forgets all of x; take two steps or more")
        return cls(x0.to(torch.promote_types(x0.dtype, torch.float32)), nodes)


def _data(d: Denoiser, x: Tensor, node: Node, c: Condition | None) -> Tensor:
    return d(x, torch.full((len(x),), node.t, dtype=x.dtype, device=x.device), c).x0.to(x.dtype)


def _from_data(d: Denoiser, x0: Tensor, node: Node, c: Condition | None) -> Tensor:
    """alpha x0 + sigma eps with eps = (x - alpha D(x)) / sigma at x = alpha x0."""
    m = _data(d, node.alpha * x0, node, c)
    return combine((2 * node.alpha, x0), (-node.alpha, m))


def _told(on_step: OnStep | None, state: State) -> None:
    if on_step is not None:
        on_step(state.k - 1, state)
