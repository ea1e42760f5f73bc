"""Fourier samples of an image, as one coil of an MRI scanner takes them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.paired import as_channels, as_complex, need_images, need_pairs, need_wide
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = ["Fourier", "centred_fft", "centred_ifft", "kspace_mask"]


def centred_fft(z: Tensor) -> Tensor:
    """The orthonormal 2-D Fourier transform with both origins at the middle, (h // 2, w // 2).

    >>> z = torch.zeros(1, 1, 4, 4, dtype=torch.complex64)
    >>> z[..., 2, 2] = 4  # a delta at the origin is flat
    >>> bool((centred_fft(z) == 1).all())
    True
    """
    return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(z, (-2, -1)), norm="ortho"), (-2, -1))


def centred_ifft(k: Tensor) -> Tensor:
    """The inverse of `centred_fft`."""
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(k, (-2, -1)), norm="ortho"), (-2, -1))


def kspace_mask(mask: Tensor, owner: str) -> Tensor:
    """A mask as bool (1 or b, 1, h, w).

    Raises:
        ValueError: for another shape, values other than 0 and 1, or a mask that samples nothing.
    """
    if not isinstance(mask, Tensor) or mask.is_complex() or mask.ndim not in (2, 4):
        shown = tuple(mask.shape) if isinstance(mask, Tensor) else type(mask).__name__
        raise ValueError(f"{owner} got a mask {shown}; expected a tensor (h, w) or (batch, 1, h, w), 1 where sampled")
    mask = mask if mask.ndim == 4 else mask[None, None]
    if mask.shape[1] != 1:
        raise ValueError(f"{owner} got a mask with {mask.shape[1]} channels; expected 1, shared by all")
    if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"{owner} got a mask with values other than 0 and 1")
    if not bool(mask.flatten(1).any(1).all()):
        raise ValueError(f"{owner} got a mask that samples nothing; expected a frequency at least in each row")
    return mask.bool()


def reflected(k: Tensor) -> Tensor:
    """The value at frequency -k, for each k of a centred spectrum."""
    for axis in (-2, -1):
        n = k.shape[axis]
        k = k.index_select(axis, (2 * (n // 2) - torch.arange(n, device=k.device)) % n)
    return k


class Fourier(SpectralOperator):
    """y = M F x: some of the Fourier samples of an image, single-coil MRI.

    F is the orthonormal centred 2-D transform, so that |F x| = |x| and noise has the same std in both. y keeps the
    full size (b, 2 c, h, w), zero where nothing is sampled; `keep` zeroes those entries of a noisy one. Of complex
    images A A* = I on what is sampled. Of real ones (real=True) frequencies k and -k tell the same, and the singular
    values are 1 where both are sampled and 1/sqrt(2) where one is.

    Args:
        mask: 1 where sampled, zero frequency at (h // 2, w // 2); (h, w), or (1 or b, 1, h, w).
        real: images are real, (b, c, h, w); else complex, (b, 2 c, h, w), channel pairs real and imaginary.

    Raises:
        ValueError: for no such mask; when called, for images of another size or without pairs of channels.

    Source: arXiv 2211.07804, reconstruction (A = M F C), with the convention of fastMRI (arXiv 1811.08839).

    >>> a = Fourier(torch.ones(4, 4), real=True)
    >>> a(torch.ones(1, 1, 4, 4))[0, 0, 2, 2].item()
    4.0
    """

    mask: Tensor

    def __init__(self, mask: Tensor, *, real: bool = False) -> None:
        super().__init__()
        self.real = real
        self.register_buffer("mask", kspace_mask(mask, "Fourier"))

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""
        return self.mask.shape[-2], self.mask.shape[-1]

    def keep(self, y: Float[Tensor, "b c2 h w"]) -> Float[Tensor, "b c2 h w"]:
        """y where sampled, else 0."""
        return y * self.mask.to(y)

    def singulars(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "..."]:
        """(1 or b, 1, h, w): see above."""
        s = self.mask.to(x)
        return ((s + reflected(s)) / 2).sqrt() if self.real else s

    def to_spectrum(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """F x, complex."""
        need_images(x, "Fourier", self.size)
        need_wide(x, "Fourier")
        if self.real:
            return centred_fft(torch.complex(x, torch.zeros_like(x)))
        need_pairs(x, "Fourier", "for real images make it with real=True")
        return centred_fft(as_complex(x))

    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b c h w"]:
        """F* k."""
        z = centred_ifft(k)
        return z.real if self.real else as_channels(z)

    def measured_to_spectrum(self, y: Float[Tensor, "b c2 h w"]) -> Tensor:
        """U* y: the samples, of real images made Hermitian."""
        need_images(y, "Fourier", self.size)
        need_wide(y, "Fourier")
        need_pairs(y, "Fourier", "a measurement of it is complex whatever the image is")
        k = self._left(y) * as_complex(y)
        return (k + reflected(k).conj()) / 2 if self.real else k

    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b c2 h w"]:
        """U k: the frequencies that are sampled."""
        return as_channels(self._left(k.real) * k)

    def _left(self, like: Tensor) -> Tensor:
        """U of each frequency: M / s."""
        m = self.mask.to(like)
        return m / self.singulars(like).where(m > 0, torch.ones_like(m)) if self.real else m
