"""Any small linear map, given by its matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = ["Matrix"]

_MOST = 1 << 14  # pixels: the unitary V alone would take 2 GB in float64


class Matrix(SpectralOperator):
    """y = M x with x flattened: compressed sensing, and the test bed whose answers are known.

    Coordinates are those of a full singular value decomposition, made once in float64.

    Args:
        matrix: M, (m, n), finite.
        shape: of one image, n numbers in all; (n,) if None.

    Raises:
        ValueError: for something that is no such matrix, or a shape of another number of elements.

    >>> Matrix(torch.tensor([[1.0, 1.0]]))(torch.tensor([[2.0, 3.0]])).round(decimals=4).tolist()
    [[5.0]]
    """

    u: Tensor
    v: Tensor
    s: Tensor

    def __init__(self, matrix: Float[Tensor, "m n"], shape: Sequence[int] | None = None) -> None:
        super().__init__()
        if not isinstance(matrix, Tensor) or matrix.ndim != 2 or matrix.numel() == 0:
            shown = tuple(matrix.shape) if isinstance(matrix, Tensor) else type(matrix).__name__
            raise ValueError(f"Matrix got {shown}; expected a tensor (m, n): m measurements of n pixels")
        n = matrix.shape[1]
        if n > _MOST:
            raise ValueError(f"Matrix got {n} columns; above {_MOST} use an operator with a fast transform, as Blur")
        if not bool(torch.isfinite(matrix).all()):
            raise ValueError("Matrix got NaN or infinity")
        self.shape = (n,) if shape is None else tuple(shape)
        if math.prod(self.shape) != n:
            raise ValueError(
                f"Matrix got {n} columns but images of shape {self.shape}, {math.prod(self.shape)} numbers"
            )
        u, s, vh = torch.linalg.svd(matrix.detach().to("cpu", torch.float64), full_matrices=True)
        rank = min(matrix.shape)
        self.rows = matrix.shape[0]
        self.register_buffer("u", u[:, :rank])
        self.register_buffer("v", vh.T.contiguous())
        self.register_buffer("s", torch.cat([s, s.new_zeros(n - rank)]))

    def singulars(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "..."]:
        """(1, n), largest first."""
        return self.s.to(x)[None]

    def to_spectrum(self, x: Float[Tensor, "b *s"]) -> Tensor:
        """V* x, (b, n)."""
        if tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"Matrix got images of shape {tuple(x.shape[1:])}; expected {self.shape}")
        return x.flatten(1) @ self.v.to(x)

    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b *s"]:
        """V k."""
        return (k @ self.v.to(k).T).unflatten(1, self.shape)

    def measured_to_spectrum(self, y: Float[Tensor, "b *m"]) -> Tensor:
        """U* y, (b, n), zero where s = 0."""
        if y.ndim != 2 or y.shape[1] != self.rows:
            raise ValueError(f"Matrix got measurements of shape {tuple(y.shape[1:])}; expected ({self.rows},)")
        k = y @ self.u.to(y)
        s = self.s.to(y)
        k = torch.nn.functional.pad(k, (0, len(s) - k.shape[1]))
        return torch.where(self.seen(s), k, torch.zeros_like(k))

    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b *m"]:
        """U k, (b, m)."""
        return k[:, : self.u.shape[1]] @ self.u.to(k).T
