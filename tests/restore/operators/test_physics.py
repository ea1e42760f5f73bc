"""Every linear operator of physics, against the matrix that it is."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.restore.operators import (
    AsComplex,
    FanBeam,
    Fourier,
    LinearOperator,
    MultiCoil,
    Radon,
    Scale,
    cartesian_mask,
    coil_maps,
    random_mask,
)

F64 = torch.float64
SPARSE = torch.tensor([[0.5, 0.0, 1.0], [2.0, 0.25, 0.0]], dtype=F64)
CASES = {
    "Fourier": (Fourier(random_mask((4, 5), 2.0, Noise([0]))), (2, 4, 5)),
    "Fourier, two images": (Fourier(cartesian_mask((3, 6), 2.0, Noise([3]))), (4, 3, 6)),
    "Fourier of real images": (Fourier(random_mask((4, 5), 2.0, Noise([1])), real=True), (1, 4, 5)),
    "Fourier of real images, even": (Fourier(random_mask((4, 4), 1.5, Noise([2])), real=True), (2, 4, 4)),
    "MultiCoil": (MultiCoil(coil_maps((4, 6), 3).double(), cartesian_mask((4, 6), 2.0, Noise([0]))), (2, 4, 6)),
    "MultiCoil of real images": (
        MultiCoil(coil_maps((4, 4), 2).double(), cartesian_mask((4, 4), 2.0, Noise([5])))
        @ AsComplex(torch.linspace(0, 3, 16, dtype=F64).reshape(4, 4)),
        (1, 4, 4),
    ),
    "AsComplex": (AsComplex(torch.linspace(-1, 2, 6, dtype=F64).reshape(2, 3)), (2, 2, 3)),
    "Radon": (Radon([0.0, 0.4, math.pi / 2, 2.0], (4, 5)), (2, 4, 5)),
    "Radon, more data than pixels": (Radon.sparse(9, 4, 5), (1, 4, 4)),
    "FanBeam": (FanBeam([0.0, 1.0, 4.0], (5, 4), 9.0), (1, 5, 4)),
    "Scale": (Scale(SPARSE), (2, 2, 3)),
}


def dense(a: LinearOperator, shape: tuple[int, ...]) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The matrix (m, n) of an operator, and the shape of a measurement."""
    columns = a(torch.eye(math.prod(shape), dtype=F64).reshape(-1, *shape))
    return columns.flatten(1).T, tuple(columns.shape[1:])


@pytest.mark.parametrize("name", CASES)
def test_it_is_its_matrix(name, draw):
    a, shape = CASES[name]
    m, measured = dense(a, shape)
    x, y = draw(3, *shape), draw(3, *measured)
    flat = y.flatten(1)
    torch.testing.assert_close(a(x).flatten(1), x.flatten(1) @ m.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(a.adjoint(y).flatten(1), flat @ m, rtol=0, atol=1e-12)
    inverse = torch.linalg.pinv(m, rtol=1e-9)
    torch.testing.assert_close(a.pinv(y).flatten(1), flat @ inverse.T, rtol=0, atol=1e-7)
    torch.testing.assert_close(a(a.pinv(a(x))), a(x), rtol=0, atol=1e-9)
    covariance = 0.7 * m @ m.T + 0.2 * torch.eye(len(m), dtype=F64)
    solved = torch.linalg.solve(covariance, flat.T).T
    torch.testing.assert_close(a.solve(y, 0.7, 0.2).flatten(1), solved, rtol=0, atol=1e-9)
    levels = torch.tensor([0.2, 0.5, 1.0], dtype=F64).reshape(-1, *[1] * len(measured))
    torch.testing.assert_close(a.solve(y, 0.7, levels)[0].flatten(), solved[0], rtol=0, atol=1e-9)
    reached = a.solve(y, 0.7)  # of least norm, so in the range of A
    torch.testing.assert_close(0.7 * a(a.adjoint(reached)), a(a.pinv(y)), rtol=0, atol=1e-8)
    torch.testing.assert_close(a(a.pinv(reached)), reached, rtol=1e-7, atol=1e-7)
    near = torch.linalg.solve(m.T @ m + 0.3 * torch.eye(m.shape[1], dtype=F64), (flat @ m + 0.3 * x.flatten(1)).T).T
    torch.testing.assert_close(a.prox(x, y, 0.3).flatten(1), near, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_matrix_in_float32_too(name, draw):
    a, shape = CASES[name]
    x = draw(2, *shape).float().requires_grad_()
    y = a(x)
    assert y.dtype == torch.float32 and a.guess(y.detach()).shape == x.shape
    v = draw(*y.shape).float()
    (grad,) = torch.autograd.grad(y, x, v, create_graph=False)
    torch.testing.assert_close(grad, a.adjoint(v), rtol=0, atol=1e-5)
    v.requires_grad_()
    back = a.adjoint(v)
    (grad,) = torch.autograd.grad(back, v, x.detach())
    torch.testing.assert_close(grad, a(x.detach()), rtol=0, atol=1e-5)
    inner = (a(x.detach()) * v.detach()).sum() - (x.detach() * back.detach()).sum()
    assert abs(float(inner)) <= 1e-6 * float(y.detach().norm() * v.detach().norm()) + 1e-6


def test_rows_are_apart(draw):
    for a, shape in CASES.values():
        x = draw(3, *shape)
        torch.testing.assert_close(a(x)[1:2], a(x[1:2]), rtol=0, atol=1e-14)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu(name, draw):
    a, shape = CASES[name]
    b = copy.deepcopy(a).cuda()
    x = draw(2, *shape)
    y = a(x)
    torch.testing.assert_close(b(x.cuda()).cpu(), y, rtol=0, atol=1e-10)
    torch.testing.assert_close(b.adjoint(y.cuda()).cpu(), a.adjoint(y), rtol=0, atol=1e-10)
    torch.testing.assert_close(b.guess(y.cuda()).cpu(), a.guess(y), rtol=0, atol=1e-6)
    assert b(x.cuda()).is_cuda and b.guess(y.cuda()).is_cuda
