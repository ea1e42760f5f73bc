"""Colour lost: grey pictures of colour ones, and the mosaic behind a camera's filter."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.paired import need_images
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = ["LUMA", "Bayer", "Decolorise"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Decolorise(SpectralOperator):
    """y = <w, x> over the channels, (b, 1, h, w); A+ y = y w / |w|^2, a grey picture where w sums to 1 equally.

    Args:
        weights: w, one a channel; None: the mean of three. `LUMA` is what television shows.

    Raises:
        ValueError: for weights that are all 0 or not finite; when called, for another number of channels.

    Source: arXiv 2305.04391, released operators (channel mean).

    >>> round(Decolorise()(torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1)).item(), 4)
    3.0
    """

    basis: Tensor

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        w = (
            torch.full((3,), 1 / 3, dtype=torch.float64)
            if weights is None
            else torch.tensor([*weights], dtype=torch.float64)
        )
        if w.ndim != 1 or len(w) < 1 or not bool(torch.isfinite(w).all()) or not bool(w.any()):
            raise ValueError(f"Decolorise got weights {weights}; expected finite numbers, one a channel, not all 0")
        # an orthonormal basis of the channels whose first vector is w / |w|
        q, r = torch.linalg.qr(torch.cat([w[:, None], torch.eye(len(w), dtype=torch.float64)], 1))
        self.register_buffer("basis", q * torch.sign(r[0, 0]))
        self.norm = float(w.norm())

    def _channels(self, x: Tensor, channels: int) -> Tensor:
        need_images(x, "Decolorise")
        if x.shape[1] != channels:
            raise ValueError(f"Decolorise got {x.shape[1]} channels; expected {channels}")
        return self.basis.to(x)

    def singulars(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "..."]:
        """|w| for the first coordinate, else 0."""
        s = torch.zeros(1, len(self.basis), 1, 1, dtype=x.dtype, device=x.device)
        s[:, 0] = self.norm
        return s

    def to_spectrum(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """The channels in the basis."""
        return torch.einsum("ck,bchw->bkhw", self._channels(x, len(self.basis)), x)

    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b c h w"]:
        """The inverse of `to_spectrum`."""
        return torch.einsum("ck,bkhw->bchw", self.basis.to(k), k)

    def measured_to_spectrum(self, y: Float[Tensor, "b 1 h w"]) -> Tensor:
        """y as the first coordinate."""
        self._channels(y, 1)
        return torch.cat([y, y.new_zeros(len(y), len(self.basis) - 1, *y.shape[2:])], 1)

    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b 1 h w"]:
        """The first coordinate."""
        return k[:, :1]


class Bayer(SpectralOperator):
    """y = of each pixel the one colour that the camera's filter lets through, (b, 1, h, w): demosaicking undoes it.

    Args:
        pattern: colours of the 2 x 2 block, row by row: "RGGB", "BGGR", "GRBG" or "GBRG".

    Raises:
        ValueError: for another pattern; when called, for other than three channels.

    >>> Bayer("RGGB")(torch.arange(12.0).view(1, 3, 2, 2)).tolist()
    [[[[0.0, 5.0], [6.0, 11.0]]]]
    """

    def __init__(self, pattern: str = "RGGB") -> None:
        super().__init__()
        if pattern not in ("RGGB", "BGGR", "GRBG", "GBRG"):
            raise ValueError(f"Bayer got pattern {pattern!r}; expected RGGB, BGGR, GRBG or GBRG")
        self.pattern = pattern

    def _mask(self, like: Tensor) -> Tensor:
        h, w = like.shape[-2:]
        which = torch.tensor(["RGB".index(c) for c in self.pattern], device=like.device).view(2, 2)
        tiled = which.repeat((h + 1) // 2, (w + 1) // 2)[:h, :w]
        return (tiled == torch.arange(3, device=like.device).view(3, 1, 1))[None]

    def _check(self, x: Tensor, channels: int) -> None:
        need_images(x, "Bayer")
        if x.shape[1] != channels:
            raise ValueError(f"Bayer got {x.shape[1]} channels; expected {channels}")

    def singulars(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "..."]:
        """1 where a colour passes."""
        return self._mask(x).to(x.dtype)

    def to_spectrum(self, x: Float[Tensor, "b 3 h w"]) -> Tensor:
        """x."""
        self._check(x, 3)
        return x

    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b 3 h w"]:
        """k."""
        return k

    def measured_to_spectrum(self, y: Float[Tensor, "b 1 h w"]) -> Tensor:
        """y at its colour's channel."""
        self._check(y, 1)
        return y * self._mask(y)

    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b 1 h w"]:
        """The colour that passes."""
        return torch.where(self._mask(k), k, torch.zeros_like(k)).sum(1, keepdim=True)
