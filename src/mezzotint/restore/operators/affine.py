"""y = B x + a with B linear; and B of the simplest kind, a gain for each pixel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.operator import LinearOperator, Operator
from mezzotint.restore.operators.spectral import SpectralOperator

__all__ = ["Affine", "Scale", "pixel_map"]


def pixel_map(value: Tensor | float | int, owner: str, name: str, least: float | int, greatest: float | int) -> Tensor:
    """A number for each pixel as (1 or b, 1 or c, h, w), or (1, 1, 1, 1) for one number.

    Raises:
        ValueError: for another shape, or values that are not finite or outside [least, greatest].
    """
    value = torch.as_tensor(value)
    if value.is_complex() or value.dtype == torch.bool or value.ndim not in (0, 2, 4):
        raise ValueError(
            f"{owner} got {name} {value.dtype} of shape {tuple(value.shape)}; expected real numbers (h, w) or "
            "(batch, channels, h, w)"
        )
    value = value if value.is_floating_point() else value.float()
    if not bool(((value >= least) & (value <= greatest)).all()):
        raise ValueError(
            f"{owner} got {name} from {float(value.min()):.4g} to {float(value.max()):.4g}; expected values in "
            f"[{least:g}, {greatest:g}]"
        )
    return value if value.ndim == 4 else value.reshape(1, 1, *(value.shape or (1, 1)))


def fits(x: Tensor, field: Tensor, owner: str) -> None:
    """Raise ValueError unless x is a real batch (b, c, h, w) with which the field can be multiplied."""
    if x.is_complex() or not x.is_floating_point() or x.ndim != 4:
        raise ValueError(
            f"{owner} got a {x.dtype} tensor of shape {tuple(x.shape)}; expected real floats (batch, channels, h, w)"
        )
    if any(n not in (1, m) for n, m in zip(field.shape, x.shape, strict=True)):
        raise ValueError(
            f"{owner} got images {tuple(x.shape)}; it was made for {tuple(field.shape)} (1 stands for any)"
        )


class Scale(SpectralOperator):
    """y = gain x, each pixel with a gain of its own, >= 0.

    Args:
        gain: a number, (h, w), or (1 or b, 1 or c, h, w); finite and >= 0.

    Raises:
        ValueError: for another gain; when called, for images that do not suit it.

    >>> Scale(torch.tensor([[0.5, 0.0]])).pinv(torch.ones(1, 1, 1, 2)).flatten().tolist()
    [2.0, 0.0]
    """

    gain: Tensor

    def __init__(self, gain: Tensor | float | int) -> None:
        super().__init__()
        self.register_buffer("gain", pixel_map(gain, "Scale", "a gain", 0, torch.finfo(torch.float32).max))

    def singulars(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "..."]:
        """The gain."""
        return self.gain.to(x)

    def to_spectrum(self, x: Float[Tensor, "b c h w"]) -> Tensor:
        """x."""
        fits(x, self.gain, type(self).__name__)
        return x

    def from_spectrum(self, k: Tensor) -> Float[Tensor, "b c h w"]:
        """k."""
        return k

    def measured_to_spectrum(self, y: Float[Tensor, "b c h w"]) -> Tensor:
        """y where the gain is not 0."""
        fits(y, self.gain, type(self).__name__)
        return torch.where(self.seen(self.gain.to(y)), y, torch.zeros_like(y))

    def measured_from_spectrum(self, k: Tensor) -> Float[Tensor, "b c h w"]:
        """k where the gain is not 0."""
        return torch.where(self.seen(self.gain.to(k)), k, torch.zeros_like(k))


class Affine(Operator):
    """y = B x + a.

    A method that needs a linear operator takes `linear_part` and `centred(y)`: y - a = B x.

    Args:
        linear_part: B.
        offset: a, which can be added to a measurement.

    >>> a = Affine(Scale(0.5), torch.tensor(0.25))
    >>> y = a(torch.ones(1, 1, 1, 1)); y.item(), a.guess(y).item()
    (0.75, 1.0)
    """

    offset: Tensor

    def __init__(self, linear_part: LinearOperator, offset: Tensor) -> None:
        super().__init__()
        if not isinstance(linear_part, LinearOperator):
            raise ValueError(f"{type(self).__name__} got {type(linear_part).__name__}; expected a LinearOperator")
        self.linear_part = linear_part
        self.register_buffer("offset", offset)

    def forward(self, x: Float[Tensor, "b *s"]) -> Float[Tensor, "b *m"]:
        """B x + a."""
        y = self.linear_part(x)
        try:
            z = y + self.offset.to(y)
        except RuntimeError:
            z = None
        if z is None or z.shape != y.shape:
            raise ValueError(
                f"{type(self).__name__} got images {tuple(x.shape)}; it was made for {tuple(self.offset.shape)} "
                "(1 stands for any)"
            )
        return z

    def centred(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *m"]:
        """y - a: what the linear part measures."""
        return y - self.offset.to(y)

    def guess(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *s"]:
        """B's guess of y - a."""
        return self.linear_part.guess(self.centred(y))
