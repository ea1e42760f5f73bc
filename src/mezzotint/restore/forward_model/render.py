"""Volume rendering: what a camera sees of a field of density and colour, in the plane and in space."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.forward_model.model import ForwardModel

__all__ = ["Field", "Rendering", "VolumeRender", "VolumeRender2D", "VolumeRender3D", "composite", "look_at"]

Field = Callable[[Tensor], tuple[Tensor, Tensor]]
"""points (b, n, 2 or 3) -> density (b, n) >= 0 and colour (b, n, c)."""


@dataclass(frozen=True)
class Rendering:
    """What a camera sees.

    Args:
        colour: (b, c, *pixels).
        opacity: (b, *pixels), the sum of the weights.
        depth: (b, *pixels), the expected distance along the ray (of what is opaque).
    """

    colour: Tensor
    opacity: Tensor
    depth: Tensor


def composite(
    density: Float[Tensor, "b r n"],
    colour: Float[Tensor, "b r n c"],
    z: Float[Tensor, " n"],
    background: Tensor | float,
) -> tuple[Float[Tensor, "b r c"], Float[Tensor, "b r"], Float[Tensor, "b r"]]:
    """Emission and absorption along rays: w_i = (1 - e^(-k_i d_i)) prod_{j<i} e^(-k_j d_j); sum w c + (1 - sum w) bg.

    Args:
        density: k at n samples of each ray.
        colour: there.
        z: distances along the ray, rising; d_i = z_(i+1) - z_i, and the last interval is repeated.
        background: a number or (c,).

    Returns:
        colour, opacity and expected distance.

    Source: arXiv 2306.11719, section 4 (released code); 2003.08934, equation 3.
    """
    d = torch.cat([z.diff(), z.diff()[-1:]])
    passed = torch.exp(-density * d)
    through = torch.cumprod(torch.cat([torch.ones_like(passed[..., :1]), passed], -1), -1)
    weights = through[..., :-1] - through[..., 1:]
    seen = (weights[..., None] * colour).sum(-2) + through[..., -1:] * background
    return seen, 1 - through[..., -1], (weights * z).sum(-1)


class VolumeRender(ForwardModel):
    """Rays through a field, sampled at equal distances between near and far.

    Args:
        samples: along each ray, at least 2 (released code: 64, and as many by importance, which we leave out).
        near, far: distances.
        background: colour behind everything.

    Positions are fixed (our choice), so that an observation is a function of signal and camera alone.
    """

    def __init__(self, samples: int, near: float, far: float, background: float = 1.0) -> None:
        super().__init__()
        if samples < 2 or not 0 <= near < far < math.inf:
            raise ValueError(f"samples={samples}, near={near}, far={far}; expected samples >= 2 and 0 <= near < far")
        self.samples, self.near, self.far, self.background = samples, near, far, background

    @abstractmethod
    def rays(self, phi: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and unit directions, (b, *pixels, d)."""

    def render(self, field: Field, phi: Tensor) -> Rendering:
        """Colour, opacity and depth."""
        origins, directions = self.rays(phi)
        step = (self.far - self.near) / self.samples
        z = self.near + step * (torch.arange(self.samples, device=phi.device, dtype=origins.dtype) + 0.5)
        b, *pixels, dim = origins.shape
        points = origins.unsqueeze(-2) + z[:, None] * directions.unsqueeze(-2)
        density, colour = field(points.reshape(b, -1, dim))
        rays = math.prod(pixels)
        seen, opacity, depth = composite(
            density.view(b, rays, -1), colour.reshape(b, rays, self.samples, -1), z, self.background
        )
        return Rendering(seen.transpose(1, 2).reshape(b, -1, *pixels), opacity.view(b, *pixels), depth.view(b, *pixels))

    def forward(self, signal: Field, phi: Tensor) -> Float[Tensor, "b c *pixels"]:
        """The colour."""
        return self.render(signal, phi).colour


class VolumeRender2D(VolumeRender):
    """Flatland: a camera on a circle about the origin, looking inwards, sees a line of pixels. phi (b,): its angle.

    Args:
        width: pixels.
        radius: of the circle.
        view: full opening angle, radians, below pi.
        samples, near, far, background: see VolumeRender.

    >>> def empty(points): return points[..., 0] * 0, points.new_zeros(*points.shape[:2], 3)
    >>> seen = VolumeRender2D(4, radius=2.0, view=1.0, samples=8, near=1.0, far=3.0)(empty, torch.zeros(1))
    >>> seen.shape, seen.min().item()
    (torch.Size([1, 3, 4]), 1.0)
    """

    def __init__(
        self, width: int, radius: float, view: float, samples: int, near: float, far: float, background: float = 1.0
    ) -> None:
        super().__init__(samples, near, far, background)
        if width < 1 or not radius > 0 or not 0 < view < math.pi:
            raise ValueError(
                f"width={width}, radius={radius}, view={view}; expected width >= 1, radius > 0, 0 < view < pi"
            )
        self.width, self.radius, self.view = width, radius, view

    @property
    def focal(self) -> float:
        """Distance of the image line from the camera, in half widths."""
        return 1 / math.tan(self.view / 2)

    def rays(self, phi: Float[Tensor, " b"]) -> tuple[Float[Tensor, "b w 2"], Float[Tensor, "b w 2"]]:
        """See VolumeRender.rays."""
        centre = torch.stack([phi.cos(), phi.sin()], -1)
        across = torch.stack([-phi.sin(), phi.cos()], -1)
        u = (torch.arange(self.width, device=phi.device, dtype=phi.dtype) + 0.5) / self.width * 2 - 1
        along = -self.focal * centre[:, None] + u[:, None] * across[:, None]
        directions = along / along.norm(dim=-1, keepdim=True)
        return (self.radius * centre)[:, None].expand_as(directions), directions

    def project(self, points: Float[Tensor, "b n 2"], phi: Float[Tensor, " b"]) -> tuple[Tensor, Tensor]:
        """Where a camera sees points: place across, in [-1, 1] where it is in view, and distance ahead, (b, n)."""
        centre = torch.stack([phi.cos(), phi.sin()], -1)[:, None]
        across = torch.stack([-phi.sin(), phi.cos()], -1)[:, None]
        ahead = self.radius - (points * centre).sum(-1)
        return self.focal * (points * across).sum(-1) / ahead.clamp_min(1e-6), ahead


class VolumeRender3D(VolumeRender):
    """A pinhole camera in space. phi (b, 3, 4): camera to world [R | o], looking along its -z, x right, y up.

    Args:
        height, width: pixels; the shorter side spans the opening angle.
        view: that angle, radians, below pi.
        samples, near, far, background: see VolumeRender.
    """

    def __init__(
        self, height: int, width: int, view: float, samples: int, near: float, far: float, background: float = 1.0
    ) -> None:
        super().__init__(samples, near, far, background)
        if min(height, width) < 1 or not 0 < view < math.pi:
            raise ValueError(f"height={height}, width={width}, view={view}; expected sizes >= 1 and 0 < view < pi")
        self.height, self.width, self.view = height, width, view

    def rays(self, phi: Float[Tensor, "b 3 4"]) -> tuple[Float[Tensor, "b h w 3"], Float[Tensor, "b h w 3"]]:
        """See VolumeRender.rays."""
        if phi.shape[1:] != (3, 4):
            raise ValueError(f"cameras have shape {tuple(phi.shape)}; expected (b, 3, 4), camera to world [R | o]")
        short = min(self.height, self.width)
        v, u = (
            (2 * torch.arange(n, device=phi.device, dtype=phi.dtype) + 1 - n) / short for n in (self.height, self.width)
        )
        y, x = torch.meshgrid(-v, u, indexing="ij")
        local = torch.stack([x, y, torch.full_like(x, -1 / math.tan(self.view / 2))], -1)
        directions = torch.einsum("bij,hwj->bhwi", phi[:, :, :3], local / local.norm(dim=-1, keepdim=True))
        return phi[:, None, None, :, 3].expand_as(directions), directions

    def project(
        self, points: Float[Tensor, "b n 3"], phi: Float[Tensor, "b 3 4"]
    ) -> tuple[Float[Tensor, "b n 2"], Float[Tensor, "b n"]]:
        """Where a camera sees points: pixels (row, column), the first pixel covers [0, 1); and distance ahead."""
        local = torch.einsum("bji,bnj->bni", phi[:, :, :3], points - phi[:, None, :, 3])
        x, y, ahead = local[..., 0], local[..., 1], -local[..., 2]
        scale = min(self.height, self.width) / (2 * math.tan(self.view / 2)) / ahead.clamp_min(1e-6)
        return torch.stack([self.height / 2 - y * scale, self.width / 2 + x * scale], -1), ahead


def look_at(eye: Float[Tensor, "b 3"], target: Float[Tensor, "b 3"], up: Float[Tensor, "3"]) -> Float[Tensor, "b 3 4"]:
    """Camera to world [R | o] of a camera at `eye` that looks at `target`: its -z points there.

    Raises:
        ValueError: where it looks along `up`, or at itself.
    """
    back = eye - target
    right = torch.linalg.cross(up.expand_as(back), back)
    if bool((right.norm(dim=-1) < 1e-8).any()):
        raise ValueError("a camera looks along `up`, or eye and target coincide; choose another up")
    right, back = right / right.norm(dim=-1, keepdim=True), back / back.norm(dim=-1, keepdim=True)
    return torch.stack([right, torch.linalg.cross(back, right), back, eye], -1)
