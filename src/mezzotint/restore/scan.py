"""Scans as scanners would have measured them: accelerated MRI and sparse CT of slices that are known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Gaussian, Noise
from mezzotint.restore.operators import AsComplex, LinearOperator, MultiCoil, Radon, cartesian_mask, coil_maps

__all__ = ["SCANS", "Scan", "ScanTask", "ct_scan", "mri_scan", "slice_prior"]

_MOST = 4096  # pixels whose covariance is still an ordinary matrix


@dataclass(frozen=True)
class ScanTask:
    """What `mezzotint restore --list` tells of a scan.

    Args:
        name: as on the command line.
        degradation: the formula.
        methods: that suit, the best first.
        metrics: what to report.
        data: public sets that the literature uses.
    """

    name: str
    degradation: str
    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    data: tuple[str, ...]


SCANS = {
    task.name: task
    for task in (
        ScanTask("mri", "y = mask fourier(coils x) + n", ("moment", "pigdm", "diffpir", "red-diff"),
                 ("psnr", "ssim", "nmse"), ("fastMRI", "BraTS", "SKM-TEA")),
        ScanTask("ct", "y = radon(x) + n", ("moment", "pigdm", "diffpir", "red-diff"),
                 ("psnr", "ssim", "nmse", "mae"), ("LoDoPaB-CT", "AAPM low dose", "LIDC-IDRI")),
    )
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scan:
    """A measurement of slices.

    Args:
        operator: A, of slices (d, 1, h, w) in [-1, 1].
        y: A x + std n.
        std: of its noise.
        plain: what is made of it without a prior, (d, 1, h, w).
    """

    operator: LinearOperator
    y: Tensor
    std: float
    plain: Tensor


def mri_scan(
    x: Float[Tensor, "d 1 h w"], noise: Noise, *, acceleration: float | int = 4, coils: int = 4, std: float | int = 0.02
) -> Scan:
    """Cartesian k-space of several coils, every slice by its own mask; plain is the coils' adjoint.

    Args:
        x: slices in [-1, 1].
        noise: one seed a slice.
        acceleration: R >= 1: one of R columns is sampled.
        coils: >= 1, on a ring.
        std: of the noise in k-space, of the orthonormal transform, >= 0.

    Raises:
        ValueError: for values outside these ranges.

    Source: arXiv 2211.07804, reconstruction; fastMRI's masks (arXiv 1811.08839).

    >>> mri_scan(torch.zeros(2, 1, 16, 16), Noise([0, 1])).y.shape
    torch.Size([2, 8, 16, 16])
    """
    _check(std)
    if coils < 1:
        raise ValueError(f"an MRI scan got coils={coils}; expected 1 or more")
    size = (x.shape[-2], x.shape[-1])
    operator = MultiCoil(coil_maps(size, coils), cartesian_mask(size, acceleration, noise)) @ AsComplex()
    assert isinstance(operator, LinearOperator)
    y = operator(x)
    y = y + std * (y != 0) * noise("measured", 0, tuple(y.shape[1:]))
    return Scan(operator, y, float(std), operator.adjoint(y))


def ct_scan(
    x: Float[Tensor, "d 1 h w"], noise: Noise, *, views: int = 20, span: float | int = 180, std: float | int = 0.2
) -> Scan:
    """Parallel rays through a density that is (x + 1) / 2, 0 in air; plain is filtered back-projection.

    What rays say of x itself is y = 2 rays - A 1.

    Args:
        x: slices in [-1, 1].
        noise: one seed a slice.
        views: >= 1 angles.
        span: degrees in (0, 180]; below 180 the angle is limited.
        std: of the noise of the line integrals, density times pixels, >= 0.

    Raises:
        ValueError: for values outside these ranges.

    Source: arXiv 2211.07804, reconstruction.

    >>> ct_scan(torch.zeros(2, 1, 16, 16), Noise([0, 1]), views=5).y.shape[:3]
    torch.Size([2, 1, 5])
    """
    _check(std)
    if views < 1 or not 0 < span <= 180:
        raise ValueError(f"a CT scan got views={views}, span={span}; expected 1 or more, over degrees in (0, 180]")
    size = (x.shape[-2], x.shape[-1])
    radon = Radon.sparse(views, size) if span == 180 else Radon.limited(views, size, 0, span)
    rays = radon((x + 1) / 2)
    rays = rays + std * noise("measured", 0, tuple(rays.shape[1:]))
    return Scan(radon, 2 * rays - radon(torch.ones_like(x)), 2 * float(std), 2 * radon.fbp(rays) - 1)


def slice_prior(slices: Float[Tensor, "n 1 h w"], shrink: float | int = 0.02) -> Gaussian:
    """N(mean, C) of slices, C = (1 - shrink) cov + shrink (mean variance) I: the simplest prior that scans give.

    Its denoiser and its posterior are known exactly, and small scans need no network.

    Args:
        slices: of other patients, in [-1, 1], n >= 2.
        shrink: in (0, 1]; as there are fewer slices than pixels, without it most directions would have no variance.

    Raises:
        ValueError: for fewer slices, more than 4096 pixels, a shrink outside its range, or values that are not finite.

    >>> slice_prior(torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))).cov.shape
    torch.Size([16, 16])
    """
    n, _, h, w = slices.shape
    if n < 2 or h * w > _MOST or not 0 < shrink <= 1:
        raise ValueError(
            f"a Gaussian prior got {n} slices of {h} x {w} and shrink={shrink}; expected 2 or more, of {_MOST} pixels "
            "at most (for larger ones take a network), and a share in (0, 1]"
        )
    if not bool(torch.isfinite(slices).all()):
        raise ValueError("a Gaussian prior got slices with NaN or infinity")
    x = slices.flatten(1).double()
    cov = x.T.cov()
    level = cov.diagonal().mean().clamp_min(1e-12)
    cov = (1 - shrink) * cov + shrink * level * torch.eye(len(cov), dtype=torch.float64)
    return Gaussian(x.mean(0).view(1, h, w), cov)


def _check(std: float | int) -> None:
    if not 0 <= std < float("inf"):
        raise ValueError(f"the noise of a scan has std={std}; expected a finite number >= 0")
