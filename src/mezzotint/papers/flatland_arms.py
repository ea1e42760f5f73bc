"""Flatland from lines of pixels: diffusion with a forward model, its deterministic half, and diffusion of views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from mezzotint.core import Condition, Cosine, Denoiser, Noise, X0Denoiser
from mezzotint.data.flatland import Discs, FlatlandViews, flatland_camera
from mezzotint.nn.pixel_field import FlatlandNet, LineNet
from mezzotint.objective import Batch, Denoise, Objective
from mezzotint.objective.forward_model import ForwardModelLoss
from mezzotint.papers.trained import trained
from mezzotint.restore.forward_model import Field, ForwardModelDenoiser, VolumeRender2D, sample_signals
from mezzotint.sample import DDIM

__all__ = ["FlatlandArms", "energy_score", "hidden", "spread_of"]

D = TypeVar("D", bound=Denoiser)
_MOST, _BATCH = 10**6, 16


class _Views(nn.Module):
    """Diffusion of views without a field: the noisy line, the context, and the angle between the two cameras."""

    def __init__(self) -> None:
        super().__init__()
        self.net = LineNet(3 + 3 + 4, width=64, blocks=6, out=3)

    def forward(self, x: Tensor, time: Tensor, c: Condition) -> Tensor:
        apart = c["phi"] - c["context_phi"]
        code = torch.stack([apart.cos(), apart.sin(), (2 * apart).cos(), (2 * apart).sin()], 1)
        told = code[:, :, None].expand(-1, -1, x.shape[2])
        return self.net(torch.cat([x, c["context"], told], 1), time / 1000)


@dataclass(frozen=True)
class FlatlandArms:
    """What the models of one seed share: scenes, order, noise, processor seconds."""

    seed: int
    seconds: float

    def forward_model(self) -> ForwardModelDenoiser:
        """Ours: a field of the context and the noisy target."""
        camera = flatland_camera()
        return self._trained(lambda: ForwardModelDenoiser(FlatlandNet(camera), camera, Cosine()), ForwardModelLoss())

    def deterministic(self) -> ForwardModelDenoiser:
        """A field of the context alone."""
        camera = flatland_camera()
        return self._trained(
            lambda: ForwardModelDenoiser(FlatlandNet(camera, target=False), camera, Cosine()), ForwardModelLoss()
        )

    def views(self) -> X0Denoiser:
        """Diffusion of views; it learns from the target and from the novel view alike."""
        return self._trained(lambda: X0Denoiser(_Views(), Cosine()), Denoise("x0", drop=0.0), _both)

    def _trained(
        self, build: Callable[[], D], objective: Objective, change: Callable[[Batch], Batch] | None = None
    ) -> D:
        made = FlatlandViews(_BATCH, self.seed)
        batch = (lambda step: change(made(step))) if change else made
        return trained(build, objective, batch, seconds=self.seconds, seed=self.seed, purpose="flatland")


def _both(batch: Batch) -> Batch:
    c = batch.c
    assert c is not None
    told = {"context": c["context"].repeat(2, 1, 1), "context_phi": c["context_phi"].repeat(2),
            "phi": torch.cat([c["phi"], c["novel_phi"]])}  # fmt: skip
    return Batch(torch.cat([batch.x, c["novel"]]), Condition(told))


@torch.no_grad()
def drawn(d: Denoiser, c: Condition, seeds: list[int], steps: int = 20) -> tuple[Field | None, Tensor]:
    """A field (None for diffusion of views) and its view at phi, one for each row of c."""
    shape = tuple(c["context"].shape[1:])
    if isinstance(d, ForwardModelDenoiser):
        signal, _ = sample_signals(d, c, Noise(seeds), shape, steps=steps)
        return signal, d.model(signal, c["phi"])
    noise = Noise(seeds)
    return None, DDIM()(d, noise("x_T", 0, shape), steps=steps, c=c)


def energy_score(samples: Tensor, truth: Tensor) -> Tensor:
    """E |X - y| - E |X - X'| / 2 of each scene, unbiased in the number of samples; the lower, the nearer the law.

    Args:
        samples: (k, b, *s), k >= 1; with k = 1 the second term is 0 (a point).
        truth: (b, *s).
    """
    flat, y = samples.flatten(2), truth.flatten(1)
    near = (flat - y).norm(dim=-1).mean(0)
    k = len(flat)
    if k == 1:
        return near
    apart = (flat[:, None] - flat[None]).norm(dim=-1).sum((0, 1)) / (k * (k - 1))
    return near - apart / 2


def spread_of(fields: list[Field], points: Tensor) -> Tensor:
    """Variance over samples of what is there (opacity of 0.1 units), (b, n)."""
    with torch.no_grad():
        there = torch.stack([1 - torch.exp(-0.1 * field(points)[0]) for field in fields])
    return there.var(0)


def hidden(scenes: Discs, points: Tensor, phi: Tensor, camera: VolumeRender2D) -> Tensor:
    """How much of the light from a point does not reach the camera, in [0, 1], (b, n)."""
    centre = camera.radius * torch.stack([phi.cos(), phi.sin()], -1)[:, None]
    share = (torch.arange(24) + 0.5) / 24
    way = centre[:, :, None] + share[:, None] * (points - centre)[:, :, None]
    density = scenes(way.flatten(1, 2))[0].view(*points.shape[:2], -1)
    return 1 - torch.exp(-density.sum(-1) * (points - centre).norm(dim=-1) / 24)
