"""Forward models: what is observed of a signal, given how one looks at it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CropModel", "Decoded", "ForwardModel", "LinearModel", "MaskModel", "ParallelBeam", "Warp", "check_forward"]


class ForwardModel(nn.Module, ABC):
    """o = F(S, phi): one observation of each signal of a batch, differentiable in the signal.

    A signal is what a signal network returns: a tensor (b, *s), or an object such as a radiance field. phi, (b, *p),
    says how it is looked at: a window, an angle, a camera.

    Source: arXiv 2306.11719, section 3.
    """

    @abstractmethod
    def forward(self, signal: Any, phi: Tensor) -> Float[Tensor, "b *m"]:
        """F(S, phi), (b, *m).

        Raises:
            ValueError: for a phi that does not suit the signal.
        """

    def coverage(self, signal: Float[Tensor, "b *s"], phis: Tensor) -> float:
        """The share of a signal's elements that reach any observation: where samples say more than a mean.

        Args:
            signal: any, (b, *s).
            phis: of all observations, (b, n, *p).

        Returns:
            in [0, 1]; an element counts where the sum of the observations has a gradient with respect to it.
        """
        with torch.enable_grad():
            model, s = copy.deepcopy(self).double(), signal.detach().double().requires_grad_()
            total = s.sum() * 0
            for n in range(phis.shape[1]):
                o = model(s, phis[:, n])
                # weights without a pattern, so that contributions do not cancel
                weights = torch.linspace(1, 2, o[0].numel(), dtype=o.dtype, device=o.device).view(o.shape[1:])
                total = total + (o * weights).sum()
            (gradient,) = torch.autograd.grad(total, s)
        return float((gradient != 0).double().mean())


class LinearModel(ForwardModel):
    """o = A S with a matrix a sample: phi is A itself, (b, m, n), and S is (b, n).

    Total, that is: determining the signal, when the stacked matrices of its observations have rank n.

    >>> LinearModel()(torch.tensor([[1.0, 2.0]]), torch.tensor([[[1.0, 1.0]]])).tolist()
    [[3.0]]
    """

    def forward(self, signal: Float[Tensor, "b n"], phi: Float[Tensor, "b m n"]) -> Float[Tensor, "b m"]:
        """See ForwardModel.forward."""
        b, n = signal.shape
        if phi.ndim != 3 or phi.shape[2] != n or len(phi) not in (1, b):
            raise ValueError(f"phi has shape {tuple(phi.shape)}; expected matrices ({b}, m, {n})")
        return torch.einsum("bmn,bn->bm", phi, signal)


class CropModel(ForwardModel):
    """o = the window of an image at phi = (top, left), in pixels, (b, 2); total when the windows cover the image.

    Args:
        height, width: of the window.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        if min(height, width) < 1:
            raise ValueError(f"the window is {height} x {width}; expected at least 1 x 1")
        self.height, self.width = height, width

    def forward(self, signal: Float[Tensor, "b c h w"], phi: Tensor) -> Float[Tensor, "b c i j"]:
        """See ForwardModel.forward."""
        b, _, h, w = signal.shape
        _need_phi(phi, b, 2)
        corner = phi.to(signal.device).long()
        rows = corner[:, :1] + torch.arange(self.height, device=signal.device)
        columns = corner[:, 1:] + torch.arange(self.width, device=signal.device)
        if int(rows.min()) < 0 or int(columns.min()) < 0 or int(rows.max()) >= h or int(columns.max()) >= w:
            raise ValueError(f"a window of {self.height} x {self.width} leaves the image of {h} x {w}")
        batch = torch.arange(b, device=signal.device)[:, None, None]
        return signal.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


class MaskModel(ForwardModel):
    """o = phi S, with a mask a sample, (b, 1 or c, h, w); total when the masks cover the image."""

    def forward(self, signal: Float[Tensor, "b *s"], phi: Tensor) -> Float[Tensor, "b *s"]:
        """See ForwardModel.forward."""
        if phi.ndim != signal.ndim or any(n not in (1, m) for n, m in zip(phi.shape, signal.shape)):
            raise ValueError(f"phi has shape {tuple(phi.shape)}; expected masks {tuple(signal.shape)}, 1 for any")
        return phi.to(signal) * signal


class ParallelBeam(ForwardModel):
    """o_i = sum_j S(R_phi (i, j)): line sums of a square image at any angle phi, (b,), radians; bilinear, centred.

    At phi = 0 the columns are summed. Total with about as many distinct angles as the image has rows.

    Args:
        size: rows and columns of the image.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size={size}; expected at least 1")
        self.size = size

    def forward(self, signal: Float[Tensor, "b c n n"], phi: Float[Tensor, " b"]) -> Float[Tensor, "b c n"]:
        """See ForwardModel.forward."""
        if signal.shape[-2:] != (self.size, self.size):
            raise ValueError(f"the image is {tuple(signal.shape[-2:])}; expected {self.size} x {self.size}")
        _need_phi(phi, len(signal))
        angle = phi.to(signal).expand(len(signal))
        cos, sin = angle.cos(), angle.sin()
        zero = torch.zeros_like(cos)
        turn = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
        places = F.affine_grid(turn, [*signal.shape], align_corners=False)
        return F.grid_sample(signal, places, padding_mode="zeros", align_corners=False).sum(2)


class Warp(ForwardModel):
    """o(p) = image(p + phi S(p)): a known image moved by a flow field S, (b, 2, h, w), pixels (x, y); phi (b,) is time.

    Flat areas leave the flow free (the aperture problem): never total there.

    Args:
        image: (b or 1, c, h, w).
    """

    image: Tensor

    def __init__(self, image: Float[Tensor, "_ c h w"]) -> None:
        super().__init__()
        self.register_buffer("image", image)

    def forward(self, signal: Float[Tensor, "b 2 h w"], phi: Float[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """See ForwardModel.forward."""
        b, _, h, w = signal.shape
        _need_phi(phi, b)
        if self.image.shape[-2:] != (h, w):
            raise ValueError(f"the flow is {h} x {w} but the image {tuple(self.image.shape[-2:])}; give one size")
        y, x = torch.meshgrid(
            *(torch.arange(n, device=signal.device, dtype=signal.dtype) for n in (h, w)), indexing="ij"
        )
        moved = torch.stack([x, y]) + phi.to(signal).view(-1, 1, 1, 1) * signal
        extent = torch.tensor([w, h], device=signal.device, dtype=signal.dtype).view(1, 2, 1, 1)
        places = ((2 * moved + 1) / extent - 1).permute(0, 2, 3, 1)
        image = self.image.to(signal).expand(b, -1, -1, -1)
        return F.grid_sample(image, places, padding_mode="border", align_corners=False)


class Decoded(ForwardModel):
    """o = F(decoder(S), phi): a frozen generator before another forward model (alone: phi is not read).

    Args:
        decoder: latents -> images; a module's parameters are frozen here.
        then: what is seen of the image; None sees all.
    """

    def __init__(self, decoder: Any, then: ForwardModel | None = None) -> None:
        super().__init__()
        if isinstance(decoder, nn.Module):
            decoder.requires_grad_(False)
        self.decoder, self.then = decoder, then

    def forward(self, signal: Float[Tensor, "b *s"], phi: Tensor) -> Float[Tensor, "b *m"]:
        """See ForwardModel.forward."""
        image = self.decoder(signal)
        return image if self.then is None else self.then(image, phi)


def _need_phi(phi: Tensor, batch: int, *rest: int) -> None:
    if tuple(phi.shape[1:]) != rest or len(phi) not in (1, batch):
        raise ValueError(f"phi has shape {tuple(phi.shape)}; expected {(batch, *rest)}, a row a signal")


def check_forward(model: ForwardModel, signal: Float[Tensor, "b *s"], phi: Tensor, tolerance: float = 1e-4) -> None:
    """Compare a forward model's gradient with a finite difference, along one direction, in float64.

    Raises:
        ValueError: where there is no gradient (a cast to integers, argmax, no_grad inside) or a wrong one.
    """
    name, model, s = type(model).__name__, copy.deepcopy(model).double(), signal.detach().double().requires_grad_()
    with torch.enable_grad():
        o = model(s, phi.double() if phi.is_floating_point() else phi)
        if not o.requires_grad:
            raise ValueError(
                f"{name} has no gradient with respect to the signal; look for a cast to integers, "
                "argmax, detach or no_grad inside"
            )
        (gradient,) = torch.autograd.grad(o.square().sum(), s)
    along = torch.linspace(-1, 1, s.numel(), dtype=s.dtype, device=s.device).view(s.shape).cos()
    step = 1e-5
    with torch.no_grad():
        up, down = (
            model(s + sign * step * along, phi.double() if phi.is_floating_point() else phi) for sign in (1, -1)
        )
    expected = float((up.square().sum() - down.square().sum()) / (2 * step))
    found = float((gradient * along).sum())
    if abs(found - expected) > tolerance * max(1.0, abs(expected)):
        raise ValueError(
            f"{name} has a gradient of {found:.6g} where a finite difference gives {expected:.6g}; "
            "part of it is detached or not differentiable"
        )
