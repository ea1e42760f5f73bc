"""Several receive coils: parallel MRI."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.fourier import centred_fft, centred_ifft, kspace_mask
from mezzotint.restore.operators.krylov import conjugate_gradients
from mezzotint.restore.operators.operator import LinearOperator
from mezzotint.restore.operators.paired import as_channels, as_complex, need_images, need_pairs, need_wide
from mezzotint.restore.operators.radon import need_size

__all__ = ["MultiCoil", "coil_maps", "normalised_maps"]

_GUESS = 5
_FAINT = 1e-6  # of the largest sensitivity: where less, no coil sees anything


def normalised_maps(maps: Float[Tensor, "b k2 h w"]) -> Float[Tensor, "b k2 h w"]:
    """Sensitivities over their root sum of squares, so that sum_j |C_j|^2 = 1 (0 where no coil sees anything).

    Args:
        maps: (b, 2 coils, h, w), channel pairs real and imaginary.

    >>> normalised_maps(torch.tensor([3.0, 0.0, 0.0, 4.0]).reshape(1, 4, 1, 1)).flatten().tolist()
    [0.6..., 0.0, 0.0, 0.8...]
    """
    total = maps.square().sum(1, keepdim=True).sqrt()
    seen = total > _FAINT * total.amax((2, 3), keepdim=True)
    return torch.where(seen, maps / total.where(seen, torch.ones_like(total)), torch.zeros_like(maps))


def coil_maps(
    size: int | Sequence[int], coils: int, *, distance: float | int = 1.2, width: float | int = 1.0
) -> Tensor:
    """Smooth complex sensitivities of coils on a ring around the image, normalised.

        C_j(p) ~ exp(-|p - c_j|^2 / (2 width^2)) exp(i (2 pi j / coils + p . c_j)),  p in [-1, 1]^2

    Args:
        size: height and width.
        coils: how many >= 1.
        distance: of the coils' centres c_j from the image's, in half sides.
        width: of each one's sensitivity, in half sides, > 0.

    Returns:
        (1, 2 coils, h, w), float32.

    Source: our choice, for phantoms; real maps are estimated from the centre of k-space.

    >>> coil_maps(8, 4).shape
    torch.Size([1, 8, 8, 8])
    """
    h, w = need_size(size, "coil_maps")
    if isinstance(coils, bool) or not isinstance(coils, int) or coils < 1 or not width > 0:
        raise ValueError(f"coil_maps got coils={coils!r}, width={width}; expected a whole number >= 1 and a width > 0")
    up = (1 - (2 * torch.arange(h, dtype=torch.float64) + 1) / h)[:, None]
    right = (2 * torch.arange(w, dtype=torch.float64) + 1) / w - 1
    maps = []
    for j in range(coils):
        angle = 2 * math.pi * j / coils
        x, y = distance * math.cos(angle), distance * math.sin(angle)
        magnitude = (-((right - x) ** 2 + (up - y) ** 2) / (2 * width**2)).exp()
        maps.append(torch.polar(magnitude, angle + right * x + up * y))
    return normalised_maps(as_channels(torch.stack(maps)[None])).float()


class MultiCoil(LinearOperator):
    """y_j = M F (C_j x): the Fourier samples that each of several coils takes of a complex image.

    Images (b, 2, h, w) give (b, 2 coils, h, w), pairs of channels real and imaginary, zero where nothing is sampled.
    A* y = sum_j conj(C_j) F* M y_j. With maps of sum_j |C_j|^2 = 1 (`normalised_maps`) and everything sampled
    A* A = I. The pseudo-inverse is found by conjugate gradients (CG-SENSE); the guess is that after five steps, since
    from the tenth on the noise of a measurement takes over (our choice). For real images:
    `MultiCoil(maps, mask) @ AsComplex()`.

    Args:
        maps: C, (1 or b, 2 coils, h, w); used as they are.
        mask: 1 where sampled, as of `Fourier`.

    Raises:
        ValueError: for maps and mask of different sizes; when called, for images that are not complex or of another
            size.

    Source: Pruessmann et al. 2001 (SENSE); arXiv 2211.07804, reconstruction (A = M F C_j).

    >>> a = MultiCoil(coil_maps(8, 4), torch.ones(8, 8))
    >>> x = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(a.adjoint(a(x)), x, atol=1e-5)
    True
    """

    maps: Tensor
    mask: Tensor

    def __init__(self, maps: Float[Tensor, "b k2 h w"], mask: Tensor) -> None:
        super().__init__()
        need_images(maps, "MultiCoil's maps")
        need_pairs(maps, "MultiCoil's maps", "as coil_maps(size, coils) makes them")
        if not bool(torch.isfinite(maps).all()):
            raise ValueError("MultiCoil got maps with NaN or infinity")
        self.register_buffer("maps", maps)
        self.register_buffer("mask", kspace_mask(mask, "MultiCoil"))
        self.size = (maps.shape[-2], maps.shape[-1])
        if tuple(self.mask.shape[-2:]) != self.size:
            raise ValueError(f"MultiCoil got maps of {self.size} pixels and a mask of {tuple(self.mask.shape[-2:])}")

    def keep(self, y: Float[Tensor, "b k2 h w"]) -> Float[Tensor, "b k2 h w"]:
        """y where sampled, else 0."""
        return y * self.mask.to(y)

    def forward(self, x: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b k2 h w"]:
        """See above."""
        need_images(x, "MultiCoil", self.size)
        need_wide(x, "MultiCoil")
        if x.shape[1] != 2:
            raise ValueError(
                f"MultiCoil got images of {x.shape[1]} channels; expected 2, the real and the imaginary part; for real "
                "images use MultiCoil(maps, mask) @ AsComplex()"
            )
        return self.keep(as_channels(centred_fft(as_complex(self.maps.to(x)) * as_complex(x))))

    def adjoint(self, y: Float[Tensor, "b k2 h w"]) -> Float[Tensor, "b 2 h w"]:
        """See above."""
        need_images(y, "MultiCoil", self.size)
        need_wide(y, "MultiCoil")
        if y.shape[1] != self.maps.shape[1]:
            raise ValueError(
                f"MultiCoil got measurements of {y.shape[1]} channels; expected {self.maps.shape[1]}, two for each of "
                f"{self.maps.shape[1] // 2} coils"
            )
        images = centred_ifft(as_complex(self.keep(y)))
        return as_channels((as_complex(self.maps.to(y)).conj() * images).sum(1, keepdim=True))

    def guess(self, y: Float[Tensor, "b k2 h w"]) -> Float[Tensor, "b 2 h w"]:
        """Conjugate gradients stopped early."""
        return conjugate_gradients(lambda x: self.adjoint(self(x)), self.adjoint(y), steps=_GUESS)
