"""What of a sampler's error is the solver's and what the network's, step by step and over the whole way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, resolve_grid
from mezzotint.core.exact import ExactDenoiser, probability_flow
from mezzotint.core.grid import Grid
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.dpmpp import DPMSolverPP
from mezzotint.sample.loop import Sampler
from mezzotint.sample.plan import Node, nodes_of

__all__ = ["ErrorSplit", "Part", "error_split", "sliced_w2"]


@dataclass(frozen=True)
class Part:
    """The errors of one transport, from node `start` to node `end`; root mean squares an element.

    Args:
        start, end: nodes.
        discretization: RMS of (the sampler's result - the fine solution) of the same network from the same start.
        approximation: sliced W2 of the fine solution's law and the true law at `end`; never below its floor in
            expectation.
        floor: the same between two draws of the true law: what sampling alone gives.
        network: RMS of eps_hat - eps_ref at the start's noisy data; None without a reference.
        transport: RMS of (the fine solution - the reference's), from the same start; None without a reference.
    """

    start: Node
    end: Node
    discretization: float
    approximation: float
    floor: float
    network: float | None = None
    transport: float | None = None

    @property
    def excess(self) -> float:
        """sqrt(max(approximation^2 - floor^2, 0)): the approximation error that sampling does not explain."""
        return math.sqrt(max(self.approximation**2 - self.floor**2, 0.0))


@dataclass(frozen=True)
class ErrorSplit:
    """The errors of a sampler at one number of steps: of each step alone, and of the whole way. Printed, a table."""

    steps: tuple[Part, ...]
    whole: Part

    def __str__(self) -> str:
        lines = ["    sigma  discretization  approximation  (floor)    network  transport"]
        for name, part in [*((f"{p.start.sigma:9.3g}", p) for p in self.steps), ("    whole", self.whole)]:
            known = ("        -" if v is None else f"{v:9.3g}" for v in (part.network, part.transport))
            errors = f"{part.discretization:14.3g}  {part.approximation:13.3g}  ({part.floor:.3g})"
            lines.append(f"{name}  {errors}  {'  '.join(known)}")
        return "\n".join(lines)


def error_split(
    denoiser: Denoiser,
    data: Float[Tensor, "b *s"],
    steps: Sequence[int],
    *,
    sampler: Sampler | None = None,
    grid: Grid | None = None,
    fine: int = 200,
    fine_whole: int = 1000,
    reference: Denoiser | None = None,
    c: Condition | None = None,
    seed: int = 0,
    projections: int = 64,
) -> tuple[ErrorSplit, ...]:
    """The three ways from a node to the next: by the true law, by the network's ODE, by one step of the sampler.

        x_i = alpha_i x0 + sigma_i n  for the first half of the data
        total:  one step of the sampler from x_i           discretization = RMS(total - approx)
        approx: the network's ODE from x_i, in `fine` steps
        exact:  alpha x0 + sigma n' for the other half      approximation = W2(law of approx, law of exact)

    and the same from the first node to the last, with `fine_whole` steps of the ODE. The floor of the approximation is
    W2 between the exact law on the first half and on the other. Approximation error says how far the law of this
    network's samples is from the data's however many steps are taken; no solver reduces it. A step alone is first
    order for a multistep sampler, which has no history there; the whole way is the sampler as it is used.

    Args:
        denoiser: the network, guided or not.
        data: clean, b >= 4; a few hundred at the least for figures above the floor.
        steps: numbers of steps, one ErrorSplit each.
        sampler: deterministic; default DDIM().
        grid: default uniform in t, from 1 to 0.
        fine, fine_whole: steps of DPM-Solver++ 2M that stand for the network's own ODE, uniform in t.
        reference: a denoiser nearer to the truth (exact, or a larger network) under the same schedule, for `network`
            and `transport`; where it is exact and its flow is known, no solver is used for it.
        c: the condition, b rows.
        seed: of the noise and of the projections.
        projections: directions of the sliced distance (in one dimension it is exact).

    Raises:
        ValueError: too little data, a stochastic sampler, no steps, another schedule of the reference.

    Source: arXiv 2506.13058 (idea); the distances, halves and floor are our choice.

    >>> from mezzotint.core import Gaussian, VP
    >>> known = Gaussian(torch.zeros(1), std=1.0)
    >>> split, = error_split(known.denoiser(VP()), known.sample(Noise(range(64))), [3], fine=4, fine_whole=16)
    >>> len(split.steps), split.whole.end.t
    (3, 0.0)
    """
    solver = DDIM() if sampler is None else sampler
    if len(data) < 4:
        raise ValueError(f"error_split got {len(data)} samples of data; it needs 4 at least, and hundreds to say much")
    if solver.stochastic:
        raise ValueError(
            f"error_split compares sample by sample, but {type(solver).__name__} draws noise; use an ODE's"
        )
    if not steps:
        raise ValueError("error_split got no number of steps; for example [5, 10, 20]")
    if reference is not None and reference.schedule != denoiser.schedule:
        raise ValueError(f"the reference's schedule {reference.schedule} is not the network's {denoiser.schedule}")
    half = len(data) // 2
    rows = None if c is None else c.rows(slice(0, half))
    work = _Experiment(denoiser, solver, data[:half], data[half : 2 * half], reference, rows, seed, projections)
    with torch.no_grad():
        return tuple(work.split(resolve_grid(grid, denoiser.schedule, n), fine, fine_whole) for n in steps)


def sliced_w2(a: Float[Tensor, "n *s"], b: Float[Tensor, "n *s"], projections: int = 64, seed: int = 0) -> float:
    """sqrt(mean over unit directions u of W2(u.a, u.b)^2): the distance of two samples of equal size, float64.

    For equal covariances it is about the distance of the means over sqrt(dimension): root mean square an element.

    Args:
        a, b: one sample a row, as many in both.
        projections: directions, >= 1; one dimension needs none.
        seed: of the directions.

    Raises:
        ValueError: for samples of different shape.

    >>> round(sliced_w2(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [1.0]])), 9)
    1.0
    """
    if a.shape != b.shape:
        raise ValueError(f"sliced_w2 compares samples of equal shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    flat = [x.detach().to("cpu", torch.float64).flatten(1) for x in (a, b)]
    size = flat[0].shape[1]
    if size > 1:
        u = Noise([seed])("projections", 0, (size, projections), dtype=torch.float64)[0]
        flat = [x @ (u / u.norm(dim=0)) for x in flat]
    near, far = (x.sort(dim=0).values for x in flat)
    return float((near - far).square().mean().sqrt())


@dataclass(frozen=True)
class _Experiment:
    denoiser: Denoiser
    sampler: Sampler
    near: Tensor  # data that is noised and carried
    far: Tensor  # data that it is compared with
    reference: Denoiser | None
    c: Condition | None
    seed: int
    projections: int
    solved: dict[str, Tensor] = field(default_factory=dict)  # fine solutions that serve again

    def split(self, times: Tensor, fine: int, fine_whole: int) -> ErrorSplit:
        nodes = nodes_of(self.denoiser.schedule, times)
        steps = [self._part(f"{s.t} {t.t}", s, t, times[k : k + 2], fine) for k, (s, t) in enumerate(pairwise(nodes))]
        return ErrorSplit(tuple(steps), self._part("whole", nodes[0], nodes[-1], times, fine_whole))

    def _part(self, key: str, s: Node, t: Node, times: Tensor, fine: int) -> Part:
        start = self._noised(self.near, s, f"start {key}")
        between = torch.linspace(s.t, t.t, fine + 1, dtype=torch.float64)
        key = f"{key} {s.t} {t.t}"
        if key not in self.solved:
            self.solved[key] = DPMSolverPP(order=2)(self.denoiser, start, grid=between, c=self.c)
        approx = self.solved[key]
        total = self.sampler(self.denoiser, start, grid=times, c=self.c)
        true = self._noised(self.far, t, f"far {key}")
        apart = sliced_w2(approx, true, self.projections)
        floor = sliced_w2(self._noised(self.near, t, f"near {key}"), true, self.projections)
        network = transport = None
        if self.reference is not None:
            at = torch.full((len(start),), s.t, dtype=start.dtype, device=start.device)
            eps = [d(start, at, self.c).eps for d in (self.denoiser, self.reference)]
            network, transport = _rms(eps[0] - eps[1]), _rms(approx - self._true(start, s, t, between))
        return Part(s, t, _rms(total - approx), apart, floor, network, transport)

    def _noised(self, x0: Tensor, node: Node, purpose: str) -> Tensor:
        z = Noise([self.seed])(purpose, 0, x0.shape, dtype=x0.dtype, device=x0.device)[0]
        return node.alpha * x0 + node.sigma * z

    def _true(self, x: Tensor, s: Node, t: Node, between: Tensor) -> Tensor:
        d = self.reference
        assert d is not None
        if isinstance(d, ExactDenoiser) and self.c is None:
            try:
                return probability_flow(d.distribution, d.schedule, x, s.t, t.t).to(x.dtype)
            except ValueError:  # no closed form
                pass
        return DPMSolverPP(order=2)(d, x, grid=between, c=self.c)


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())
