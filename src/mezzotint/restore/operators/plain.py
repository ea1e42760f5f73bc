"""All of an image, a window of it, several measurements of it, and random ones."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.restore.operators.matrix import Matrix
from mezzotint.restore.operators.operator import LinearOperator
from mezzotint.restore.operators.paired import need_images
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = ["Crop", "Identity", "Stack", "random_projection"]


class Identity(SpectralOperator):
    """y = x: denoising.

    >>> Identity().pinv(torch.ones(1, 2)).tolist()
    [[1.0, 1.0]]
    """

    def singulars(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "..."]:
        """1."""
        return torch.ones(1, *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)

    def to_spectrum(self, x: Float[Tensor, "b *s"]) -> Tensor:
        """x."""
        return x

    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b *s"]:
        """k."""
        return k

    def measured_to_spectrum(self, y: Float[Tensor, "b *m"]) -> Tensor:
        """y."""
        return y

    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b *m"]:
        """k."""
        return k


class Crop(LinearOperator):
    """y = a window of the image; A* = A+ puts it back on 0: outpainting, and tiles of what a larger operator sees.

    Args:
        top, left, height, width: of the window, pixels.
        size: (height, width) of the image.

    Raises:
        ValueError: for a window outside of the image; when called, for images or windows of another size.

    >>> Crop(0, 1, 1, 1, size=(1, 2)).adjoint(torch.tensor([[[[3.0]]]])).tolist()
    [[[[0.0, 3.0]]]]
    """

    def __init__(self, top: int, left: int, height: int, width: int, *, size: tuple[int, int]) -> None:
        super().__init__()
        if min(top, left) < 0 or min(height, width) < 1 or top + height > size[0] or left + width > size[1]:
            raise ValueError(
                f"a window of {height} x {width} at ({top}, {left}) does not lie inside {size[0]} x {size[1]}"
            )
        self.top, self.left, self.height, self.width, self.size = top, left, height, width, size

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        """See LinearOperator."""
        need_images(x, "Crop", self.size)
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def adjoint(self, y: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c h w"]:
        """See LinearOperator."""
        need_images(y, "Crop", (self.height, self.width))
        right, bottom = self.size[1] - self.left - self.width, self.size[0] - self.top - self.height
        return torch.nn.functional.pad(y, (self.left, right, self.top, bottom))

    def pinv(self, y: Float[Tensor, "b c i j"]) -> Float[Tensor, "b c h w"]:
        """The adjoint."""
        return self.adjoint(y)


class Stack(LinearOperator):
    """y = (A_1 x, A_2 x, ...), flattened and laid end to end: several measurements of one image.

    Weigh them by `Scale` where their noise differs: a restorer takes one std for all.

    Args:
        operators: linear, of the same images.
        shape: of an image, without the batch.

    Raises:
        ValueError: for none, or one that is not linear; when called, for a measurement of another length.

    >>> Stack([Identity(), Identity()], (2,)).pinv(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist()
    [[2.0, 3.0]]
    """

    def __init__(self, operators: list[LinearOperator], shape: tuple[int, ...]) -> None:
        super().__init__()
        if not operators or not all(isinstance(a, LinearOperator) for a in operators):
            raise ValueError("Stack needs one or more linear operators")
        self.operators, self.shape = torch.nn.ModuleList(operators), tuple(shape)
        example = torch.zeros(1, *self.shape)
        self.parts = [tuple(a(example).shape[1:]) for a in operators]
        self.lengths = [torch.Size(part).numel() for part in self.parts]

    def forward(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b m"]:
        """See LinearOperator."""
        return torch.cat([a(x).flatten(1) for a in self.operators], 1)

    def adjoint(self, y: Float[Tensor, "b m"]) -> Float[Tensor, "b *s"]:
        """The sum of the adjoints."""
        if y.ndim != 2 or y.shape[1] != sum(self.lengths):
            raise ValueError(f"Stack got a measurement of shape {tuple(y.shape)}; expected (b, {sum(self.lengths)})")
        made = [
            a.adjoint(part.view(len(y), *shape))  # type: ignore[operator,attr-defined]
            for a, part, shape in zip(self.operators, y.split(self.lengths, 1), self.parts, strict=True)
        ]
        return torch.stack(made).sum(0)


def random_projection(noise: Noise, rows: int, shape: tuple[int, ...]) -> Matrix:
    """Compressed sensing: orthonormal rows in random directions, by one seed.

    Args:
        noise: one seed.
        rows: measurements, at most as many as an image has numbers.
        shape: of an image.

    Raises:
        ValueError: for another number of seeds, or too many rows.
    """
    n = torch.Size(shape).numel()
    if len(noise) != 1 or not 1 <= rows <= n:
        raise ValueError(f"a projection takes one seed and 1 to {n} rows; got {len(noise)} seeds, rows={rows}")
    q, r = torch.linalg.qr(noise("projection", 0, (n, rows), dtype=torch.float64)[0])
    return Matrix((q * torch.sign(torch.diagonal(r))).T, shape)
