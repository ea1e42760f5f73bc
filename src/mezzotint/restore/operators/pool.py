"""Super-resolution from block means."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.paired import need_images
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = ["AveragePool"]


class AveragePool(SpectralOperator):
    """y = the mean over blocks of factor x factor pixels; A+ repeats every value, A A* = 1 / factor^2.

    V is the orthonormal cosine transform of every block: only its first coefficient is measured, with s = 1 / factor.

    Args:
        factor: side of a block, >= 2.

    Raises:
        ValueError: for another factor; when called, for a size that it does not divide.

    Source: arXiv 2305.04391, released operators (sr4).

    >>> AveragePool(2).pinv(torch.tensor([[[[3.0]]]])).tolist()
    [[[[3.0, 3.0], [3.0, 3.0]]]]
    """

    basis: Tensor

    def __init__(self, factor: int) -> None:
        super().__init__()
        if isinstance(factor, bool) or not isinstance(factor, int) or factor < 2:
            raise ValueError(f"AveragePool got factor={factor!r}; expected a whole number >= 2")
        self.factor = factor
        place = torch.arange(factor, dtype=torch.float64)
        basis = (math.pi / factor * (place + 0.5) * place[:, None]).cos() * math.sqrt(2 / factor)
        basis[0] = 1 / math.sqrt(factor)
        self.register_buffer("basis", basis)  # (frequency, pixel), orthonormal

    def singulars(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "..."]:
        """1 / factor for the mean of each block, else 0."""
        s = torch.zeros(1, 1, 1, self.factor, 1, self.factor, dtype=x.dtype, device=x.device)
        s[..., 0, :, 0] = 1 / self.factor
        return s

    def to_spectrum(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """(b, c, h / f, f, w / f, f)."""
        need_images(x, "AveragePool")
        f, (h, w) = self.factor, x.shape[-2:]
        if h % f or w % f:
            raise ValueError(
                f"AveragePool({f}) got images of {h} x {w}, which it does not divide; crop or pad them to "
                f"{max(h // f, 1) * f} x {max(w // f, 1) * f}"
            )
        basis = self.basis.to(x)
        return torch.einsum("ki,bcyixj,lj->bcykxl", basis, x.unflatten(-1, (-1, f)).unflatten(-3, (-1, f)), basis)

    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b c h w"]:
        """The inverse of `to_spectrum`."""
        basis = self.basis.to(k)
        return torch.einsum("ki,bcykxl,lj->bcyixj", basis, k, basis).flatten(-2).flatten(-3, -2)

    def measured_to_spectrum(self, y: Float[Tensor, "b c i j"]) -> Tensor:
        """The measured means, in place."""
        need_images(y, "AveragePool")
        b, c, h, w = y.shape
        k = y.new_zeros(b, c, h, self.factor, w, self.factor)
        k[..., 0, :, 0] = y
        return k

    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b c i j"]:
        """The means."""
        return k[..., 0, :, 0]

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        """The means, without the transform."""
        need_images(x, "AveragePool")
        f, (h, w) = self.factor, x.shape[-2:]
        if h % f or w % f:
            return super().forward(x)  # which refuses it
        return torch.nn.functional.avg_pool2d(x, f)

    def pinv(self, y: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c h w"]:
        """Every value repeated."""
        need_images(y, "AveragePool")
        return y.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2)

    def adjoint(self, y: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c h w"]:
        """Every value repeated, divided by factor^2."""
        return self.pinv(y) / self.factor**2
