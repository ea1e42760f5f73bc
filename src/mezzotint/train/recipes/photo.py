"""A prior for photographs: crops of a few dozen pictures, in pixel space and without words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mezzotint.core import Flow, FlowDenoiser, Noise, fold
from mezzotint.data.framing import resize
from mezzotint.data.open_source import open_source
from mezzotint.latent import Autoencoder, LatentSpec
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise, LogitNormalTime
from mezzotint.train.recipe import AdamW, Batches, Budget, Recipe
from mezzotint.train.recipes.parts import pixels

__all__ = ["PhotoCrops", "PlainFlow", "PlainUNet", "photo"]


@dataclass(frozen=True)
class PhotoCrops:
    """Random crops of photographs, at the sizes they come in and at smaller ones, mirrored and turned by quarters.

    All pictures are kept in memory, as bytes.

    Args:
        path: what `mezzotint.data.open_source` opens, as a folder of images or a Parquet file.
        size: pixels a side of a crop.
        first: how many of the source's pictures are used, from its first on; the others are for tests.
        scales: whole numbers that the sides are divided by, each as often as the others.

    Raises:
        ValueError: when called, for fewer pictures than `first`, or one that is smaller than a crop at some scale.
    """

    path: str
    size: int = 64
    first: int = 16
    scales: tuple[int, ...] = (1, 2)

    def __call__(self, autoencoder: Autoencoder, batch: int, seed: int) -> Batches:
        """step -> Batch of crops, a pure function of the step."""
        source = open_source(self.path)
        if len(source) < self.first:
            raise ValueError(f"{self.path}: has {len(source)} pictures; expected at least first={self.first}")
        photos = [source.pixels(i) for i in range(self.first)]
        made = [
            [resize(x, (x.shape[1] // s, x.shape[2] // s), "lanczos") if s > 1 else x for x in photos]
            for s in self.scales
        ]
        least = min(min(x.shape[1:]) for row in made for x in row)
        if least < self.size:
            raise ValueError(f"{self.path}: a picture of {least} pixels a side after scaling; expected {self.size}")

        def batches(step: int) -> Batch:
            rows = [Noise([fold(seed, "crop", step, i)]) for i in range(batch)]
            return Batch(autoencoder.normalise(torch.stack([self._crop(made, row) for row in rows])))

        return batches

    def _crop(self, made: list[list[Tensor]], noise: Noise) -> Tensor:
        scale, which, top, left, mirror, turns = noise.uniform("crop", 0, (6,))[0].tolist()
        photos = made[int(scale * len(made))]
        x = photos[int(which * len(photos))]
        i, j = int(top * (x.shape[1] - self.size + 1)), int(left * (x.shape[2] - self.size + 1))
        x = x[:, i : i + self.size, j : j + self.size].float() / 127.5 - 1
        return torch.rot90(x.flip(2) if mirror < 0.5 else x, int(4 * turns), (1, 2)).contiguous()


@dataclass(frozen=True)
class PlainUNet:
    """An unconditional UNet that sees patches of pixels as one."""

    channels: int = 40
    mult: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    patch: int = 2

    def __call__(self, spec: LatentSpec) -> nn.Module:
        """The network for a latent space."""
        return UNet(
            spec.channels, channels=self.channels, mult=self.mult, blocks=self.blocks, attention=(), patch=self.patch
        )


@dataclass(frozen=True)
class PlainFlow:
    """Flow matching over an unconditional network."""

    def __call__(self, net: nn.Module) -> FlowDenoiser:
        """The denoiser."""
        return FlowDenoiser(net, Flow())


def photo() -> Recipe:
    """A denoiser of 64x64 crops of photographs: the first 16 of Kodak's 24 (kodim01 to kodim16), which are free.

    `--set data.path=FOLDER` names the pictures; the last eight are what the library's tables are measured on.
    """
    return Recipe(
        name="photo",
        data=PhotoCrops("kodak"),
        latent=pixels,
        net=PlainUNet(),
        denoiser=PlainFlow(),
        objective=Denoise("flow", times=LogitNormalTime(mean=-0.5)),
        optimiser=AdamW(lr=1e-3, betas=(0.9, 0.99), schedule="cosine", warmup=200, final=0.02),
        ema=0.999,
        budget=Budget(steps=7000, batch=16),
        seed=0,
    )
