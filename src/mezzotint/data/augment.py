"""Random views of images for contrastive learning, as batched tensors, without torchvision.

Every random number is a function of the sample's seed, so that a view is the same alone or in a batch, after a resume,
and on another device (up to rounding).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.noise import Noise

__all__ = ["VIEWS", "Mirror", "View"]

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class View:
    """A view: random resized crop, colour jitter, grey, blur, solarisation, mirror image; in this order.

    A crop of area `scale` of the image and aspect ratio in `ratio` (log-uniform) is brought back to the image's size by
    bilinear interpolation; its place is not rounded to pixels (our choice, as is the order of the jitter: brightness,
    contrast, saturation, hue). The blur's standard deviation is stated for images of `reference` pixels and scales with
    the height (our choice), so that small images are not wiped out.

    Args:
        scale: least and greatest area of the crop, in (0, 1].
        ratio: least and greatest width / height, > 0.
        jitter: brightness, contrast, saturation: factors in [1 - j, 1 + j]; hue: turns in [-j, j].
        jitter_p, grey_p, blur_p, solarise_p, flip_p: probabilities.
        blur: least and greatest standard deviation, in pixels of an image of `reference` pixels.
        reference: see above.

    Raises:
        ValueError: for settings out of range.

    Source: BYOL (arXiv 2006.07733, appendix B) and MoCo-v3 (2104.02057), with the numbers of 2510.12586.

    >>> View()(torch.zeros(2, 3, 8, 8), Noise([0, 1])).shape
    torch.Size([2, 3, 8, 8])
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)
    jitter_p: float = 0.8
    grey_p: float = 0.2
    blur: tuple[float, float] = (0.1, 2.0)
    blur_p: float = 1.0
    reference: int = 224
    solarise_p: float = 0.0
    flip_p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(
                f"View got scale={self.scale}, ratio={self.ratio}; expected areas in (0, 1] and ratios > 0, the lesser "
                "first"
            )
        if not all(0 <= j <= 1 for j in self.jitter) or self.jitter[3] > 0.5:
            raise ValueError(f"View got jitter={self.jitter}; expected numbers in [0, 1], the last (hue) at most 0.5")
        if not 0 < self.blur[0] <= self.blur[1] or self.reference < 1:
            raise ValueError(
                f"View got blur={self.blur} at reference={self.reference}; expected 0 < least <= greatest, in pixels"
            )
        for name in ("jitter_p", "grey_p", "blur_p", "solarise_p", "flip_p"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"View got {name}={getattr(self, name)}; expected a probability in [0, 1]")

    def __call__(self, x: Float[Tensor, "b 3 h w"], noise: Noise, name: str = "view") -> Float[Tensor, "b 3 h w"]:
        """A view of each image.

        Args:
            x: images in [-1, 1].
            noise: one seed a sample.
            name: purpose of the random numbers; other views of the same images take another.

        Raises:
            ValueError: for other shapes.
        """
        if x.ndim != 4 or x.shape[1] != 3 or len(noise) != len(x):
            raise ValueError(
                f"a view needs images (b, 3, h, w) and one seed a sample, got {tuple(x.shape)} and {len(noise)} seeds"
            )
        u = noise.uniform(name, 0, (14,), dtype=x.dtype, device=x.device).T.view(14, -1, 1, 1, 1)
        out = self._crop(x, *(row.flatten() for row in u[:4]))
        out = out.add(1).mul(0.5).clamp(0, 1)
        if self.jitter_p > 0:
            out = torch.where(u[4] < self.jitter_p, self._jitter(out, *u[5:9]), out)
        out = torch.where(u[9] < self.grey_p, _grey(out).expand_as(out), out)
        if self.blur_p > 0:
            std = (self.blur[0] + (self.blur[1] - self.blur[0]) * u[11].flatten()) * (x.shape[2] / self.reference)
            out = torch.where(u[10] < self.blur_p, _blurred(out, std, self._radius(x.shape[2])), out)
        out = torch.where((u[12] < self.solarise_p) & (out >= 0.5), 1 - out, out)
        out = torch.where(u[13] < self.flip_p, out.flip(3), out)
        return out.mul(2).sub(1)

    def _radius(self, height: int) -> int:
        return max(1, math.ceil(3 * self.blur[1] * height / self.reference))

    def _crop(self, x: Tensor, area: Tensor, ratio: Tensor, up: Tensor, left: Tensor) -> Tensor:
        if self.scale[0] == 1 and self.ratio == (1.0, 1.0):
            return x
        height, width = x.shape[2:]
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * area
        low, high = (math.log(r) for r in self.ratio)
        aspect = (low + (high - low) * ratio).exp() * (height / width)  # in units of the image's own sides
        tall, wide = ((area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1))
        zero = torch.zeros_like(area)
        # affine_grid counts from -1 to 1: a crop of side `wide` may lie anywhere in [-(1 - wide), 1 - wide]
        rows = [wide, zero, (2 * left - 1) * (1 - wide), zero, tall, (2 * up - 1) * (1 - tall)]
        places = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, places, mode="bilinear", padding_mode="border", align_corners=False)

    def _jitter(self, x: Tensor, bright: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
        factors = [1 + j * (2 * u - 1) for j, u in zip(self.jitter, (bright, contrast, saturation))]
        x = (x * factors[0]).clamp(0, 1)
        middle = _grey(x).mean((1, 2, 3), keepdim=True)
        x = (middle + (x - middle) * factors[1]).clamp(0, 1)
        grey = _grey(x)
        x = (grey + (x - grey) * factors[2]).clamp(0, 1)
        return _turned(x, self.jitter[3] * (2 * hue - 1))


@dataclass(frozen=True)
class Mirror:
    """The image itself, in some cases as in a mirror.

    Args:
        p: probability in [0, 1].

    Raises:
        ValueError: for another p.

    >>> Mirror(1.0)(torch.tensor([[[[-1.0, 1.0]]]]), Noise([0])).tolist()
    [[[[1.0, -1.0]]]]
    """

    p: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"Mirror got p={self.p}; expected a probability in [0, 1]")

    def __call__(self, x: Float[Tensor, "b c h w"], noise: Noise, name: str = "mirror") -> Float[Tensor, "b c h w"]:
        """Each image, by its seed as it is or mirrored."""
        u = noise.uniform(name, 0, (), device=x.device).view(-1, 1, 1, 1)
        return torch.where(u < self.p, x.flip(3), x)


# The two views of BYOL, the first always blurred, the second seldom, but sometimes solarised; and the plain image.
VIEWS = (View(blur_p=1.0, solarise_p=0.0), View(blur_p=0.1, solarise_p=0.2), Mirror())


def _grey(x: Tensor) -> Tensor:
    red, green, blue = x.split(1, dim=1)
    return _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Hue turned by `turns`, saturation and value kept (HSV)."""
    high, low = x.amax(1, keepdim=True), x.amin(1, keepdim=True)
    spread = high - low
    safe = torch.where(spread > 0, spread, torch.ones_like(spread))
    red, green, blue = x.split(1, dim=1)
    sector = torch.where(
        high == red,
        ((green - blue) / safe) % 6,
        torch.where(high == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    sector = (sector + 6 * turns) % 6
    offsets = torch.tensor([5.0, 3.0, 1.0], dtype=x.dtype, device=x.device).view(1, 3, 1, 1)
    k = (offsets + sector) % 6
    return high - spread * torch.minimum(k, 4 - k).clamp(0, 1)


def _blurred(x: Tensor, std: Tensor, radius: int) -> Tensor:
    """Gaussian blur, of another width for each image; beyond the image its border goes on."""
    b, channels, height, width = x.shape
    places = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.softmax(-0.5 * (places / std[:, None]) ** 2, dim=1).repeat_interleave(channels, 0)
    out = F.pad(x.reshape(1, b * channels, height, width), (radius,) * 4, mode="replicate")
    out = F.conv2d(out, kernel[:, None, None, :], groups=b * channels)
    return F.conv2d(out, kernel[:, None, :, None], groups=b * channels).view(b, channels, height, width)
