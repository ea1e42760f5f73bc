"""What the demonstration of CycleDiffusion draws, trains, edits and measures: discs and squares on a ground."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mezzotint.core import Condition, Cosine, Denoiser, Noise, VDenoiser, fold, uniform_t
from mezzotint.data import indices
from mezzotint.edit import CycleDiffusion
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise
from mezzotint.papers.trained import trained
from mezzotint.sample import DDIM, invert

__all__ = ["ARMS", "SIDE", "Figures", "apart", "at_level", "drawn", "edited", "measured", "scenes", "train_shapes"]

SIDE, _POOL = 16, 4096
DISC, SQUARE = 0, 1
ARMS = ("cycle, eta 0.1", "cycle, eta 1", "inversion", "SDEdit", "random")


@dataclass(frozen=True)
class Figures:
    """Scenes: (n,) each but for colours, (n, 3), and centres, (n, 2), in pixels.

    Args:
        shape: 0 a disc, 1 a square.
        size: root of the area, in pixels.
    """

    shape: Int[Tensor, " n"]
    colour: Float[Tensor, "n 3"]
    ground: Float[Tensor, "n 3"]
    centre: Float[Tensor, "n 2"]
    size: Float[Tensor, " n"]


def scenes(seed: int, count: int, split: str, shape: int | None = None, hue: Tensor | None = None) -> Figures:
    """Random scenes; of one shape or of both, reddish or bluish where `hue` (n,) bool says which."""
    u = Noise([fold(seed, split, i) for i in range(count)]).uniform("figure", 0, (10,))
    colour, ground = 2 * u[:, 0:3] - 1, 2 * u[:, 3:6] - 1
    if hue is not None:  # red or blue, on grey
        vivid, dull = 0.5 + 0.5 * u[:, 0], -1 + 0.5 * u[:, 1]
        colour = torch.where(hue[:, None], torch.stack([vivid, dull, dull], 1), torch.stack([dull, dull, vivid], 1))
        ground = (u[:, 3:4] - 0.5).expand(-1, 3)
    else:  # far enough apart to be seen
        near = (colour - ground).norm(dim=1, keepdim=True) < 0.8
        colour = torch.where(near, -torch.sign(ground) * (0.3 + 0.7 * u[:, 0:3]), colour)
    which = (u[:, 6] < 0.5).long() if shape is None else torch.full((count,), shape)
    return Figures(which, colour, ground, 5.5 + 5 * u[:, 7:9], 5 + 3 * u[:, 9])


def drawn(f: Figures) -> Float[Tensor, "n 3 16 16"]:
    """The picture, edges one pixel wide."""
    cover = _cover(f.shape, f.centre, f.size)[:, None]
    return f.ground[:, :, None, None] + cover * (f.colour - f.ground)[:, :, None, None]


def measured(x: Float[Tensor, "n 3 16 16"]) -> Figures:
    """What a picture shows: ground from its border, cover from the colours, and the shape that renders it best."""
    border = torch.ones(SIDE, SIDE, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    ground = x[:, :, border].median(2).values
    away = x - ground[:, :, None, None]
    far = away.norm(dim=1).flatten(1)
    top = far.topk(12, dim=1).indices
    colour = ground + away.flatten(2).gather(2, top[:, None].expand(-1, 3, -1)).median(2).values
    axis = (colour - ground)[:, :, None, None]
    cover = ((away * axis).sum(1) / axis.square().sum(1).clamp_min(1e-6)).clamp(0, 1)
    cover = torch.where(cover > 0.15, cover, 0.0)
    area = cover.sum((1, 2)).clamp_min(1.0)
    place = torch.arange(SIDE) + 0.5
    centre = torch.stack([(cover * place).sum((1, 2)), (cover * place[:, None]).sum((1, 2))], 1) / area[:, None]
    size = area.sqrt()
    misfit = [
        (_cover(torch.full((len(x),), shape), centre, size) - cover).square().sum((1, 2)) for shape in (DISC, SQUARE)
    ]
    return Figures((misfit[1] < misfit[0]).long(), colour, ground, centre, size)


def _cover(shape: Tensor, centre: Tensor, size: Tensor) -> Float[Tensor, "n 16 16"]:
    place = torch.arange(SIDE) + 0.5
    dx, dy = place - centre[:, 0, None, None], place[:, None] - centre[:, 1, None, None]
    s = size[:, None, None]
    disc = s / torch.pi**0.5 - (dx.square() + dy.square()).sqrt()
    square = s / 2 - torch.maximum(dx.abs(), dy.abs())
    return (torch.where((shape == DISC)[:, None, None], disc, square) + 0.5).clamp(0, 1)


def train_shapes(shape: int | None, seconds: float, seed: int) -> VDenoiser:
    """A UNet on one kind of shape, or on both told what is red (classes 0, 1: blue, red) for processor seconds.

    Networks of different shapes start from weights of their own and never see a scene of the other. Width, schedule and
    rate were chosen by how often a net of squares draws one by itself: 0.80 after 60 s; 32 channels on VP came to 0.31.
    """
    hue = torch.arange(_POOL) % 2 == 1 if shape is None else None
    f = scenes(seed, _POOL, "both" if shape is None else f"shape {shape}", shape, hue)
    x = drawn(f)

    def batch(step: int) -> Batch:
        rows = indices(seed, step, 32, _POOL)
        return Batch(
            x[rows], None if hue is None else Condition({"label": hue[rows].long()}, {"label": torch.tensor([2])})
        )

    classes = 0 if hue is None else 2
    build = lambda: VDenoiser(UNet(3, channels=16, mult=(1, 2), blocks=1, attention=(), classes=classes), Cosine())  # noqa: E731
    objective = Denoise("v", drop=0.0 if hue is None else 0.1)
    return trained(build, objective, batch, seconds=seconds, seed=seed, lr=3e-3, purpose=f"net {shape}")


@torch.no_grad()
def edited(
    arm: str, source: Denoiser, target: Denoiser, x: Tensor, noise: Noise, steps: int, start: float,
    c: Condition | None = None, to: Condition | None = None,
) -> Tensor:  # fmt: skip
    """One arm at 2 n evaluations a sample, n = start * steps: n of each model, or 2 n of the target alone."""
    kept = round(start * steps)
    if arm.startswith("cycle"):
        method = CycleDiffusion(steps=steps, start=start, sampler=DDIM(1.0 if arm.endswith("eta 1") else 0.1))
        return method.between(source, target, x, noise, c=c, to=to)[0]
    schedule = target.schedule
    if arm == "inversion":
        grid = uniform_t(schedule, steps)[steps - kept :]
        return DDIM()(target, invert(DDIM(), source, x, grid=grid, c=c), grid=grid, c=to)
    if arm not in ("SDEdit", "random"):
        raise ValueError(f"unknown arm {arm!r}; expected one of {', '.join(ARMS)}")
    grid = uniform_t(schedule, 2 * steps)[2 * (steps - kept) :] if arm == "SDEdit" else uniform_t(schedule, 2 * steps)
    xi = noise("arm x_T", 0, x.shape[1:])
    if arm == "random":
        return DDIM(1.0)(target, xi * float(schedule.sigma(grid[:1])), grid=grid, c=to, noise=noise)
    a, s = float(schedule.alpha(grid[:1])), float(schedule.sigma(grid[:1]))
    return DDIM(1.0)(target, a * x + s * xi, grid=grid, c=to, noise=noise)


def apart(found: Tensor, true: Tensor) -> float:
    """Mean distance, in units of the mean distance between scenes: about 1 where nothing was kept."""
    spread = (true - true.roll(1, 0)).norm(dim=1).mean()
    return float((found - true).norm(dim=1).mean() / spread)


def at_level(level: float, made: list[tuple[float, float]]) -> float:
    """The error where the share first reaches the level, linear between starts; at the best share if it never does."""
    for (low, before), (high, after) in zip([made[0], *made], made):
        if high >= level:
            return after if high <= low or low >= level else before + (after - before) * (level - low) / (high - low)
    return max(made)[1]
