"""Directions of a model at one picture, and the pictures along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from mezzotint.core import Noise
from mezzotint.interpret.subspace import Directions, SubspaceIteration, local_directions, semantic_directions
from mezzotint.interpret.subspace_edit import edit_strip, state_at
from mezzotint.io.picture import pixels
from mezzotint.model import Model
from mezzotint.sample import DDIM

__all__ = ["PictureDirections", "directions_sheet", "explain_subspace"]


@dataclass(frozen=True, eq=False)
class PictureDirections:
    """What a model would change of a picture.

    Args:
        directions: of one state, in the model's space.
        strengths: k of them.
        strips: (rank, k, 3, h, w) in [-1, 1]: a row a direction, from the least strength to the largest.
    """

    directions: Directions
    strengths: tuple[float, ...]
    strips: Tensor


@torch.no_grad()
def explain_subspace(
    model: Model,
    image: Float[Tensor, "3 h w"] | None = None,
    *,
    prompt: str | int | None = None,
    guidance: float = 1.0,
    seed: int = 0,
    t: float = 0.7,
    rank: int = 5,
    strengths: Sequence[float | int] = (-4, -2, 0, 2, 4),
    steps: int = 50,
    mask: Bool[Tensor, "h w"] | None = None,
    settings: SubspaceIteration | None = None,
) -> PictureDirections:
    """Find directions at a picture's noisy state, and edit along each.

    Args:
        model: in pixel space or in latent space, ours or from diffusers.
        image: in [-1, 1] of the model's size, inverted by DDIM to t; None for a sample of the seed, at t of its run.
        prompt: words or a class number for a model that reads them.
        guidance: towards the prompt; weak, where an image is inverted.
        seed: of the sample, and of the first vectors.
        t: where, 0 < t <= 1.
        rank: how many directions.
        strengths: of the edits, see `edit_along`.
        steps: from 1 to 0; an edit has its share of them.
        mask: True where changes shall be; of pixels. Directions then leave the rest as it is where they can
            (`local_directions`).
        settings: of the iteration.

    Raises:
        ValueError: for an image or a mask of another size than the model's, and what the parts refuse.
    """
    h, w = model.size
    for name, given in (("image", image), ("mask", mask)):
        if given is not None and tuple(given.shape[-2:]) != (h, w):
            shown = " x ".join(map(str, given.shape[-2:]))
            raise ValueError(f"the {name} is {shown} but {model.name} works at {h} x {w}; resize it")
    if not 0 < t <= 1 or steps < 1:
        raise ValueError(f"t={t}, steps={steps}; expected 0 < t <= 1 and steps >= 1")
    d, c = model.prior(prompt, guidance)
    spec, coder, share = model.autoencoder.spec, model.autoencoder, max(1, round(steps * t))
    if image is None:
        start = Noise([seed])("x_T", 0, (spec.channels, h // spec.factor, w // spec.factor), device=model.device)
        x_t = float(d.schedule.sigma(torch.ones((), dtype=torch.float64))) * start
        if t < 1:
            grid = torch.linspace(1, t, max(2, steps - share + 1), dtype=torch.float64)
            x_t = DDIM()(d, x_t, grid=grid, c=c)
    else:
        x_t = state_at(d, coder.encode(image[None].to(model.device)), t, steps=share, c=c)
    if mask is None:
        found = semantic_directions(d, x_t, t, rank, c=c, noise=Noise([seed]), settings=settings)
    else:
        seen = None if spec.factor == 1 else coder.decode
        found = local_directions(d, x_t, t, mask.to(model.device), rank, rank, c=c, output=seen, noise=Noise([seed]),
                                 settings=settings)  # fmt: skip
    rows = [edit_strip(d, x_t, t, found.vectors[:, i], strengths, steps=share, c=c)[:, 0] for i in range(rank)]
    strips = torch.stack([coder.decode(row).clamp(-1, 1) for row in rows]).cpu()
    return PictureDirections(found, tuple(float(a) for a in strengths), strips)


def directions_sheet(told: PictureDirections, gap: int = 2) -> UInt8[Tensor, "H W 3"]:
    """A row a direction, a column a strength, on white."""
    rank, k, _, h, w = told.strips.shape
    sheet = torch.full((rank * (h + gap) + gap, k * (w + gap) + gap, 3), 255, dtype=torch.uint8)
    for i, row in enumerate(told.strips):
        for j, picture in enumerate(pixels(row)):
            y, x = gap + i * (h + gap), gap + j * (w + gap)
            sheet[y : y + h, x : x + w] = picture
    return sheet
