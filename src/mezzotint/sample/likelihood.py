"""The log-likelihood of data under the probability flow of a model: the instantaneous change of variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, resolve_grid, uniform_lambda
from mezzotint.core.grid import Grid
from mezzotint.core.known import mark_time
from mezzotint.sample.loop import _check_informed, _check_start
from mezzotint.sample.plan import Node, nodes_of

__all__ = ["Likelihood", "log_likelihood"]

_MOST_EXACT = 1024  # coordinates whose divergence is taken one by one
Prior = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Likelihood:
    """What a model says of data.

    Args:
        nats: log p(x), one number a sample; of the data as given, in its own units.
        latent: the state at the grid's first time that flows into the data, (b, *s).
    """

    nats: Float[Tensor, " b"]
    latent: Float[Tensor, "b *s"]

    def bits(self, levels: int | None = None) -> Float[Tensor, " b"]:
        """-log2 p(x) a coordinate: bits per dimension.

        Args:
            levels: None for the density itself. For numbers in [-1, 1] that stand for so many bins of equal width
                (256 for 8-bit images, with noise uniform in a bin added), the bits of the bin: log2(levels / 2) more.

        Raises:
            ValueError: for fewer than 2 levels.
        """
        if levels is not None and (isinstance(levels, bool) or not isinstance(levels, int) or levels < 2):
            raise ValueError(
                f"bits got levels={levels!r}; expected a whole number >= 2 (256 for 8-bit images), or None"
            )
        bits = -self.nats / (math.prod(self.latent.shape[1:]) * math.log(2))
        return bits if levels is None else bits + math.log2(levels / 2)


def log_likelihood(
    d: Denoiser,
    x: Float[Tensor, "b *s"],
    *,
    steps: int | None = None,
    grid: Grid | Tensor | None = None,
    c: Condition | None = None,
    probes: int | None = None,
    noise: Noise | None = None,
    prior: Prior | None = None,
) -> Likelihood:
    """log p(x) = log p_1(x_1) + int div f dtau along the probability flow du/dtau = f(u), from data to noise.

    u = x / (alpha + sigma) and tau = sigma / (alpha + sigma), from 0 (data) to 1 at alpha = 0, on every schedule:
        f = (u - D) / tau,    div f = (n - (alpha + sigma) tr dD/dx) / tau,    n coordinates;
        log p(x) = log p_1(x_1) + n log((alpha_1 + sigma_1) / (alpha_0 + sigma_0)) + int div f dtau.
    State and integral advance together by the classical Runge-Kutta method of order 4 in tau, four evaluations a step.
    At sigma = 0 both have limits where the density is smooth, f = -u and div f = -n; the step from there is
    Heun's and takes one evaluation, at its end, so that the network sees no level below those of the grid.

    The trace is exact, with n backward passes an evaluation, or estimated: the mean over probes v with entries +-1 of
    v . (dD/dx) v (Hutchinson), which is unbiased, one backward pass a probe, the same probes at every evaluation.

    Args:
        d: the denoiser; guided, it has a flow too, whose density is not that of any training data.
        x: data, (b, *s); if the grid stops above 0, the state at its last time.
        steps: >= 1; may be left out when grid is a tensor. 50 give four digits on smooth densities.
        grid: times from noise to data, as for samplers; uniform in lambda if None.
        c: the condition, b rows.
        probes: None for the exact trace, at most 1024 coordinates; else so many probes, >= 1.
        noise: the probes' seeds, one a sample; needed with probes.
        prior: log density at the grid's first time, (b, *s) -> (b,); N(0, sigma^2) if None, from which samplers start,
            and which differs from the data's own by what alpha is left there (0.007 at VP's t = 1).

    Raises:
        ValueError: for wrong arguments, before any network call.
        FloatingPointError: if the result is not finite.

    Gradients flow, to x, condition and parameters. Waits for the device once, at the end.

    Source: arXiv 2011.13456, section 4.3 and appendix D.2; arXiv 1810.01367 (one probe a solution).

    >>> from mezzotint.core import Gaussian, Flow
    >>> g = Gaussian(torch.zeros(2), std=0.5)
    >>> x = torch.tensor([[0.3, -0.1]], dtype=torch.float64)
    >>> bool((log_likelihood(g.denoiser(Flow()), x, steps=50).nats - g.log_prob(x)).abs() < 1e-4)
    True
    """
    if not hasattr(d, "schedule"):
        raise ValueError(f"the likelihood needs a Denoiser, which has a schedule; got {type(d).__name__}")
    _check_start(x)
    times = resolve_grid(grid, d.schedule, steps, default=uniform_lambda)
    _check_informed(d, times)
    if c is not None and len(c) and c.batch != len(x):
        raise ValueError(f"the condition has {c.batch} rows but x has {len(x)} samples; give one row a sample")
    state = x.to(torch.promote_types(x.dtype, torch.float32))
    flow = _Flow(d, c, _probes(state, probes, noise), _differentiable(d, state, c))
    nodes = nodes_of(d.schedule, times.flip(0))
    first, last = nodes[0], nodes[-1]
    u, gained = state / (first.alpha + first.sigma), torch.zeros(len(x), dtype=state.dtype, device=state.device)
    for s, t in pairwise(nodes):
        step = _heun if s.sigma == 0 else _runge_kutta
        u, gained = step(flow, s, t, u, gained)
    latent = u * (last.alpha + last.sigma)
    size = math.prod(x.shape[1:])
    scale = size * math.log((last.alpha + last.sigma) / (first.alpha + first.sigma))
    at_first = _normal(latent, last.sigma) if prior is None else prior(latent).to(gained.dtype)
    nats = at_first + scale + gained
    if not bool(torch.isfinite(nats).all()):
        raise FloatingPointError(
            f"the log-likelihood came out as {nats.tolist()[:8]}; check the network's output near t = 0, where it is "
            "most sensitive, or end the grid above 0"
        )
    return Likelihood(nats, latent.to(x.dtype))


class _Flow:
    """The velocity of the flow and its divergence."""

    def __init__(self, d: Denoiser, c: Condition | None, probes: list[Tensor] | None, keep: bool) -> None:
        self.d, self.c, self.probes, self.keep = d, c, probes, keep

    def __call__(self, node: Node, u: Tensor) -> tuple[Tensor, Tensor]:
        size = math.prod(u.shape[1:])
        if node.sigma == 0:
            return -u, u.new_full((len(u),), -float(size))
        scale = node.alpha + node.sigma
        m, trace = self._data(node, u * scale)
        tau = node.sigma / scale
        return (u - m) / tau, (size - scale * trace) / tau

    def _data(self, node: Node, x: Tensor) -> tuple[Tensor, Tensor]:
        """The data prediction at x, and the trace of its Jacobian."""
        time = torch.tensor(node.t, dtype=x.dtype, device=x.device).expand(len(x))
        time = mark_time(time, node.t, (self.d.schedule, node.alpha, node.sigma))
        with torch.enable_grad():
            x = x if self.keep and x.requires_grad else x.detach().requires_grad_()
            m = self.d(x, time, self.c).x0.to(x.dtype)
            if m.shape != x.shape:
                raise ValueError(f"the denoiser predicts data of shape {tuple(m.shape)} for x of {tuple(x.shape)}")
            trace = self._trace(m, x)
        return (m, trace) if self.keep else (m.detach(), trace)

    def _trace(self, m: Tensor, x: Tensor) -> Tensor:
        if not m.requires_grad:  # a prediction that does not depend on x
            return x.new_zeros(len(x))
        vectors = list(self._basis(x)) if self.probes is None else self.probes
        total = x.new_zeros(len(x))
        for i, v in enumerate(vectors):
            more = self.keep or i + 1 < len(vectors)
            (slope,) = torch.autograd.grad(
                m, x, v, create_graph=self.keep, retain_graph=more, allow_unused=True, materialize_grads=True
            )
            total = total + _row_sums(slope * v)
        return total if self.probes is None else total / len(vectors)

    @staticmethod
    def _basis(x: Tensor) -> Iterator[Tensor]:
        for i in range(math.prod(x.shape[1:])):
            one = torch.zeros_like(x)
            one.view(len(x), -1)[:, i] = 1.0
            yield one


def _runge_kutta(flow: _Flow, s: Node, t: Node, u: Tensor, gained: Tensor) -> tuple[Tensor, Tensor]:
    """A step of Kutta's method of order 4 in tau."""
    start, end = (node.sigma / (node.alpha + node.sigma) for node in (s, t))
    h, tau = end - start, 0.5 * (start + end)
    lam = torch.tensor([math.log1p(-tau) - math.log(tau)], dtype=torch.float64)
    (middle,) = nodes_of(flow.d.schedule, flow.d.schedule.t_of(lam))
    k1, g1 = flow(s, u)
    k2, g2 = flow(middle, u + 0.5 * h * k1)
    k3, g3 = flow(middle, u + 0.5 * h * k2)
    k4, g4 = flow(t, u + h * k3)
    return u + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), gained + h / 6 * (g1 + 2 * g2 + 2 * g3 + g4)


def _heun(flow: _Flow, s: Node, t: Node, u: Tensor, gained: Tensor) -> tuple[Tensor, Tensor]:
    """A step of the trapezoidal rule from sigma = 0."""
    h = t.sigma / (t.alpha + t.sigma)
    k1, g1 = flow(s, u)
    k2, g2 = flow(t, u + h * k1)
    return u + 0.5 * h * (k1 + k2), gained + 0.5 * h * (g1 + g2)


def _probes(x: Tensor, probes: int | None, noise: Noise | None) -> list[Tensor] | None:
    size = math.prod(x.shape[1:])
    if probes is None:
        if size > _MOST_EXACT:
            raise ValueError(
                f"the exact trace of {size} coordinates takes as many backward passes an evaluation; estimate it: "
                "probes=8, noise=Noise(seeds)"
            )
        return None
    if isinstance(probes, bool) or not isinstance(probes, int) or probes < 1:
        raise ValueError(f"log_likelihood got probes={probes!r}; expected a whole number >= 1, or None")
    if noise is None or len(noise) != len(x):
        given = "no noise" if noise is None else f"{len(noise)} seeds"
        raise ValueError(f"probes are drawn with one seed a sample: noise=Noise(seeds) with {len(x)}; got {given}")
    half = (noise.uniform("probe", j, x.shape[1:], dtype=torch.float64) < 0.5 for j in range(probes))
    return [(1.0 - 2.0 * below).to(x.device, x.dtype) for below in half]


def _differentiable(d: Denoiser, x: Tensor, c: Condition | None) -> bool:
    """Whether anything that gradients could flow to wants them."""
    if not torch.is_grad_enabled():
        return False
    inside = [x, *d.parameters(), *(c.values() if c is not None else ())]
    return any(value.requires_grad for value in inside)


def _normal(x: Tensor, sigma: float) -> Tensor:
    """log N(x; 0, sigma^2)."""
    size = math.prod(x.shape[1:])
    return -0.5 * _row_sums((x / sigma) ** 2) - size * (math.log(sigma) + 0.5 * math.log(2 * math.pi))


def _row_sums(x: Tensor) -> Tensor:
    # one row at a time: a sum over a batch could add in an order that depends on its size
    return torch.stack([row.sum() for row in x])
