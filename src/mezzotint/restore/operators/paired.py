"""Complex images as real tensors: channels 2 i and 2 i + 1 are the real and the imaginary part of channel i."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.operator import LinearOperator

__all__ = ["AsComplex", "as_channels", "as_complex", "need_images", "need_pairs", "need_wide"]


def as_complex(x: Float[Tensor, "b c2 *s"]) -> Tensor:
    """(b, 2 c, ...) real to (b, c, ...) complex."""
    return torch.complex(x[:, 0::2].contiguous(), x[:, 1::2].contiguous())


def as_channels(z: Tensor) -> Float[Tensor, "b c2 *s"]:
    """(b, c, ...) complex to (b, 2 c, ...) real."""
    return torch.stack([z.real, z.imag], 2).flatten(1, 2)


def need_images(x: Tensor, owner: str, size: tuple[int, int] | None = None) -> None:
    """Raise ValueError unless x is a real floating-point batch (b, c, h, w), of that size where one is given."""
    if x.is_complex():
        raise ValueError(
            f"{owner} got a complex tensor; expected real ones: channels 2 i and 2 i + 1 the real and the imaginary "
            "part, as as_channels(x) makes them"
        )
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(
            f"{owner} got a {x.dtype} tensor of shape {tuple(x.shape)}; expected floats (b, channels, h, w)"
        )
    if size is not None and tuple(x.shape[-2:]) != size:
        raise ValueError(
            f"{owner} got images of {x.shape[-2]} x {x.shape[-1]} pixels; it was made for {size[0]} x {size[1]}"
        )


def need_wide(x: Tensor, owner: str) -> None:
    """Raise ValueError for half precision, in which there are no Fourier transforms and no sparse products."""
    if x.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(f"{owner} got {x.dtype} numbers; expected float32 or float64, as x.float() makes them")


def need_pairs(x: Tensor, owner: str, hint: str) -> None:
    """Raise ValueError unless the channels come in pairs."""
    if x.shape[1] % 2 or not x.shape[1]:
        raise ValueError(
            f"{owner} got {x.shape[1]} channels; expected pairs, the real and the imaginary part of each; {hint}"
        )


class AsComplex(LinearOperator):
    """A real image as a complex one: x -> x e^(i phase), as in `MultiCoil(maps, mask) @ AsComplex()`.

    A* y = Re(e^(-i phase) y), and A* A = I.

    Args:
        phase: radians, (h, w) or (1 or b, 1, h, w); None is 0.

    Raises:
        ValueError: for a phase that is not finite, or of another number of dimensions.

    >>> AsComplex()(torch.ones(1, 1, 1, 1)).flatten().tolist()
    [1.0, 0.0]
    """

    phase: Tensor

    def __init__(self, phase: Tensor | None = None) -> None:
        super().__init__()
        phase = torch.zeros(1, 1) if phase is None else phase
        if phase.ndim not in (2, 4) or not bool(torch.isfinite(phase).all()):
            raise ValueError(f"AsComplex got a phase of shape {tuple(phase.shape)}; expected finite radians (h, w)")
        self.register_buffer("phase", phase)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        """(b, c, h, w) to (b, 2 c, h, w)."""
        need_images(x, "AsComplex")
        phase = self.phase.to(x)
        return torch.stack([x * phase.cos(), x * phase.sin()], 2).flatten(1, 2)

    def adjoint(self, y: Float[Tensor, "b c2 h w"]) -> Float[Tensor, "b c h w"]:
        """See above."""
        need_images(y, "AsComplex")
        need_pairs(y, "AsComplex", "a measurement of it is a complex image")
        phase = self.phase.to(y)
        return y[:, 0::2] * phase.cos() + y[:, 1::2] * phase.sin()

    def pinv(self, y: Float[Tensor, "b c2 h w"]) -> Float[Tensor, "b c h w"]:
        """The adjoint."""
        return self.adjoint(y)

    def solve(
        self, y: Float[Tensor, "b c2 h w"], signal: float | Tensor = 1.0, noise: float | Tensor = 0.0
    ) -> Float[Tensor, "b c2 h w"]:
        """See LinearOperator.solve: A A* is the projection onto the images of that phase."""
        inside = self(self.adjoint(y))
        if not isinstance(noise, Tensor) and noise == 0:
            return inside / signal
        return inside / (signal + noise) + (y - inside) / noise
