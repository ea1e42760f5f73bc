"""Blur by a kernel that is a column times a row, with its singular value decomposition: what tiles are deblurred by."""

from __future__ import annotations

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mezzotint.restore.operators.separable import Separable

__all__ = ["SeparableBlur", "split_kernel"]

_LEAST = 1e-3  # of the largest singular value; see SeparableBlur
_RANK_ONE = 1e-6


def split_kernel(kernel: Float[Tensor, "k l"]) -> tuple[Float64[Tensor, " k"], Float64[Tensor, " l"]] | None:
    """The column and the row whose product a kernel is, or None where there are none.

    >>> split_kernel(torch.eye(3)) is None, split_kernel(torch.ones(3, 1)) is None
    (True, False)
    """
    u, s, vh = torch.linalg.svd(kernel.detach().cpu().double(), full_matrices=False)
    if len(s) > 1 and float(s[1]) > _RANK_ONE * float(s[0]):
        return None
    sign = 1.0 if float(u[:, 0].sum()) >= 0 else -1.0
    return sign * u[:, 0] * s[0].sqrt(), sign * vh[0] * s[0].sqrt()


class SeparableBlur(Separable):
    """y = (column row^T) * x, mirrored at the border (the border pixel once) as by `ReflectBlur`, with some rows and
    columns of the result left out: the part of a blurred photograph that a tile of it makes.

    As a small matrix an axis it needs no conjugate gradients, whose hundreds of products a step are most of the time
    of a tile. Singular values below 1/1000 of the largest count as 0 (our choice): beneath lies the rounding of a
    picture of 8 bits, which the pseudo-inverse would blow up.

    Args:
        column, row: odd lengths.
        margins: rows and columns left out: (top, bottom, left, right).

    Raises:
        ValueError: for even lengths or negative margins; when called, for an image smaller than the kernel.

    >>> SeparableBlur(torch.ones(1), torch.tensor([0.5, 0.0, 0.5]))(torch.tensor([[[[4.0, 0.0, 2.0]]]])).tolist()
    [[[[0.0, 3.0, 0.0]]]]
    """

    def __init__(
        self,
        column: Float[Tensor, " k"],
        row: Float[Tensor, " l"],
        margins: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:
        super().__init__()
        if len(column) % 2 == 0 or len(row) % 2 == 0:
            raise ValueError(f"SeparableBlur got {len(column)} and {len(row)} weights; expected odd numbers of them")
        if min(margins) < 0:
            raise ValueError(f"SeparableBlur got margins {margins}; expected (top, bottom, left, right), each >= 0")
        self.lines = tuple(line.detach().cpu().double() for line in (column, row))
        self.margins = (margins[:2], margins[2:])
        self._matrices: dict[tuple[int, int], Tensor] = {}

    def matrix(self, axis: int, n: int) -> Float64[Tensor, "m n"]:
        """See Separable.matrix."""
        if (axis, n) not in self._matrices:
            self._matrices[axis, n] = self._new(axis, n)
        return self._matrices[axis, n]

    def pixels(self, axis: int, m: int) -> int:
        """See Separable.pixels."""
        return m + sum(self.margins[axis])

    def seen(self, s: Tensor) -> Tensor:
        """See SpectralOperator.seen."""
        return s > _LEAST * s.max()

    def _new(self, axis: int, n: int) -> Tensor:
        line, (first, last) = self.lines[axis], self.margins[axis]
        half = len(line) // 2
        if n < len(line) or n <= first + last:
            raise ValueError(
                f"SeparableBlur got {n} pixels down or along; its kernel has {len(line)} and {first + last} are left "
                "out: take a smaller kernel or a larger image"
            )
        at = torch.arange(n)[:, None] + torch.arange(half, -half - 1, -1)  # convolution: weight j meets pixel i - j
        at = torch.where(at < 0, -at, at)
        at = torch.where(at >= n, 2 * (n - 1) - at, at)
        matrix = torch.zeros(n, n, dtype=torch.float64).scatter_add_(1, at, line.expand(n, -1).contiguous())
        return matrix[first : n - last]
