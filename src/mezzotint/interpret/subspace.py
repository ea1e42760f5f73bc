"""The leading singular vectors of a denoiser's Jacobian: directions in which a picture changes as a whole."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise
from mezzotint.interpret.subspace_jacobian import Jacobian, Output

__all__ = ["Directions", "SubspaceIteration", "local_directions", "semantic_directions", "without"]


@dataclass(frozen=True, eq=False)
class Directions:
    """The r largest singular values of each sample's Jacobian, with their vectors.

    Args:
        vectors: (b, r, *s) orthonormal right singular vectors v_i, largest first; the sign makes the entry of largest
            size positive.
        values: (b, r) singular values s_i.
        outputs: (b, r, *o) orthonormal u_i: J v_i = s_i u_i, how the output changes.
        gap: (b,) s_r / s_(r+1), infinite where r is everything: near 1 the last vectors may turn into the next ones.
        change: (b,) sine of the largest angle between the spaces of the last two iterations.
        iterations: done.
        products: vectors multiplied by J or its transpose, of each sample.
        tol: the change at which iteration stops.
    """

    vectors: Tensor
    values: Tensor
    outputs: Tensor
    gap: Tensor
    change: Tensor
    iterations: int
    products: int
    tol: float

    @property
    def converged(self) -> Tensor:
        """(b,) bool."""
        return self.change <= self.tol


@dataclass(frozen=True)
class SubspaceIteration:
    """V <- orth(J^T orth(J V)), matrix-free; at the end a singular value decomposition of J V.

    The error of the space of the first r vectors falls by (s_(k+1) / s_r)^2 an iteration, k = r + extra; an iteration
    costs k forward-mode and k backward passes.

    Args:
        extra: columns that are carried along: they quicken it, and tell the gap.
        least: iterations before the change is looked at.
        most: iterations at most; what has not converged by then says so.
        tol: stop where the sine of the largest angle between two iterations' spaces is no more.

    Raises:
        ValueError: for values out of range.

    Source: arXiv 2409.02374, algorithm 1 and official code (10 to 50 iterations, 1e-4); the extra columns, and angles
    between spaces in place of entries of vectors, are our choice: vectors of equal values turn for ever.
    """

    extra: int = 2
    least: int = 10
    most: int = 50
    tol: float = 1e-4

    def __post_init__(self) -> None:
        if self.extra < 0 or not 1 <= self.least <= self.most or not 0 < self.tol < 1:
            raise ValueError(f"{self}; expected extra >= 0, 1 <= least <= most and 0 < tol < 1")

    @torch.no_grad()
    def __call__(self, j: Jacobian, rank: int, noise: Noise | None = None) -> Directions:
        """The leading singular vectors.

        Args:
            j: of any denoiser.
            rank: how many, 1 to the number of elements.
            noise: one seed a sample, of the first vectors; None for seed 0 each.

        Raises:
            ValueError: for a rank out of range, or a number of seeds that is not the number of samples.
            FloatingPointError: for a Jacobian that is not finite.
        """
        b, n, m = len(j.x_t), j.n, j.m
        if not 1 <= rank <= min(n, m):
            raise ValueError(f"rank={rank}; expected 1 to {min(n, m)}, the size of the Jacobian")
        noise = Noise([0] * b) if noise is None else noise
        if len(noise) != b:
            raise ValueError(f"{len(noise)} seeds for {b} samples; give one a sample")
        k, before = min(rank + self.extra, n, m), j.products
        first = noise("directions", 0, (k, n), dtype=torch.float64).to(j.x_t)
        v = torch.linalg.qr(first.transpose(1, 2))[0]  # (b, n, k)
        change = torch.full((b,), math.inf, dtype=v.dtype, device=v.device)
        found: tuple[Tensor, Tensor, Tensor] | None = None
        done = 0
        for done in range(1, self.most + 1):
            y = j.times(v.transpose(1, 2).reshape(b, k, *j.shape)).reshape(b, k, m).transpose(1, 2)
            if not bool(torch.isfinite(y).all()):
                raise FloatingPointError(f"the Jacobian at t = {j.t} is not finite; look at x_t and at the network")
            u, s, turn = torch.linalg.svd(y, full_matrices=False)
            v = v @ turn.transpose(1, 2)
            if found is None:
                found = v, s, u
            else:
                # a sample that has converged stays as it is, so that it comes out as it would alone
                going = (change > self.tol) if done > self.least else torch.ones_like(change, dtype=torch.bool)
                change = torch.where(going, _sine(found[0][..., :rank], v[..., :rank]), change)
                matrix = going[:, None, None]
                found = torch.where(matrix, v, found[0]), torch.where(going[:, None], s, found[1]), torch.where(
                    matrix, u, found[2])  # fmt: skip
            if done == self.most or (done >= self.least and bool((change <= self.tol).all())):
                break
            w = j.transposed(u.transpose(1, 2).reshape(b, k, *j.output_shape)).reshape(b, k, n)
            v = torch.linalg.qr(w.transpose(1, 2))[0]
        assert found is not None
        v, s, u = found
        vectors, outputs = v[..., :rank].transpose(1, 2), u[..., :rank].transpose(1, 2)
        sign = vectors.gather(2, vectors.abs().argmax(2, keepdim=True)).sign()
        next_ = s[:, rank] if k > rank else torch.full_like(s[:, 0], 0.0 if rank == min(n, m) else math.nan)
        vectors, outputs = sign * vectors, sign * outputs
        return Directions(
            vectors.reshape(b, rank, *j.shape), s[:, :rank], outputs.reshape(b, rank, *j.output_shape),
            s[:, rank - 1] / next_, change, done, j.products - before, self.tol,
        )  # fmt: skip


def semantic_directions(
    d: Denoiser,
    x_t: Float[Tensor, "b *s"],
    t: float,
    rank: int = 5,
    *,
    c: Condition | None = None,
    mask: Tensor | None = None,
    output: Output | None = None,
    noise: Noise | None = None,
    settings: SubspaceIteration | None = None,
    rows: int = 32,
) -> Directions:
    """The directions v in which D(x_t + a v) changes most: the leading right singular vectors of its Jacobian.

    Args:
        d: any denoiser; guided if the editing will be.
        x_t: noisy samples, (b, *s): of a run, or of an image (`state_at`).
        t: their time; about 0.7 in the paper. Too low gives texture, too high changes identity.
        rank: how many.
        c, mask, output, rows: see `Jacobian`.
        noise: one seed a sample, of the first vectors.
        settings: of the iteration.

    Raises:
        ValueError: see `Jacobian` and `SubspaceIteration`.

    Source: arXiv 2409.02426, section 5; algorithm of arXiv 2409.02374.

    >>> from mezzotint.core import Gaussian, VP
    >>> d = Gaussian(torch.zeros(3), std=torch.tensor([0.1, 2.0, 0.5])).denoiser(VP())
    >>> semantic_directions(d, torch.ones(1, 3).double(), 0.5, 1).vectors.round(decimals=6).abs().tolist()
    [[[0.0, 1.0, 0.0]]]
    """
    j = Jacobian(d, x_t, t, c, mask=mask, output=output, rows=rows)
    return (SubspaceIteration() if settings is None else settings)(j, rank, noise)


def local_directions(
    d: Denoiser,
    x_t: Float[Tensor, "b *s"],
    t: float,
    mask: Tensor,
    rank: int = 5,
    removed: int = 5,
    *,
    c: Condition | None = None,
    output: Output | None = None,
    noise: Noise | None = None,
    settings: SubspaceIteration | None = None,
    rows: int = 32,
) -> Directions:
    """Directions that change the inside of a mask, less what they share with those that change its outside.

    v <- v - V0 V0^T v, divided by its length; V0 are the `removed` leading vectors of the Jacobian outside the mask.
    `values` and `outputs` remain those of the directions before.

    Args:
        d, x_t, t, rank, c, output, noise, settings, rows: as in `semantic_directions`.
        mask: bool, True inside; of the output's sample shape or what spreads to it.
        removed: how many of the outside.

    Raises:
        ValueError: for a mask that is empty or everything, or a direction that is all of the outside.

    Source: arXiv 2409.02374, section 4 (null-space projection).
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"local_directions got a mask of {mask.dtype}; expected torch.bool, True inside")
    if bool(mask.all()):
        raise ValueError("the mask is everything, so that nothing lies outside; take semantic_directions")
    inside = semantic_directions(d, x_t, t, rank, c=c, mask=mask, output=output, noise=noise, settings=settings,
                                 rows=rows)  # fmt: skip
    outside = semantic_directions(d, x_t, t, removed, c=c, mask=~mask, output=output, noise=noise, settings=settings,
                                  rows=rows)  # fmt: skip
    return replace(inside, vectors=without(inside.vectors, outside.vectors),
                   products=inside.products + outside.products)  # fmt: skip


def without(vectors: Float[Tensor, "b r *s"], others: Float[Tensor, "b q *s"]) -> Float[Tensor, "b r *s"]:
    """Each vector less its projection on the span of others, which are orthonormal; of length 1.

    Raises:
        ValueError: where nothing of a vector is left.
    """
    flat, basis = vectors.flatten(2), others.flatten(2)
    rest = flat - (flat @ basis.transpose(1, 2)) @ basis
    size = rest.norm(dim=2, keepdim=True)
    if not bool((size > 1e-4 * flat.norm(dim=2, keepdim=True)).all()):
        raise ValueError("a direction lies within those that are taken out of it; take fewer out, or a larger mask")
    return (rest / size).reshape(vectors.shape)


def _sine(a: Tensor, b: Tensor) -> Tensor:
    """Sine of the largest angle between the spans of orthonormal columns, (b,)."""
    return torch.linalg.matrix_norm(b - a @ (a.transpose(1, 2) @ b), ord=2)
