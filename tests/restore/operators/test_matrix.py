"""The operator given by its matrix, against the matrix itself."""

from __future__ import annotations

import pytest
import torch

from mezzotint.restore.operators import Matrix

F64 = torch.float64
DRAW = torch.Generator().manual_seed(3)
CASES = {
    "wide": torch.randn(3, 6, generator=DRAW, dtype=F64),
    "tall": torch.randn(7, 6, generator=DRAW, dtype=F64),
    "rank 2": torch.randn(5, 2, generator=DRAW, dtype=F64) @ torch.randn(2, 6, generator=DRAW, dtype=F64),
    "nothing": torch.zeros(2, 6, dtype=F64),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_matrix(name, draw):
    m = CASES[name]
    a = Matrix(m, (2, 3))
    x, y = draw(4, 2, 3), draw(4, len(m))
    flat = x.flatten(1)
    torch.testing.assert_close(a(x), flat @ m.T, rtol=0, atol=1e-12)
    torch.testing.assert_close(a.adjoint(y).flatten(1), y @ m, rtol=0, atol=1e-12)
    torch.testing.assert_close(a.pinv(y).flatten(1), y @ torch.linalg.pinv(m).T, rtol=0, atol=1e-11)
    covariance = 0.7 * m @ m.T + 0.2 * torch.eye(len(m), dtype=F64)
    torch.testing.assert_close(a.solve(y, 0.7, 0.2), torch.linalg.solve(covariance, y.T).T, rtol=0, atol=1e-11)
    torch.testing.assert_close(a(a.pinv(a(x))), a(x), rtol=0, atol=1e-11)


def test_wrong_shapes_are_told(unchecked):
    a = Matrix(CASES["wide"], (2, 3))
    with pytest.raises(ValueError, match=r"images of shape \(3, 2\); expected \(2, 3\)"):
        a(torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match=r"measurements of shape \(4,\); expected \(3,\)"):
        a.adjoint(torch.zeros(1, 4))
    with pytest.raises(ValueError, match="6 columns but images"):
        Matrix(CASES["wide"], (4, 2))
    with pytest.raises(ValueError, match=r"expected a tensor \(m, n\)"):
        Matrix(torch.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        Matrix(torch.full((1, 2), torch.nan))
