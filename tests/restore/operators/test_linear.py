"""Every linear operator against the matrix it is: adjoint, pseudo-inverse, solve, spectrum. New ones join LINEAR."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.restore import operators as ops
from mezzotint.restore.operators import LinearOperator, SpectralOperator

WIDE = torch.float64
G = torch.Generator().manual_seed(0)
KERNEL = torch.rand(3, 5, generator=G) + 0.1
SKEW = KERNEL / KERNEL.sum()

LINEAR: dict[str, tuple[Callable[[], ops.LinearOperator], tuple[int, ...]]] = {
    "identity": (ops.Identity, (2, 3, 3)),
    "mask": (lambda: ops.Mask(ops.box_mask(4, 5, (1, 1, 2, 3))), (2, 4, 5)),
    "mask of each channel": (lambda: ops.Mask(torch.rand(2, 4, 4, generator=G) > 0.5), (2, 4, 4)),
    "matrix": (lambda: ops.Matrix(torch.rand(3, 8, generator=G), (2, 2, 2)), (2, 2, 2)),
    "projection": (lambda: ops.random_projection(Noise([3]), 5, (1, 3, 4)), (1, 3, 4)),
    "pool": (lambda: ops.AveragePool(2), (2, 4, 6)),
    "bicubic": (lambda: ops.Resize(2), (1, 6, 8)),
    "bicubic by 1.5": (lambda: ops.Resize(1.5), (1, 6, 9)),
    "bilinear": (lambda: ops.Resize(3, "bilinear"), (1, 6, 6)),
    "area by 1.5": (lambda: ops.Resize(1.5, "area"), (1, 6, 6)),
    "larger": (lambda: ops.Resize(0.5), (1, 4, 3)),
    "blur": (lambda: ops.Blur(SKEW), (2, 5, 6)),
    "gaussian blur": (lambda: ops.Blur.gaussian(1.0, 5), (1, 6, 6)),
    "mirrored blur": (lambda: ops.ReflectBlur(SKEW), (2, 5, 6)),
    "mirrored blur, as large as the image": (lambda: ops.ReflectBlur(torch.rand(5, 5, generator=G)), (1, 5, 5)),
    "grey": (ops.Decolorise, (3, 2, 3)),
    "luma": (lambda: ops.Decolorise(ops.LUMA), (3, 2, 3)),
    "bayer": (lambda: ops.Bayer("GRBG"), (3, 4, 5)),
    "crop": (lambda: ops.Crop(1, 0, 2, 3, size=(4, 5)), (2, 4, 5)),
    "stack": (lambda: ops.Stack([ops.Identity(), ops.AveragePool(2)], (1, 4, 4)), (1, 4, 4)),
    "pool of blur": (lambda: ops.AveragePool(2) @ ops.Blur.gaussian(0.8, 3), (1, 4, 6)),
    "mask of mirrored blur": (lambda: ops.Mask(ops.box_mask(5, 5, (0, 0, 2, 2))) @ ops.ReflectBlur(SKEW), (1, 5, 5)),
    "fourier": (lambda: ops.Fourier(ops.cartesian_mask(8, 2, Noise([1]))[0, 0]), (2, 8, 8)),
    "fourier of real images": (lambda: ops.Fourier(torch.rand(6, 6, generator=G) > 0.4, real=True), (1, 6, 6)),
}


def made(name) -> tuple[LinearOperator, tuple[int, ...]]:
    build, shape = LINEAR[name]
    return build().double(), shape


def random(*shape, seed=0, dtype=WIDE):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=WIDE).to(dtype)


def matrix(a, shape):
    """Column by column."""
    n = torch.Size(shape).numel()
    return a(torch.eye(n, dtype=WIDE).view(n, *shape)).flatten(1).T


@pytest.mark.parametrize("name", LINEAR)
@pytest.mark.parametrize(("dtype", "tolerance"), [(WIDE, 1e-11), (torch.float32, 1e-5)])
def test_adjoint(name, dtype, tolerance):
    a, shape = made(name)
    x = random(3, *shape, dtype=dtype)
    ax = a(x)
    y = random(*ax.shape, seed=1, dtype=dtype)
    back = a.adjoint(y)
    assert ax.dtype == back.dtype == dtype and back.shape == x.shape
    left, right = (ax * y).flatten(1).sum(1), (x * back).flatten(1).sum(1)
    scale = float((ax.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)).max())
    torch.testing.assert_close(left, right, rtol=0, atol=tolerance * max(scale, 1))


@pytest.mark.parametrize("name", LINEAR)
def test_it_is_linear_and_rows_are_apart(name):
    a, shape = made(name)
    x, z = random(3, *shape), random(3, *shape, seed=1)
    torch.testing.assert_close(a(2 * x - 3 * z), 2 * a(x) - 3 * a(z), rtol=0, atol=1e-10)
    torch.testing.assert_close(a(x[1:2]), a(x)[1:2], rtol=0, atol=1e-12)
    y = a(x)
    torch.testing.assert_close(a.pinv(y[1:2]), a.pinv(y)[1:2], rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", LINEAR)
def test_pseudo_inverse(name):
    """The four equations of Penrose, by being the pseudo-inverse of the matrix."""
    a, shape = made(name)
    m = matrix(a, shape)
    example = a(random(2, *shape))
    y = random(*example.shape, seed=2)
    expected = (torch.linalg.pinv(m, rtol=1e-6) @ y.flatten(1).T).T.view(2, *shape)
    torch.testing.assert_close(a.pinv(y), expected, rtol=1e-6, atol=1e-7)
    x = random(2, *shape, seed=3)
    torch.testing.assert_close(a(a.pinv(a(x))), a(x), rtol=0, atol=1e-8)
    torch.testing.assert_close(a.guess(y), a.pinv(y), rtol=0, atol=0)


@pytest.mark.parametrize("name", LINEAR)
def test_solve_and_prox(name):
    a, shape = made(name)
    m = matrix(a, shape)
    gram = m @ m.T
    x = random(2, *shape, seed=1)
    y = random(*a(x).shape, seed=2)
    flat = y.flatten(1)
    eye = torch.eye(len(gram), dtype=WIDE)
    expected = torch.linalg.solve(0.7 * gram + 0.3 * eye, flat.T).T.view_as(y)
    torch.testing.assert_close(a.solve(y, 0.7, 0.3), expected, rtol=1e-7, atol=1e-8)
    each = [torch.linalg.solve(s * gram + n * eye, row) for s, n, row in zip((0.7, 2.0), (0.3, 0.1), flat, strict=True)]
    ones = [1] * (y.ndim - 1)
    signal, noise = (
        torch.tensor([0.7, 2.0], dtype=WIDE).view(2, *ones),
        torch.tensor([0.3, 0.1], dtype=WIDE).view(2, *ones),
    )
    torch.testing.assert_close(a.solve(y, signal, noise), torch.stack(each).view_as(y), rtol=1e-7, atol=1e-8)
    without = (torch.linalg.pinv(gram, rtol=1e-10) @ flat.T).T.view_as(y) / 0.7
    torch.testing.assert_close(a.solve(y, 0.7), without, rtol=1e-5, atol=1e-6)
    near = torch.linalg.solve(m.T @ m + 0.4 * torch.eye(m.shape[1], dtype=WIDE), (flat @ m + 0.4 * x.flatten(1)).T).T
    torch.testing.assert_close(a.prox(x, y, 0.4), near.view_as(x), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", [n for n, (build, _) in LINEAR.items() if isinstance(build(), SpectralOperator)])
def test_spectrum(name):
    a, shape = made(name)
    assert isinstance(a, SpectralOperator)
    x = random(2, *shape)
    k = a.to_spectrum(x)
    torch.testing.assert_close(k.abs().square().flatten(1).sum(1), x.square().flatten(1).sum(1))  # V is unitary
    torch.testing.assert_close(a.from_spectrum(k), x, rtol=0, atol=1e-12)
    s = a.singulars(x)
    torch.testing.assert_close(a.measured_from_spectrum(s * k), a(x), rtol=0, atol=1e-11)
    torch.testing.assert_close(a.measured_to_spectrum(a(x)), s * k, rtol=0, atol=1e-11)
    found = s.expand(1, *k.shape[1:]).flatten()
    found = found.repeat(x[0].numel() // len(found)).sort(descending=True).values  # a complex one counts for two
    exact = torch.linalg.svdvals(matrix(a, shape))
    torch.testing.assert_close(found[: len(exact)], exact, rtol=0, atol=1e-10)
    assert not found[len(exact) :].gt(1e-10).any()


@pytest.mark.parametrize("name", LINEAR)
def test_gradients_and_copies(name):
    a, shape = made(name)
    x = random(1, *shape).requires_grad_()
    y = random(*a(x).shape, seed=1)
    (gradient,) = torch.autograd.grad((a(x) * y).sum(), x)
    torch.testing.assert_close(gradient, a.adjoint(y), rtol=0, atol=1e-10)
    other = copy.deepcopy(a).float()
    torch.testing.assert_close(other(x.detach().float()), a(x.detach()).float(), rtol=0, atol=1e-5)
