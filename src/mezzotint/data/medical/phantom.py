"""Phantoms with known truth: a head of random ellipses in several contrasts, lesions, annotators who disagree.

Everything is a function of each seed alone, at any size. A lesion draws its own numbers, so that the same seed without
one is the healthy twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mezzotint.core.noise import Noise
from mezzotint.data.medical.anatomy import draw_anatomy, look
from mezzotint.data.medical.lesion import draw_lesions
from mezzotint.data.medical.ranges import Window
from mezzotint.data.medical.volume import Volume

__all__ = ["PhantomSlices", "PhantomVolume", "phantom_slices", "phantom_volume"]

Contrast = Literal["t1", "t2", "ct"]
_BIAS = (-0.25, 0.0, 0.25)
_SHIFT = {"t1": (0.45, True), "t2": (0.5, False), "ct": (250.0, True)}  # of a lesion; whether it may be dark
_LEAST = 0.5  # of a pixel covered by the head: inside the body


@dataclass(frozen=True, eq=False)
class PhantomSlices:
    """A batch of slices, all of one anatomy each.

    Args:
        t1, t2, ct: (b, 1, h, w) float32 in [-1, 1]; ct by Window(-1000, 1000) of its Hounsfield units.
        tissue: (b, h, w) int64, place in `anatomy.TISSUES` of what fills most of a pixel, as without a lesion.
        body: (b, 1, h, w) bool, inside the head.
        lesion: (b, 1, h, w) bool, true outline; empty where there is none.
        radius: (b,) of the lesion in pixels, 0 where there is none.
        annotations: (b, m, h, w) bool, as m annotators drew it; empty where there is none.
    """

    t1: Float[Tensor, "b 1 h w"]
    t2: Float[Tensor, "b 1 h w"]
    ct: Float[Tensor, "b 1 h w"]
    tissue: Int[Tensor, "b h w"]
    body: Bool[Tensor, "b 1 h w"]
    lesion: Bool[Tensor, "b 1 h w"]
    radius: Float[Tensor, "b"]
    annotations: Bool[Tensor, "b m h w"]

    def __len__(self) -> int:
        return len(self.t1)


@dataclass(frozen=True, eq=False)
class PhantomVolume:
    """A volume in its own unit, with masks on its voxels.

    Args:
        volume: (1, d, h, w); "HU" for ct, 0 to about 1000 of no unit for t1 and t2.
        body, lesion: (d, h, w) bool.
    """

    volume: Volume
    body: Bool[Tensor, "d h w"]
    lesion: Bool[Tensor, "d h w"]


def phantom_slices(
    noise: Noise,
    size: int = 32,
    lesions: float = 0.0,
    *,
    radius: tuple[float, float] = (2.0, 6.0),
    bias: Sequence[float] = _BIAS,
) -> PhantomSlices:
    """Slices of heads, one a seed (in the style of Shepp and Logan's phantom; our choice of everything).

    Args:
        noise: one seed a head.
        size: side in pixels, 16 or more.
        lesions: probability in [0, 1] that a head has one.
        radius: least and greatest radius of a lesion, pixels.
        bias: one annotator each, who draws this share too small (negative) or too large.

    Raises:
        ValueError: for a size below 16, a probability outside [0, 1] or radii that are none.

    >>> from mezzotint.data.medical import phantom_slices
    >>> well, ill = (phantom_slices(Noise([0, 1]), 32, lesions) for lesions in (0.0, 1.0))
    >>> torch.equal(well.tissue, ill.tissue), bool((well.t1 != ill.t1).any())
    (True, True)
    """
    _check(size, lesions, radius)
    shares, texture = draw_anatomy(noise, (size, size))
    distance, r, sign, annotations = draw_lesions(noise, (size, size), radius, bias)
    there = noise.uniform("has a lesion", 0) < lesions
    cover = (0.5 - distance).clamp(0, 1) * there.view(-1, 1, 1)
    images = {}
    for contrast in ("t1", "t2", "ct"):
        image = _with_lesion(look(shares, texture, contrast), cover, sign, contrast)
        image = Window().forward(image) if contrast == "ct" else image.clamp(-1, 1)
        images[contrast] = image[:, None].float()
    present = there.view(-1, 1, 1, 1)
    return PhantomSlices(
        **images,
        tissue=shares.argmax(1),
        body=(shares[:, :1] < _LEAST),
        lesion=(distance < 0)[:, None] & present,
        radius=(r * there).float(),
        annotations=annotations & present,
    )


def phantom_volume(
    seed: int,
    size: tuple[int, int, int] = (24, 48, 48),
    contrast: Contrast = "t1",
    *,
    spacing: tuple[float, float, float] = (3.0, 1.5, 1.5),
    affine: Tensor | None = None,
    lesion: bool = False,
    radius: tuple[float, float] = (2.0, 6.0),
) -> PhantomVolume:
    """A head as a volume in its own unit, about the origin of the patient.

    Args:
        seed: an integer >= 0.
        size: (d, h, w), each 8 or more, h and w 16 or more.
        contrast: "t1", "t2" or "ct".
        spacing: along (d, h, w), millimetres.
        affine: (4, 4) float64, in place of spacing; see `Volume`.
        lesion: whether there is one.
        radius: of it, voxels.

    Raises:
        ValueError: for sizes that are too small or a spacing that is not positive.

    >>> ct = phantom_volume(0, (8, 16, 16), "ct").volume
    >>> ct.unit, ct.spacing
    ('HU', (3.0, 1.5, 1.5))
    """
    _check(min(size[1:]), 0.0, radius)
    if size[0] < 8 or any(not s > 0 for s in spacing):
        raise ValueError(f"phantom_volume got size={size}, spacing={spacing}; expected 8 slices or more, all positive")
    noise = Noise([seed])
    shares, texture = draw_anatomy(noise, size)
    distance, _, sign, _ = draw_lesions(noise, size, radius, ())
    cover = (0.5 - distance).clamp(0, 1) * lesion
    image = _with_lesion(look(shares, texture, contrast), cover, sign, contrast)
    data = image if contrast == "ct" else (500 * (image + 1)).clamp(min=0)
    if affine is None:
        affine = torch.diag(torch.tensor([*reversed(spacing), 1.0], dtype=torch.float64))
        for axis in range(3):
            affine[axis, 3] = -spacing[2 - axis] * (size[2 - axis] - 1) / 2
    return PhantomVolume(
        Volume(data.float(), affine, "HU" if contrast == "ct" else ""),
        shares[0, 0] < _LEAST,
        (distance[0] < 0) & torch.tensor(lesion),
    )


def _with_lesion(image: Tensor, cover: Tensor, sign: Tensor, contrast: str) -> Tensor:
    shift, dark = _SHIFT[contrast]
    amount = shift * (sign if dark else torch.ones_like(sign))
    return image + cover * amount.view(-1, *[1] * (image.ndim - 1))


def _check(size: int, lesions: float, radius: tuple[float, float]) -> None:
    if size < 16 or not 0 <= lesions <= 1 or not 0 < radius[0] <= radius[1]:
        raise ValueError(
            f"a phantom got size={size}, lesions={lesions}, radius={radius}; expected 16 pixels or more, a "
            "probability, and 0 < least <= greatest"
        )
