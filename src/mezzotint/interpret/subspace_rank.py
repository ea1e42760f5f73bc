"""How many directions there are: the numerical rank of a denoiser's Jacobian, and the dimension of data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, uniform_t
from mezzotint.core.grid import Grid
from mezzotint.interpret.subspace import SubspaceIteration
from mezzotint.interpret.subspace_jacobian import DENSE_LIMIT, Jacobian
from mezzotint.sample import DDIM
from mezzotint.sample.loop import Sampler

__all__ = [
    "IntrinsicDimension", "RankCurve", "intrinsic_dimension", "jacobian_rank", "neighbour_dimension", "numerical_rank",
    "rank_curve",
]  # fmt: skip

_PROBES = 16


def numerical_rank(
    values: Float[Tensor, "b r"], share: float = 0.99, power: Float[Tensor, " b"] | None = None
) -> Int[Tensor, " b"]:
    """The smallest r with sqrt(sum_(i<=r) s_i^2 / sum s_i^2) >= share.

    Args:
        values: (b, r) singular values, falling.
        share: 0 < share < 1.
        power: (b,) the sum of all s_i^2, where values are only the first; None for their own sum.

    Returns:
        (b,); r + 1 where the values given do not reach the share, 0 for no power at all.

    Raises:
        ValueError: for a share out of range.

    Source: official code of arXiv 2409.02426.

    >>> numerical_rank(torch.tensor([[1.0, 1.0, 0.01]])).tolist()
    [2]
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share}; expected 0 < share < 1")
    squares = values.double().square()
    total = squares.sum(1) if power is None else power.double()
    reached = squares.cumsum(1) >= (share**2 * total)[:, None]
    rank = (~reached).sum(1) + 1
    return torch.where(total > 0, rank, 0)


def jacobian_rank(j: Jacobian, share: float = 0.99, most: int = 64, noise: Noise | None = None) -> Int[Tensor, " b"]:
    """The numerical rank of each sample's Jacobian.

    Up to 4096 elements from the whole matrix. Above, products alone: 8, 16, ... leading values are found until their
    share is reached, of sum_(i<=k) s_i^2 + E|J (1 - V V^T) z|^2 over 16 normal z, V the vectors found: that is |J|_F^2,
    and only the little that is left to find is estimated.

    Args:
        j: a Jacobian.
        share: see `numerical_rank`.
        most: values looked at, without the matrix, >= 1; a result of most + 1 says "more than that".
        noise: one seed a sample, of probes and first vectors.

    Source: official code of arXiv 2409.02426 (the whole matrix); without it: our choice.

    >>> from mezzotint.core import LowRankMixture, VP
    >>> d = LowRankMixture.orthogonal(12, 3, 2).denoiser(VP())
    >>> jacobian_rank(Jacobian(d, torch.ones(1, 12).double(), 1.0)).tolist()
    [6]
    """
    if j.n <= DENSE_LIMIT:
        return numerical_rank(torch.linalg.svdvals(j.dense()), share)
    noise = Noise([0] * len(j.x_t)) if noise is None else noise
    z = noise("probes", 0, (_PROBES, j.n), dtype=j.x_t.dtype, device=j.x_t.device)
    most = min(most, j.n, j.m)
    k = min(8, most)
    while True:
        found = SubspaceIteration()(j, k, noise)
        v = found.vectors.flatten(2)
        left = (z - (z @ v.transpose(1, 2)) @ v).reshape(len(z), _PROBES, *j.shape)
        rest = j.times(left).flatten(2).square().sum(2).mean(1)
        rank = numerical_rank(found.values, share, found.values.square().sum(1) + rest)
        if k == most or bool((rank <= k).all()):
            return rank
        k = min(2 * k, most)


@dataclass(frozen=True, eq=False)
class RankCurve:
    """Ranks along a run.

    Args:
        times: (n,) from noise to data, without 0.
        ranks: (n, b).
    """

    times: Tensor
    ranks: Tensor

    def lowest(self) -> tuple[float, float]:
        """The time at which the mean rank is least, and that rank."""
        mean = self.ranks.double().mean(1)
        k = int(mean.argmin())
        return float(self.times[k]), float(mean[k])


def rank_curve(
    d: Denoiser,
    x_T: Float[Tensor, "b *s"],
    *,
    steps: int = 18,
    sampler: Sampler | None = None,
    grid: Grid | None = None,
    share: float = 0.99,
    c: Condition | None = None,
    noise: Noise | None = None,
    rows: int = 32,
) -> RankCurve:
    """The numerical rank at every state of a sampling run, from t = 1 down.

    Args:
        d: any denoiser; samples of more than 4096 elements take long (see `jacobian_rank`).
        x_T: the start, (b, *s).
        steps, sampler, grid: of the run; None for DDIM and uniform times (18 steps in the paper's code, of EDM).
        share: see `numerical_rank`.
        c, rows: see `Jacobian`.
        noise: one seed a sample.

    Source: arXiv 2409.02426, section 5 (ranks are far below n, and least at middle noise).
    """
    run, place = DDIM() if sampler is None else sampler, uniform_t if grid is None else grid
    times = place(d.schedule, steps)
    states = [x_T]
    with torch.no_grad():
        states += [state.x for state in run.trajectory(d, x_T, grid=times, c=c, noise=noise)]
    kept = [(float(t), x) for t, x in zip(times, states, strict=True) if t > 0]
    ranks = [jacobian_rank(Jacobian(d, x, t, c, rows=rows), share, noise=noise) for t, x in kept]
    return RankCurve(torch.tensor([t for t, _ in kept], dtype=torch.float64), torch.stack(ranks))


def neighbour_dimension(x: Float[Tensor, "n *s"], neighbours: int = 10) -> float:
    """The dimension of the set that samples lie on, from the distances to their nearest neighbours.

    1 / dim = mean over points and j < k of log(T_k / T_j), T_j the distance to the j-th neighbour.

    Args:
        x: (n, *s) samples, all different.
        neighbours: k, 2 to n - 1. The estimate is low where the dimension is high and samples are few.

    Raises:
        ValueError: for too few samples or equal ones.

    Source: Levina and Bickel 2004, averaged as MacKay and Ghahramani 2005 propose.

    >>> x = Noise([0]).uniform("place", 0, (500, 1))[0] * torch.ones(1, 5)
    >>> 0.8 < neighbour_dimension(x) < 1.2
    True
    """
    n, flat = len(x), x.detach().double().flatten(1)
    if not 2 <= neighbours < n:
        raise ValueError(f"neighbours={neighbours} for {n} samples; expected 2 to {n - 1}")
    near = torch.cat([
        # the differences themselves: products of large vectors would lose what close neighbours differ by
        torch.cdist(part, flat, compute_mode="donot_use_mm_for_euclid_dist").topk(neighbours + 1, largest=False)[0]
        for part in flat.split(256)
    ])[:, 1:]  # fmt: skip
    if not bool((near[:, 0] > 0).all()):
        raise ValueError("some samples are equal, so that a nearest neighbour is at distance 0; take each once")
    return 1 / float((near[:, -1:] / near[:, :-1]).log().mean())


@dataclass(frozen=True, eq=False)
class IntrinsicDimension:
    """Two estimates of the dimension of what a model makes.

    Args:
        neighbours: of the samples, from the distances between them.
        jacobian: mean numerical rank at middle noise.
        ranks: (b,) of each sample.
        t: the time of the ranks.
    """

    neighbours: float
    jacobian: float
    ranks: Tensor
    t: float


def intrinsic_dimension(
    d: Denoiser,
    data: Float[Tensor, "n *s"],
    noise: Noise,
    t: float = 0.7,
    *,
    neighbours: int = 10,
    share: float = 0.99,
    c: Condition | None = None,
    rows: int = 32,
) -> IntrinsicDimension:
    """Both estimates: of data, and of a denoiser at data to which noise is added.

    Args:
        d: the model.
        data: (n, *s) in the model's space.
        noise: of as many samples, the first of data, as ranks are wanted; 20 in the protocol.
        t: the time, in the middle; the rank is U-shaped in t.
        neighbours: see `neighbour_dimension`.
        share: see `numerical_rank`.
        c: the condition, a row a seed of noise.
        rows: see `Jacobian`.

    Raises:
        ValueError: for more seeds than data.

    Source: in the style of arXiv 2409.02426; which estimator its numbers come from is not known.
    """
    b = len(noise)
    if b > len(data):
        raise ValueError(f"{b} seeds for {len(data)} samples; give at most one a sample")
    level = torch.tensor([t], dtype=torch.float64)
    alpha, sigma = float(d.schedule.alpha(level)), float(d.schedule.sigma(level))
    shape = tuple(data.shape[1:])
    eps = noise("x_t", 0, shape, dtype=data.dtype, device=data.device)
    ranks = jacobian_rank(Jacobian(d, alpha * data[:b] + sigma * eps, t, c, rows=rows), share, noise=noise)
    mean = float(ranks.double().mean())
    assert math.isfinite(mean)
    return IntrinsicDimension(neighbour_dimension(data, neighbours), mean, ranks, t)
