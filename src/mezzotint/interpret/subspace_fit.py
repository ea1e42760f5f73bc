"""Subspaces from samples without any network: principal components, K-subspaces, and how far off they are."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise

__all__ = ["PCA", "KSubspaces", "SubspaceSolver", "captured", "checked_samples", "subspace_error"]

_PERMUTED = 8


@runtime_checkable
class SubspaceSolver(Protocol):
    """Whatever finds k bases of d columns, (k, n, d), in samples (N, n); randomness from a noise of one seed."""

    def __call__(self, x: Tensor, k: int, d: int, noise: Noise) -> Tensor: ...


@dataclass(frozen=True)
class PCA:
    """The d leading principal components, without centring: max over U of sum_i |U^T x_i|^2.

    What training a low-rank denoiser of one component amounts to. With fewer than d samples the other columns are
    orthogonal to them and otherwise arbitrary.

    Source: arXiv 2409.02426, theorem 1.

    >>> PCA()(torch.tensor([[0.0, 2.0], [0.0, 1.0]]), 1, 1, Noise([0]))[0].abs().tolist()
    [[0.0], [1.0]]
    """

    def __call__(self, x: Float[Tensor, "N n"], k: int, d: int, noise: Noise) -> Float[Tensor, "k n d"]:
        """The basis, (1, n, d).

        Raises:
            ValueError: for more than one subspace.
        """
        checked_samples(x, k, d)
        if k != 1:
            raise ValueError(f"PCA finds one subspace, not k={k}; take KSubspaces")
        return torch.linalg.svd(x, full_matrices=True)[2][:d].T[None]


@dataclass(frozen=True)
class KSubspaces:
    """Assign each sample to the subspace that captures most of it, refit each by PCA, until nothing changes.

    max over U of sum_i max_k |U_k^T x_i|^2: what training a low-rank denoiser amounts to when its weights are hard.
    All restarts run together; the one that captures most is kept. Where clusters have no more than d samples the
    optimum is degenerate: any d samples span d dimensions.

    Args:
        restarts: from random orthonormal bases, >= 1.
        iterations: at most, of each, >= 1.
        start: (k, n, d) bases to start from instead; then restarts play no part.

    Raises:
        ValueError: for numbers below 1.

    Source: arXiv 2409.02426, theorem 3; the algorithm is Bradley and Mangasarian's k-plane clustering.
    """

    restarts: int = 10
    iterations: int = 100
    start: Tensor | None = None

    def __post_init__(self) -> None:
        if self.restarts < 1 or self.iterations < 1:
            raise ValueError(f"KSubspaces got restarts={self.restarts}, iterations={self.iterations}; expected >= 1")

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "N n"], k: int, d: int, noise: Noise) -> Float[Tensor, "k n d"]:
        """The bases of the best restart."""
        checked_samples(x, k, d)
        if self.start is None:
            first = noise("bases", 0, (self.restarts, k, x.shape[1], d), dtype=torch.float64)[0].to(x)
            bases = torch.linalg.qr(first)[0]
        else:
            bases = self.start.to(x)[None]
        before: Tensor | None = None
        for _ in range(self.iterations):
            own = _captured(bases, x).argmax(1)  # (r, N)
            if before is not None and torch.equal(own, before):
                break
            before = own
            member = (own[:, None, :] == torch.arange(k, device=x.device)[:, None]).to(x.dtype)  # (r, k, N)
            moments = torch.einsum("rkN,Nn,Nm->rknm", member, x, x)
            bases = torch.linalg.eigh(moments)[1][..., -d:].flip(-1)
        return bases[int(_captured(bases, x).amax(1).sum(1).argmax())]


def _captured(bases: Tensor, x: Tensor) -> Tensor:
    """|U_k^T x_i|^2, (r, k, N)."""
    return torch.einsum("rknd,Nn->rkNd", bases, x).square().sum(-1)


def captured(bases: Float[Tensor, "k n d"], x: Float[Tensor, "N n"]) -> float:
    """sum_i max_k |U_k^T x_i|^2: what K-subspaces maximises."""
    return float(_captured(bases[None], x).amax(1).sum())


def subspace_error(found: Float[Tensor, "k n d"], true: Float[Tensor, "k n d"]) -> float:
    """The least mean of |P_found - P_true|_F over the pairings of k subspaces, P the projections.

    Between 0 and sqrt(2 d).

    Raises:
        ValueError: for other shapes, or more than 8 subspaces.

    Source: arXiv 2409.02426, section 4.

    >>> subspace_error(torch.eye(3, 1)[None], torch.eye(3, 1)[None])
    0.0
    """
    if found.shape != true.shape or found.ndim != 3 or len(found) > _PERMUTED:
        raise ValueError(
            f"bases of shapes {tuple(found.shape)} and {tuple(true.shape)}; expected two (k, n, d), k up to {_PERMUTED}"
        )
    p, q = (b.double() @ b.double().transpose(1, 2) for b in (found, true))
    apart = (p[:, None] - q[None]).flatten(2).norm(dim=2)
    k = len(found)
    return min(float(apart[list(order), range(k)].mean()) for order in itertools.permutations(range(k)))


def checked_samples(x: Tensor, k: int, d: int) -> None:
    """Refuse samples that have no k subspaces of d dimensions.

    Raises:
        ValueError: says which numbers disagree.
    """
    if x.ndim != 2 or not len(x) or not x.is_floating_point():
        raise ValueError(f"samples are {x.dtype} of shape {tuple(x.shape)}; expected floating (N, n), one a row")
    if k < 1 or not 1 <= d <= x.shape[1]:
        raise ValueError(f"k={k} subspaces of d={d} dimensions in n={x.shape[1]}; expected k >= 1 and 1 <= d <= n")
