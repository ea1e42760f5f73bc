"""What the demonstration of PixelMan draws, trains and edits: a sprite on a ground, and the same with the sprite moved.

Edges are hard and places whole pixels, so that masks are exact and the true edit can be rendered.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mezzotint.core import Cosine, Noise, VDenoiser, fold, uniform_t
from mezzotint.data import ArraySource, indices
from mezzotint.edit import EditPlan, PixelMan, paste_object, plan_move
from mezzotint.latent import Identity
from mezzotint.metric import FeatureNet, windows
from mezzotint.metric.train_classifier import train
from mezzotint.model import Model
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise
from mezzotint.papers.trained import trained
from mezzotint.sample import DDIM, invert

__all__ = ["ARMS", "SIDE", "Sprites", "drawn", "edited", "plan_of", "sprites", "train_scenes", "train_seer"]

SIDE, _POOL = 32, 8192
_KINDS = ("disc", "square", "diamond", "cross")
_NEAREST = 14  # of old and new centre along one axis: the window around the hole does not show the new place
_EVALUATIONS = 64  # of PixelMan at 16 steps, and of the arms that are compared at as many
ARMS = (
    "paste", "inversion", "inversion, 64", "SDEdit 0.3", "SDEdit 0.5", "no leak-proof", "no energy", "full",
)  # fmt: skip


@dataclass(frozen=True)
class Sprites:
    """Scenes of one sprite each.

    Args:
        ground: what is behind it.
        kind: place in disc, square, diamond, cross.
        radius: half its extent, pixels.
        colour: of its upper half; the lower is darker towards grey.
        place, goal: (x, y) of its centre, and where it is to go; both inside, and apart.
    """

    ground: Float[Tensor, "n 3 32 32"]
    kind: Int[Tensor, " n"]
    radius: Float[Tensor, " n"]
    colour: Float[Tensor, "n 3"]
    place: Int[Tensor, "n 2"]
    goal: Int[Tensor, "n 2"]


def sprites(seed: int, count: int, split: str) -> Sprites:
    """Random scenes: half on a gradient, half on waves of 5 to 10 pixels; scene i is a function of (seed, split, i)."""
    u = Noise([fold(seed, split, i) for i in range(count)]).uniform("sprite", 0, (16,))
    first = u[:, 0:3] - 0.5
    second = first + (u[:, 3:6] - 0.5)
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    angle = 2 * torch.pi * u[:, 6]
    along = angle.cos()[:, None, None] * axis + angle.sin()[:, None, None] * axis[:, None]
    wave = (along / (5 + 5 * u[:, 7, None, None]) + u[:, 8, None, None]) * 2 * torch.pi
    share = torch.where((u[:, 9] < 0.5)[:, None, None], (along / SIDE + 0.5).clamp(0, 1), 0.5 + 0.5 * wave.sin())
    ground = first[:, :, None, None] + share[:, None] * (second - first)[:, :, None, None]
    # on the other side of grey than the ground, in every channel
    colour = torch.where(first + second >= 0, -1.0, 1.0) * (0.6 + 0.4 * u[:, 10:13])
    pairs = _pairs()
    chosen = pairs[(u[:, 15].double() * len(pairs)).long()]
    kind = (u[:, 13] * len(_KINDS)).long()
    return Sprites(ground, kind, 3.5 + 1.5 * u[:, 14], colour, chosen[:, :2], chosen[:, 2:])


def drawn(f: Sprites, place: Int[Tensor, "n 2"]) -> tuple[Float[Tensor, "n 3 32 32"], Bool[Tensor, "n 32 32"]]:
    """The pictures in [-1, 1] with the sprites at a place, and the sprites' masks."""
    axis = torch.arange(SIDE)
    dx, dy = axis - place[:, 0, None, None], axis[:, None] - place[:, 1, None, None]
    ax, ay, r = dx.abs(), dy.abs(), f.radius[:, None, None]
    far = torch.stack(
        torch.broadcast_tensors(
            (dx.square() + dy.square()).sqrt(),
            torch.maximum(ax, ay) / 0.85,
            (ax + ay).float(),
            torch.where(torch.minimum(ax, ay) <= 0.35 * r, torch.maximum(ax, ay), torch.inf),
        )
    )
    mask = far[f.kind, torch.arange(len(f.kind))] <= r
    shade = torch.where(dy > 0, 0.6, 1.0)
    colour = f.colour[:, :, None, None] * shade[:, None]
    return torch.where(mask[:, None], colour, f.ground), mask


def plan_of(x: Float[Tensor, "3 32 32"], mask: Bool[Tensor, "32 32"], by: Int[Tensor, "2"]) -> EditPlan:
    """The plan that moves the sprite to its goal."""
    dx, dy = by.tolist()
    return plan_move(x, mask, (dx, dy))


def train_scenes(seconds: float, seed: int) -> Model:
    """A pixel-space UNet with self-attention on 16 x 16 and 8 x 8, for processor seconds."""
    f = sprites(seed, _POOL, "train")
    x = drawn(f, f.place)[0]
    build = lambda: VDenoiser(UNet(3, channels=24, mult=(1, 2), blocks=1, attention=(1, 2), patch=2), Cosine())  # noqa: E731
    batch = lambda step: Batch(x[indices(seed, step, 32, _POOL)])  # noqa: E731
    denoiser = trained(build, Denoise("v", drop=0.0), batch, seconds=seconds, seed=seed, lr=3e-3)
    return Model(denoiser, Identity(3), size=(SIDE, SIDE), name="sprites")


def train_seer(steps: int, seed: int, count: int = 1024) -> FeatureNet:
    """A classifier of windows: 0 nothing there, 1 a sprite; each scene shows it both, at its place and its goal."""
    f = sprites(seed, count, "seer")
    x, at = drawn(f, f.place)
    away = drawn(f, f.goal)[1]
    seen = torch.cat([windows(x, away), windows(x, at)])
    source = ArraySource(((seen + 1) * 127.5).round().to(torch.uint8), [""] * len(seen))
    target = (torch.arange(len(seen)) >= len(x)).long()
    return train(source, target[:, None], (2,), steps=steps, seed=seed, width=16, dim=64, size=32)


@torch.no_grad()
def edited(arm: str, model: Model, plan: EditPlan, seed: int, steps: int = 16) -> Float[Tensor, "1 3 32 32"]:
    """One edit by one arm, in [-1, 1].

    Inversion: DDIM from the source to noise in n steps, the object's noise laid at its new place, fresh noise where it
    was, and DDIM back: 2 n evaluations, n = `steps` or what 64 evaluations take. SDEdit: the pasted picture noised to a
    time, and DDPM back in 64. The others are `PixelMan` of `steps` steps.
    """
    d, noise = model.denoiser, Noise([seed])
    source, pasted = plan.source[None], plan.image[None]
    if arm == "paste":
        return pasted
    if arm.startswith("inversion"):
        grid = uniform_t(d.schedule, _EVALUATIONS // 2 if arm.endswith("64") else steps)
        x_T = invert(DDIM(), d, source, grid=grid)[0]
        assert plan.placement is not None
        moved = paste_object(x_T, x_T, plan.gud, plan.placement).image
        fresh = float(d.schedule.sigma(grid[:1])) * noise("hole", 0, plan.source.shape)
        return DDIM()(d, torch.where(plan.ipt, fresh, moved), grid=grid).clamp(-1, 1)
    if arm.startswith("SDEdit"):
        grid = torch.linspace(float(arm.split()[1]), 0, _EVALUATIONS + 1, dtype=torch.float64)
        a, s = float(d.schedule.alpha(grid[:1])), float(d.schedule.sigma(grid[:1]))
        start = a * pasted + s * noise("start", 0, plan.source.shape)
        return DDIM(1.0)(d, start, grid=grid, noise=noise).clamp(-1, 1)
    methods = {
        "no leak-proof": PixelMan(steps, leak_proof="none"),
        "no energy": PixelMan(steps, update="none"),
        "full": PixelMan(steps),
    }
    if arm not in methods:
        raise ValueError(f"unknown arm {arm!r}; expected one of {', '.join(ARMS)}")
    return methods[arm](model, plan, [seed]).images


def _pairs() -> Int[Tensor, "n 4"]:
    """Old and new centres (x, y, x', y') that keep the sprite inside the frame, and its two places apart."""
    inside = torch.arange(6, SIDE - 6)
    pairs = torch.cartesian_prod(inside, inside, inside, inside)
    return pairs[(pairs[:, :2] - pairs[:, 2:]).abs().amax(1) >= _NEAREST]
