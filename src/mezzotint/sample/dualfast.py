"""DualFast: the first-order term of a solver is moved away from an earlier, noisier estimate, at no evaluation more."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule
from mezzotint.core.grid import Grid
from mezzotint.sample.combine import combine
from mezzotint.sample.consistency import Consistency
from mezzotint.sample.heard import Heard, check_branch, moved, number_of, parts_of, regime_at, unthresholded
from mezzotint.sample.loop import Sampler, State
from mezzotint.sample.plan import Node, Plan
from mezzotint.sample.unipc import UniPC

__all__ = ["DualFast"]

_SHAPES = ("ramp", "constant", "clean")
# Guidance above this with c_max above the default raises contrast twice.
_STRONG_W, _STRONG_C = 4.0, 0.1


@dataclass(frozen=True)
class DualFast(Sampler):
    """x' = base(x) - c_k F_k (sigma_s/alpha_s) (eps_k - eps_tau): the base's first-order estimate is D_new, not D_k.

        eps_new = (1 + c_k) eps_k - c_k eps_tau,    D_new = D_k - c_k (sigma_s/alpha_s) (eps_k - eps_tau),

    eps_k from the first evaluation of step k, at its start s; eps_tau from an earlier, noisier node; F_k is
    `Sampler.first_order`. Solvers of data and of noise form get the same correction. Only that term changes: history,
    inner stages, correctors and noise see what the network said.

    What it is: with tau="prev" a multistep extrapolation (on DDIM with c = h/(2 h_prev) it is DPM-Solver-2M of the
    noise form), which goes away as steps grow: it acts on the solver's error alone. With tau="first" it does not:
    the limit solves another equation, with eps + c (eps - eps_first), which spreads the samples out. That helps a
    network that spreads them too little and harms one that does the opposite; a better score at few steps shows
    nothing about the network's error (see `error_split`, and compare with many steps of the base).

    In the style of arXiv 2506.13058: the update, its place and "c grows towards low noise" are the paper's; the
    schedule of c, its size and tau are our choices, as the paper's could not be had. Choose c with `calibrate_c`.

    Args:
        base: the solver: DDIM, DPMSolverPP, a single-step one (its inner stages stay raw), Heun without churn,
            ancestral and SDE samplers (their noise is unchanged).
        c_max: the largest c, in [0, 1]; None for 0.1 with tau="first", else 0.25. 0 is the base, bit for bit.
        tau: the reference: "first" evaluated node of the run, the one before ("prev"), or k nodes back (the first,
            where there are fewer).
        power: p > 0 of the ramp.
        shape: c_k / c_max: "ramp" is (k / (n - 1))^p, "constant" is 1, "clean" is 1 - sigma_s; or a callable
            (nodes, k) -> number >= 0. The first step has no reference and no correction.
        branch: "guided" corrects what guidance made; "condition" the conditional estimate under it (needs a denoiser
            guided by CFG).
        force: allows a consistency sampler as base, where the correction has no meaning.

    Thresholding that is the denoiser's outermost guide is applied after the correction. Where an interval of guidance
    begins or ends, the reference starts anew; so it does from a plain `State(x, k)`, as after adding noise.

    Raises:
        ValueError: c outside [0, 1], other wrong values, a base that cannot be corrected; from `plan`, a grid along
            which noise grows, or a base that changes the noise level before it evaluates (churn).

    Source: arXiv 2506.13058.

    >>> from mezzotint.core import Gaussian, VP; from mezzotint.sample import DDIM
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> DualFast(DDIM(), c_max=0.1)(d, torch.ones(1, 2), steps=4).shape
    torch.Size([1, 2])
    """

    base: Sampler
    c_max: float | None = None
    tau: Literal["first", "prev"] | int = "first"
    power: float = 1.0
    shape: Literal["ramp", "constant", "clean"] | Callable[[Sequence[Node], int], float] = "ramp"
    branch: Literal["guided", "condition"] = "guided"
    force: bool = False

    def __post_init__(self) -> None:
        _check_base(self.base, self.force)
        if self.tau not in ("first", "prev") and (
            isinstance(self.tau, bool) or not isinstance(self.tau, int) or self.tau < 1
        ):
            raise ValueError(f"DualFast got tau={self.tau!r}; expected 'first', 'prev' or a whole number >= 1")
        if self.c_max is None:
            object.__setattr__(self, "c_max", 0.1 if self.tau == "first" else 0.25)
        _check_c(self._c_max)
        if not 0 < self.power < math.inf:
            raise ValueError(f"DualFast got power={self.power}; expected a finite number > 0 (1 is a straight ramp)")
        if not callable(self.shape) and self.shape not in _SHAPES:
            raise ValueError(f"DualFast got shape={self.shape!r}; expected one of {_SHAPES} or a callable (nodes, k)")
        if self.branch not in ("guided", "condition"):
            raise ValueError(f"DualFast got branch={self.branch!r}; expected 'guided' or 'condition'")

    @property
    def _c_max(self) -> float:
        assert self.c_max is not None  # set above
        return self.c_max

    @property
    def _corrected(self) -> bool:
        return isinstance(self.base, UniPC) and self.base.corrector

    @property
    def order(self) -> int:  # type: ignore[override]  # the base's and tau's, not the class's
        """The base's where c = 0; else 1, or 0 with tau="first", which does not tend to the base's solution."""
        if self._c_max == 0:
            return self.base.order
        return 0 if self.tau == "first" else min(self.base.order, 1)

    @property
    def stochastic(self) -> bool:
        """As the base."""
        return self.base.stochastic

    def nfe(self, steps: int) -> int:
        """As the base."""
        return self.base.nfe(steps)

    def first_order(self, nodes: Sequence[Node], k: int) -> float:
        """See Sampler.first_order."""
        return self.base.first_order(nodes, k)

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan; the base's plan inside, and columns alpha and sigma of the start, F_k and c_k."""
        base = self.base.plan(schedule, grid)
        for k, (s, t) in enumerate(pairwise(base.nodes)):
            if not t.ratio < s.ratio:
                raise ValueError(
                    f"the reference step must be noisier, but noise grows from t = {s.t:.6g} to {t.t:.6g} (step {k}); "
                    "DualFast goes from noise to data only: invert, or restart, with the base"
                )
            if base.calls[k][0] != s.t:
                raise ValueError(
                    f"{type(self.base).__name__} evaluates step {k} at t = {base.calls[k][0]:.6g}, not at its start "
                    f"t = {s.t:.6g}: after added noise an earlier estimate is no reference. Use it without churn"
                )
        rows = tuple(
            (s.alpha, s.sigma, self.base.first_order(base.nodes, k), self._c(base.nodes, k))
            for k, s in enumerate(base.nodes[:-1])
        )
        return _DualPlan(base.nodes, ("alpha", "sigma", "first_order", "c"), rows, base.calls, base=base)

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
        """See Sampler.trajectory; warns where strong guidance and a large c both raise contrast."""
        weights = [w for part in parts_of(d) for w in (number_of(part, "w"),) if w is not None]
        if self.branch == "condition":
            check_branch(unthresholded(d)[0])
        if self._c_max > _STRONG_C and max(weights, default=0.0) > _STRONG_W:
            warnings.warn(
                f"guidance w={max(weights):g} and c_max={self.c_max:g} both raise contrast; lower one, or in pixel "
                "space threshold: DynamicThreshold()(CFG(w)(denoiser))",
                stacklevel=3,
            )
        return super().trajectory(d, x_T, steps=steps, grid=grid, c=c, noise=noise)

    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step."""
        assert isinstance(plan, _DualPlan)
        inner, threshold = unthresholded(d)
        heard = Heard(inner, self.branch)
        before, earlier = (state.inner, state) if isinstance(state, _DualState) else (state, None)
        after = self.base.step(
            threshold(heard) if threshold else heard, replace(before, x=state.x), k, plan.base, c, noise
        )
        regime = regime_at(inner, plan.calls[k][0])
        raw = earlier.raw if earlier is not None and earlier.regime == regime else ()
        alpha, sigma, first_order, mix = plan.rows[k]
        said = heard.first
        assert said is not None
        part = torch.sub(state.x, said.to(state.x.dtype), alpha=alpha)  # sigma eps
        x, shift = after.x, None
        if earlier is not None and earlier.shift is not None:
            # a corrector takes the step before again, from raw values
            x = torch.sub(x, earlier.shift, alpha=plan.nodes[k + 1].sigma / sigma)
        if raw and mix and first_order:
            since, reference = raw[-1]
            drift = -mix * heard.gain / alpha
            terms = (drift, part), (-drift * sigma / plan.rows[since][1], reference)
            if threshold is None and not self._corrected:
                (now, own), (then, other) = terms
                x = torch.add(x, own, alpha=first_order * now).add_(other, alpha=first_order * then)
            else:
                by = combine(*terms)
                shift = first_order * (by if threshold is None else moved(heard.prediction, by, threshold))
                x = x + shift
        seen = (k, part)
        kept = (raw or (seen,)) if self.tau == "first" else (seen, *raw)[: 1 if self.tau == "prev" else self.tau]
        return _DualState(x, k + 1, after.x0, after.history, after, kept, regime, shift if self._corrected else None)

    def _c(self, nodes: Sequence[Node], k: int) -> float:
        last = len(nodes) - 2
        if callable(self.shape):
            share = float(self.shape(nodes, k))
        elif self.shape == "ramp":
            share = (k / last) ** self.power if last else 0.0
        else:
            share = 1.0 if self.shape == "constant" else max(1 - nodes[k].sigma, 0.0)
        return _check_c(self._c_max * share) if k else 0.0


@dataclass(frozen=True)
class _DualPlan(Plan):
    base: Plan = field(kw_only=True)

    def on(self, x: Tensor, schedule: Schedule | None = None) -> Plan:
        """See Plan.on."""
        return replace(self, base=self.base.on(x, schedule))


@dataclass(frozen=True)
class _DualState(State):
    """The base's state, and what may become references, newest first, the last is eps_tau: (step, sigma eps), raw."""

    inner: State = field(default_factory=lambda: State(torch.zeros(0)))
    raw: tuple[tuple[int, Tensor], ...] = ()
    regime: tuple[bool, ...] = ()
    shift: Tensor | None = None  # what was added to x, where a corrector will take it back


def _check_c(c: float) -> float:
    if not 0 <= c <= 1:
        raise ValueError(f"DualFast: mixing coefficient outside [0, 1]: c = {c}; typical 0.05 to 0.3")
    return c


def _check_base(base: Sampler, force: bool) -> None:
    if isinstance(base, Consistency) and not force:
        raise ValueError(
            "the estimates of a consistency model are ends of paths, not posterior means: DualFast has no meaning for "
            "them. Use the sampler as it is (or force=True, to look)"
        )
    if isinstance(base, DualFast):
        raise ValueError("DualFast around DualFast would correct the same term twice; give it the solver itself")
    if type(base).trajectory is not Sampler.trajectory or type(base)._run is not Sampler._run:
        raise ValueError(
            f"{type(base).__name__} prepares or drives its runs itself, so its steps cannot be corrected from outside; "
            "take another solver, such as DPMSolverPP() or UniPC()"
        )
