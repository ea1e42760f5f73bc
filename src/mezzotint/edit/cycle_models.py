"""What CycleDiffusion asks of the models on its two sides, and of the picture."""

from __future__ import annotations

import torch
from torch import Tensor

from mezzotint.core import Condition, Denoiser
from mezzotint.guide import CFG
from mezzotint.model import Model, Resizes

__all__ = ["check_pair", "check_picture", "scale_of", "told"]

_NEAR = 1e-3  # relative, of the statistics that normalise latents


def check_pair(source: Model, target: Model) -> None:
    """Refuse two models whose states do not mean the same.

    Raises:
        ValueError: with both values.
    """
    if source is target:
        return
    a, b = source.autoencoder, target.autoencoder
    names = f"{source.name} and {target.name}"
    for what, mine, other in (
        ("image channels", a.image_channels, b.image_channels),
        ("channels of the state", a.spec.channels, b.spec.channels),
        ("pixels a side of the state", a.spec.factor, b.spec.factor),
    ):
        if mine != other:
            raise ValueError(f"{names} do not share a state space: {mine} and {other} {what}")
    for what in ("mean", "std"):
        mine, other = (torch.tensor(getattr(side.spec, what), dtype=torch.float64) for side in (a, b))
        if not torch.allclose(mine, other, rtol=_NEAR, atol=_NEAR):
            k = int((mine - other).abs().argmax())
            raise ValueError(
                f"{names} scale their latents differently: the {what} of channel {k} is {float(mine[k]):.6g} and "
                f"{float(other[k]):.6g}; noises of one mean nothing to the other"
            )


def scale_of(model: Model) -> Tensor:
    """Mean and std by which a model's autoencoder normalises the channels of its states, (2, c) float64."""
    spec = model.autoencoder.spec
    return torch.stack([torch.tensor(part, dtype=torch.float64) for part in (spec.mean, spec.std)])


def check_picture(image: Tensor, count: int, *models: Model) -> Tensor:
    """The picture for each of `count` results, (count, c, h, w).

    Raises:
        ValueError: for another shape, number, type, or sides that a model cannot take.
    """
    if image.ndim not in (3, 4) or not image.is_floating_point():
        raise ValueError(f"the picture is {tuple(image.shape)} of {image.dtype}; expected floats (c, h, w) in [-1, 1]")
    x = image.expand(count, *image.shape) if image.ndim == 3 else image
    if len(x) != count:
        raise ValueError(f"{len(x)} pictures for {count} seeds; give one seed a picture")
    height, width = int(x.shape[2]), int(x.shape[3])
    for model in models:
        if x.shape[1] != model.autoencoder.image_channels:
            raise ValueError(
                f"the picture has {x.shape[1]} channels; {model.name} takes {model.autoencoder.image_channels}"
            )
        m = model.multiple
        if height % m or width % m or min(height, width) < 1:
            fit = " x ".join(str(max(1, n // m) * m) for n in (height, width))
            raise ValueError(
                f"the picture is {height} x {width}; {model.name} needs multiples of {m}: crop or resize it, to {fit} "
                "say"
            )
    if not bool(torch.isfinite(x).all()):
        raise ValueError("the picture holds NaN or infinity")
    return x


def told(
    model: Model, prompt: str | int | None, guidance: float | int, count: int, size: tuple[int, int]
) -> tuple[Denoiser, Condition | None]:
    """The denoiser for states of a size, guided if there is a prompt, and its condition in `count` rows.

    Raises:
        ValueError: for a prompt that does not suit the model, or a model with its guidance inside.
    """
    _, c = model.prior(prompt)
    plain = model.denoiser.at(*size) if isinstance(model.denoiser, Resizes) else model.denoiser
    d = plain if prompt is None or guidance == 1 else CFG(float(guidance))(plain)
    return d, None if c is None else c.rows([0] * count)
