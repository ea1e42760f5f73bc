"""Operators that are one small matrix down the columns and another along the rows."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mezzotint.restore.operators.paired import need_images
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = ["Separable"]


class Separable(SpectralOperator):
    """Y = R X C^T for each channel; the singular values are the products of those of R and C.

    A subclass gives the matrix of an axis of n pixels, and the number of pixels that made m measured ones. The
    decompositions are made once a size, in float64.
    """

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    @abstractmethod
    def matrix(self, axis: int, n: int) -> Float64[Tensor, "m n"]:
        """Of axis 0 (down, height) or 1 (along, width), for n pixels; float64 on the CPU.

        Raises:
            ValueError: for an n that does not suit.
        """

    @abstractmethod
    def pixels(self, axis: int, m: int) -> int:
        """The n whose matrix has m rows.

        Raises:
            ValueError: where there is none.
        """

    def _svd(self, axis: int, n: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u (m, n) with zero columns where s = 0, s (n,), v (n, n)."""
        if (axis, n) not in self._made:
            matrix = self.matrix(axis, n)
            u, s, vh = torch.linalg.svd(matrix, full_matrices=True)
            rank = min(matrix.shape)
            pad = n - rank
            u, s = u[:, :rank], s[:rank]
            if pad:
                u, s = torch.cat([u, u.new_zeros(len(u), pad)], 1), torch.cat([s, s.new_zeros(pad)])
            self._made[axis, n] = (u, s, vh.T.contiguous())
        u, s, v = self._made[axis, n]
        return u.to(like), s.to(like), v.to(like)

    def _both(
        self, h: int, w: int, like: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        return self._svd(0, h, like), self._svd(1, w, like)

    def _image_size(self, y: Tensor) -> tuple[int, int]:
        need_images(y, type(self).__name__)
        return self.pixels(0, y.shape[-2]), self.pixels(1, y.shape[-1])

    def singulars(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "..."]:
        """(1, 1, h, w), products."""
        (_, down, _), (_, along, _) = self._both(x.shape[-2], x.shape[-1], x)
        return (down[:, None] * along)[None, None]

    def to_spectrum(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """V* x."""
        need_images(x, type(self).__name__)
        (_, _, down), (_, _, along) = self._both(x.shape[-2], x.shape[-1], x)
        return down.T @ x @ along

    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b c h w"]:
        """V k."""
        (_, _, down), (_, _, along) = self._both(k.shape[-2], k.shape[-1], k)
        return down @ k @ along.T

    def measured_to_spectrum(self, y: Float[Tensor, "b c i j"]) -> Tensor:
        """U* y, zero where s = 0."""
        h, w = self._image_size(y)
        (down, s, _), (along, r, _) = self._both(h, w, y)
        k = down.T @ y @ along
        return torch.where(self.seen(s[:, None] * r), k, torch.zeros_like(k))

    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b c i j"]:
        """U k."""
        (down, _, _), (along, _, _) = self._both(k.shape[-2], k.shape[-1], k)
        return down @ k @ along.T

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        """R X C^T, by the matrices themselves."""
        need_images(x, type(self).__name__)
        return self._matrix(0, x.shape[-2], x) @ x @ self._matrix(1, x.shape[-1], x).T

    def adjoint(self, y: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c h w"]:
        """R^T Y C."""
        h, w = self._image_size(y)
        return self._matrix(0, h, y).T @ y @ self._matrix(1, w, y)

    def _matrix(self, axis: int, n: int, like: Tensor) -> Tensor:
        return self.matrix(axis, n).to(like)
