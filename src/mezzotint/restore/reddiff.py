"""RED-diff: an image that explains the measurement, drawn by Adam to where the denoiser leaves it alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, Schedule, resolve_grid
from mezzotint.core.grid import Grid
from mezzotint.restore.fit import check_fit, first_image, misfit_gradient
from mezzotint.restore.operators import Operator
from mezzotint.restore.problem import Problem
from mezzotint.restore.red_weight import REDWeight, red_weight
from mezzotint.restore.restorer import Restorer
from mezzotint.sample.loop import OnStep, Sampler, State
from mezzotint.sample.plan import Node, Plan, nodes_of

__all__ = ["REDDiff", "REDDiffParallel", "REDDiffPrior"]

_STEPS = 100
_BETAS, _EPS = (0.9, 0.99), 1e-8  # Adam's; the second one is not torch's default


@dataclass(frozen=True)
class REDDiff(Restorer):
    """Minimise |y - A(x0)|^2 / (2 m) + w_t <stopgrad(eps_hat(x_t) - eps), x0> / n over mu, one step of Adam a time t.

    x0 = mu + sigma_x0 xi, x_t = alpha_t x0 + sigma_t eps, w_t = lam weight(sigma_t / alpha_t). Starts at mu = guess(y)
    without noise (regularised where y is noisy: `first_image`), and goes through the grid's times but the last, where
    there is no noise. One network call a step and no gradient through it; of the operator only a gradient is asked (the
    adjoint where it is linear). The result is a point estimate: several seeds are restarts, and how far they lie apart
    is noise of the optimisation, which grows with lr and knows nothing of the posterior (`spread` is False).

    What is particular:
    - the means are over the m measurements and the n pixels of a row, so that the balance is lam m / n, another one for
      4x super-resolution than for a mask that keeps the size; reduction="sum" has no denominators. (The official
      code's means include the batch, which under Adam changes next to nothing; here rows stay apart.)
    - the weight reaches 157 at the noisiest level of linear betas, and infinity at alpha = 0 (Flow, Cosine). With
      inverse SNR the gradient is lam (x0 - D(x_t)) / n, finite there, and this form is what is computed. A weight that
      grows faster ("square") starts half a step below t = 1 instead: our choice.
    - mu after the last step is returned; the official code returns the one before: our choice.
    - nothing is clipped: mu may leave [-1, 1], clamp the result where that matters.
    - the noise level of y is not used but for the start; the noisier y is the larger lam should be.

    Args:
        lr: rate of Adam, > 0 (0.1; the official scripts take 0.25 for inpainting, 0.5 for nonlinear operators).
        lam: weight of the regulariser, >= 0 (0.25; scripts take 0.5 to 1 for noisy inpainting).
        weight: name or REDWeight: inv_snr, sqrt, square, two_thirds, log, clip, const.
        order: of the times: descending; or, as the paper compares, ascending, random (the grid's times shuffled once,
            alike for all rows).
        reduction: "mean" or "sum".
        obs_weight: v, >= 0, a factor of the first term.
        sigma_x0: >= 0, the width of the Gaussian around mu, not learned.

    Raises:
        ValueError: for values outside these ranges; when called, as Restorer, and for a measurement whose shape or
            range is not the operator's.

    Source: arXiv 2305.04391, section 4, algorithm 1 (with 1000 steps; 100 here where none are given).

    >>> from mezzotint.core import VP, Gaussian
    >>> from mezzotint.restore.operators import LinearOperator
    >>> class Same(LinearOperator):
    ...     forward = adjoint = lambda self, x: x
    >>> d = Gaussian(torch.zeros(2), std=1.0).denoiser(VP())
    >>> REDDiff(lam=0.0)(d, Same(), torch.ones(1, 2), Noise([0]), steps=3).tolist()
    [[1.0, 1.0]]
    """

    lr: float = 0.1
    lam: float = 0.25
    weight: REDWeight | str = "inv_snr"
    order: Literal["descending", "ascending", "random"] = "descending"
    reduction: Literal["mean", "sum"] = "mean"
    obs_weight: float = 1.0
    sigma_x0: float = 0.0

    at_once: ClassVar[int] = 1  # times of an update

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf:
            raise ValueError(f"{self._name} got lr={self.lr}; expected a rate > 0, as 0.1 (images lie in [-1, 1])")
        for name in ("lam", "obs_weight", "sigma_x0"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{self._name} got {name}={getattr(self, name)}; expected a finite number >= 0")
        for name, known in (("order", ("descending", "ascending", "random")), ("reduction", ("mean", "sum"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{self._name} got {name}={getattr(self, name)!r}; choose one of {', '.join(known)}")
        red_weight(self.weight)

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def spread(self) -> bool:
        """False: restarts of an optimisation, no samples."""
        return False

    def start(self, problem: Problem, noise: Noise) -> Float[Tensor, "b *s"]:
        """mu before the first step."""
        return first_image(problem)

    def __call__(
        self,
        d: Denoiser,
        operator: Operator,
        y: Float[Tensor, "_ *m"],
        noise: Noise,
        *,
        std: float = 0.0,
        steps: int | None = None,
        grid: Grid | Tensor | None = None,
        c: Condition | None = None,
        on_step: OnStep | None = None,
    ) -> Float[Tensor, "b *s"]:
        """See Restorer; the previews are mu."""
        problem = Problem.of(operator, y, noise, std)
        check_fit(problem)
        times = resolve_grid(grid, d.schedule, _STEPS if steps is None and not isinstance(grid, Tensor) else steps)
        descent = _Descent(self, problem)
        return descent(d, self.start(problem, noise), grid=times, c=c, noise=noise, on_step=on_step).to(y.dtype)


@dataclass(frozen=True)
class REDDiffParallel(REDDiff):
    """RED-diff with several times an update, whose regularisers are averaged: fewer updates of less noise.

    The times of an update lie a share of the grid apart and go down together; `steps` counts network calls, as ever,
    so that there are steps / at_once updates. Which times go together is our choice.

    Args:
        at_once: times of an update, >= 1.

    Source: the parallel variant of the official code of arXiv 2305.04391.
    """

    at_once: int = 4  # type: ignore[misc]

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.at_once, bool) or not isinstance(self.at_once, int) or self.at_once < 1:
            raise ValueError(f"{self._name} got at_once={self.at_once!r}; expected a whole number >= 1")


@dataclass(frozen=True)
class REDDiffPrior(REDDiff):
    """RED-diff's regulariser alone, from noise, without the measurement: shows what the prior term does (as SDS).

    Source: the variant of the official code of arXiv 2305.04391 with observation weight 0; arXiv 2209.14988.
    """

    obs_weight: float = 0.0

    def start(self, problem: Problem, noise: Noise) -> Float[Tensor, "b *s"]:
        """Standard normal noise."""
        like = problem.guess
        return noise("x_T", 0, tuple(like.shape[1:]), dtype=like.dtype, device=like.device)


@dataclass(frozen=True)
class _Descent(Sampler):
    """The optimisation as steps of the loop: x is mu, and the history Adam's two moments."""

    of: REDDiff
    problem: Problem
    order = 1

    @property
    def stochastic(self) -> bool:
        """True: eps."""
        return True

    def plan(self, schedule: Schedule, grid: Float[Tensor, " n"]) -> Plan:
        """See Sampler.plan; alpha, sigma and the regulariser's pull at each of an update's times."""
        weight, nodes = red_weight(self.of.weight), list(nodes_of(schedule, grid))
        if math.isinf(weight.pull(nodes[0].ratio)):
            nodes[0] = nodes_of(schedule, grid[:2].mean(0, keepdim=True))[0]
        groups = [[nodes[i] for i in group] for group in self._groups(len(nodes) - 1)]

        def row(group: list[Node]) -> tuple[float, ...]:
            return tuple(q for n in group for q in (n.alpha, n.sigma, weight.pull(n.ratio) / len(group)))

        calls = tuple(tuple(n.t for n in group) for group in groups)
        return Plan(tuple(nodes), ("alpha", "sigma", "pull"), tuple(map(row, groups)), calls)

    def _groups(self, count: int) -> list[list[int]]:
        """Which nodes each update looks at, in order."""
        updates = math.ceil(count / self.of.at_once)
        groups = [list(range(u, count, updates)) for u in range(updates)]
        if self.of.order == "ascending":
            groups.reverse()
        if self.of.order == "random":
            place = Noise([0]).uniform("order", 0, (updates,), dtype=torch.float64)[0].argsort().tolist()
            groups = [groups[u] for u in place]
        return groups

    @torch.no_grad()
    def step(
        self, d: Denoiser, state: State, k: int, plan: Plan, c: Condition | None = None, noise: Noise | None = None
    ) -> State:
        """See Sampler.step: the gradient of the loss at mu, and Adam."""
        assert noise is not None
        mu, of = state.x, self.of

        def draw(purpose: str, number: int) -> Tensor:
            return noise(purpose, number, tuple(mu.shape[1:]), dtype=mu.dtype, device=mu.device)

        x0 = mu + of.sigma_x0 * draw("x0", k) if of.sigma_x0 else mu
        pulled = torch.zeros_like(mu)
        row = plan.rows[k]
        for j in range(len(row) // 3):
            alpha, sigma, pull = row[3 * j : 3 * j + 3]
            x_t = alpha * x0 + sigma * draw("eps", k * of.at_once + j)
            pulled.add_(x0 - self.predict(d, x_t, k, plan, c, j), alpha=of.lam * pull)
        if of.reduction == "mean":
            pulled /= mu[0].numel()
        if of.obs_weight:
            share = 1 / self.problem.y[0].numel() if of.reduction == "mean" else 1.0
            pulled.add_(misfit_gradient(self.problem, x0), alpha=of.obs_weight * share)
        mean, square = state.history or (torch.zeros_like(mu), torch.zeros_like(mu))
        mean = torch.lerp(pulled, mean, _BETAS[0])
        square = torch.lerp(pulled.square(), square, _BETAS[1])
        rise, width = (1 - beta ** (k + 1) for beta in _BETAS)
        mu = mu - of.lr / rise * mean / ((square / width).sqrt() + _EPS)
        return State(mu, k + 1, mu, (mean, square))
