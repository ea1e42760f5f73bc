"""Flatland: coloured discs in the plane, and what a camera in the plane sees of them: a line of pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Noise, fold
from mezzotint.objective.batch import Batch
from mezzotint.restore.forward_model import VolumeRender2D

__all__ = ["Discs", "FlatlandViews", "flatland_camera"]

_DENSITY, _EDGE = 25.0, 0.05


def flatland_camera(width: int = 32, samples: int = 24) -> VolumeRender2D:
    """The camera of the demonstrations: at distance 2.5 of the origin, all discs in view, on white ground."""
    return VolumeRender2D(width, radius=2.5, view=1.0, samples=samples, near=1.3, far=3.7, background=1.0)


@dataclass(frozen=True)
class Discs:
    """A field of discs: opaque inside, nothing outside, over an edge of 0.05.

    Args:
        centre: (b, k, 2).
        radius: (b, k); 0: no disc.
        colour: (b, k, 3) in [-1, 1].
    """

    centre: Tensor
    radius: Tensor
    colour: Tensor

    def __call__(self, points: Float[Tensor, "b n 2"]) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3"]]:
        """Density and colour."""
        inside = self.radius[:, None] - (points[:, :, None] - self.centre[:, None]).norm(dim=-1)
        share = (inside / _EDGE + 0.5).clamp(0, 1) * (self.radius > 0)[:, None]
        density = share.sum(-1)
        colour = (share[..., None] * self.colour[:, None]).sum(-2) / density.clamp_min(1e-6)[..., None]
        return _DENSITY * density.clamp_max(1), colour

    @classmethod
    def draw(cls, noise: Noise) -> Discs:
        """2 to 4 discs a seed, of radius 0.15 to 0.35 within the unit circle, in saturated colours (our choice)."""
        u = noise.uniform("discs", 0, (4, 5)).float()
        count = 2 + (noise.uniform("count", 0) * 3).long().clamp_max(2)
        radius = (0.15 + 0.2 * u[..., 0]) * (torch.arange(4) < count[:, None])
        angle, far = 2 * math.pi * u[..., 1], (1 - radius) * u[..., 2].sqrt()
        centre = torch.stack([angle.cos(), angle.sin()], -1) * far[..., None]
        hue = 2 * math.pi * u[..., 3]
        colour = torch.stack([(hue + shift).cos() for shift in (0.0, 2.0944, 4.1888)], -1)
        return cls(centre, radius, (colour * (0.6 + 0.4 * u[..., 4:])).clamp(-1, 1))


@dataclass(frozen=True)
class FlatlandViews:
    """step -> three views of each of `batch` scenes, a pure function of (seed, step): context, target, novel.

    The target is 60 to 120 degrees from the context, to either side, the novel view anywhere. A batch is the target,
    with a condition "context", "context_phi", "phi", "novel", "novel_phi"; scenes are never part of it.

    Args:
        batch: scenes a step.
        seed: of the data.
        camera: None: `flatland_camera()`.

    >>> FlatlandViews(2)(0).c["novel"].shape
    torch.Size([2, 3, 32])
    """

    batch: int
    seed: int = 0
    camera: VolumeRender2D | None = None

    def scenes(self, step: int) -> tuple[Discs, Noise]:
        """The scenes of a step, and their seeds."""
        noise = Noise([fold(self.seed, "flatland", step, i) for i in range(self.batch)])
        return Discs.draw(noise), noise

    @torch.no_grad()
    def __call__(self, step: int) -> Batch:
        camera = self.camera or flatland_camera()
        scenes, noise = self.scenes(step)
        u = noise.uniform("views", 0, (4,)).float()
        context = 2 * math.pi * u[:, 0]
        apart = math.pi / 3 * (1 + u[:, 1])
        target = context + torch.where(u[:, 2] < 0.5, -apart, apart)
        novel = 2 * math.pi * u[:, 3]
        seen = [camera(scenes, phi) for phi in (context, target, novel)]
        told = {"context": seen[0], "context_phi": context, "phi": target, "novel": seen[2], "novel_phi": novel}
        return Batch(seen[1], Condition(told))
