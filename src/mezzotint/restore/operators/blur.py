"""Blur: convolution with a known kernel."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mezzotint.restore.operators.kernels import disc_kernel, gaussian_kernel, motion_kernel
from mezzotint.restore.operators.operator import LinearOperator
from mezzotint.restore.operators.paired import need_images, need_wide
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = ["Blur", "ReflectBlur"]


class _Kernel(LinearOperator):
    """What both boundaries share: the kernel, and the usual ones by name."""

    kernel: Tensor

    def __init__(self, kernel: Float[Tensor, "k l"]) -> None:
        super().__init__()
        if not isinstance(kernel, Tensor) or kernel.is_complex() or kernel.ndim != 2 or kernel.numel() == 0:
            shown = tuple(kernel.shape) if isinstance(kernel, Tensor) else type(kernel).__name__
            raise ValueError(f"{type(self).__name__} got {shown}; expected a real kernel (rows, columns)")
        if not all(side % 2 for side in kernel.shape):
            raise ValueError(
                f"{type(self).__name__} got a kernel of {tuple(kernel.shape)}; expected odd sides, so that it has a "
                "middle; pad it with a row or column of zeros"
            )
        if not bool(torch.isfinite(kernel).all()) or not bool(kernel.any()):
            raise ValueError(f"{type(self).__name__} got a kernel that is all 0, or holds NaN or infinity")
        self.register_buffer("kernel", kernel.detach().clone())

    @classmethod
    def gaussian(cls, std: float | int, size: int | None = None):
        """With `gaussian_kernel`."""
        return cls(gaussian_kernel(std, size))

    @classmethod
    def motion(cls, length: float | int, angle: float | int = 0):
        """With `motion_kernel`."""
        return cls(motion_kernel(length, angle))

    @classmethod
    def disc(cls, radius: float | int):
        """With `disc_kernel`."""
        return cls(disc_kernel(radius))

    @abstractmethod
    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]: ...

    def _fits(self, x: Tensor) -> None:
        need_images(x, type(self).__name__)
        if any(k > n for k, n in zip(self.kernel.shape, x.shape[-2:], strict=True)):
            raise ValueError(
                f"{type(self).__name__} got images of {tuple(x.shape[-2:])}, smaller than its kernel, "
                f"{tuple(self.kernel.shape)}; take a smaller kernel or a larger image"
            )


class Blur(SpectralOperator, _Kernel):
    """y = kernel * x, with the image continued periodically: diagonal in the Fourier transform.

    With the unitary transform F, kernel spectrum K = |K| e^(i p): V = F*, s = |K|, U = F* e^(i p).

    Args:
        kernel: (rows, columns), odd sides, at most the image's size.

    Raises:
        ValueError: for no such kernel; when called, for an image that is smaller.

    Source: arXiv 2406.11138, deblurring (A* by conj(K), A+ by conj(K) / |K|^2 on its support).

    >>> Blur(torch.tensor([[0.5, 0.0, 0.5]]))(torch.tensor([[[[4.0, 0.0, 0.0, 0.0]]]])).round(decimals=4).tolist()
    [[[[0.0, 2.0, 0.0, 2.0]]]]
    """

    def __init__(self, kernel: Float[Tensor, "k l"]) -> None:
        _Kernel.__init__(self, kernel)

    def _transfer(self, like: Tensor) -> Tensor:
        """K, (h, w) complex, made in float64."""
        h, w = like.shape[-2:]
        real = like.real.dtype if like.is_complex() else like.dtype
        tall, wide = self.kernel.shape
        padded = F.pad(self.kernel.to(like.device, torch.float64), (0, w - wide, 0, h - tall))
        transfer = torch.fft.fft2(padded.roll((-(tall // 2), -(wide // 2)), (0, 1)))
        return transfer.to(torch.promote_types(real, torch.complex64))

    def _phase(self, like: Tensor) -> Tensor:
        k = self._transfer(like)
        size = k.abs()
        return torch.where(size > 0, k / size.where(size > 0, torch.ones_like(size)), torch.ones_like(k))

    def singulars(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "..."]:
        """|K|, (1, 1, h, w)."""
        return self._transfer(x).abs()[None, None]

    def to_spectrum(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """F x, complex."""
        self._fits(x)
        need_wide(x, "Blur")
        return torch.fft.fft2(x, norm="ortho")

    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b c h w"]:
        """F* k."""
        return torch.fft.ifft2(k, norm="ortho").real

    def measured_to_spectrum(self, y: Float[Tensor, "b c h w"]) -> Tensor:
        """e^(-i p) F y."""
        k = self.to_spectrum(y)
        return torch.where(self.seen(self.singulars(y)), self._phase(k).conj() * k, torch.zeros_like(k))

    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b c h w"]:
        """F* e^(i p) k."""
        return self.from_spectrum(self._phase(k) * k)


class ReflectBlur(_Kernel):
    """y = kernel * x, with the image mirrored at its border (the border pixel once): as photographs are blurred.

    Args:
        kernel: (rows, columns), odd sides, at most the image's size.

    Raises:
        ValueError: for no such kernel; when called, for an image that is smaller.

    >>> ReflectBlur(torch.tensor([[0.5, 0.0, 0.5]]))(torch.tensor([[[[4.0, 0.0, 2.0]]]])).tolist()
    [[[[0.0, 3.0, 0.0]]]]
    """

    @property
    def _pads(self) -> tuple[int, int, int, int]:
        tall, wide = self.kernel.shape
        return wide // 2, wide // 2, tall // 2, tall // 2

    def _weights(self, like: Tensor) -> Tensor:
        """A convolution's kernel for each channel (which torch correlates: so flipped)."""
        return self.kernel.to(like).flip(0, 1)[None, None].expand(like.shape[1], 1, *self.kernel.shape)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """See LinearOperator."""
        self._fits(x)
        return F.conv2d(F.pad(x, self._pads, mode="reflect"), self._weights(x), groups=x.shape[1])

    def adjoint(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The correlation, with what fell beyond the border mirrored back onto the image."""
        self._fits(y)
        wide = F.conv_transpose2d(y, self._weights(y), groups=y.shape[1])
        left, _, top, _ = self._pads
        return _folded(_folded(wide, -1, left), -2, top)


def _folded(x: Tensor, axis: int, pad: int) -> Tensor:
    """The adjoint of mirroring `pad` entries at both ends of an axis."""
    if pad == 0:
        return x
    n = x.shape[axis] - 2 * pad
    inside = x.narrow(axis, pad, n).clone()
    inside.narrow(axis, 1, pad).add_(x.narrow(axis, 0, pad).flip(axis))
    inside.narrow(axis, n - 1 - pad, pad).add_(x.narrow(axis, n + pad, pad).flip(axis))
    return inside
