"""Emoji without an autoencoder: a pre-trained encoder, then a class-conditional diffusion model in pixel space."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from mezzotint.core import Condition, Denoiser, DirectDenoiser, EncodedDenoiser
from mezzotint.data import GROUPS, VIEWS, Emoji, indices
from mezzotint.io.safe import read_state
from mezzotint.latent import Autoencoder, LatentSpec
from mezzotint.nn import EncoderDecoderViT, ViTEncoder, load_encoder
from mezzotint.nn.conditioner import ClassConditioner
from mezzotint.objective import Batch, Denoise, KarrasSpacing, ResolutionLevels, SnappedLogNormal
from mezzotint.train.checkpoint import newest_checkpoint
from mezzotint.train.folder import CHECKPOINTS
from mezzotint.train.pretrain import PretrainingRecipe
from mezzotint.train.recipe import AdamW, Batches, Budget, Recipe
from mezzotint.train.recipes.parts import EmojiImages, pixels

__all__ = ["DirectPixels", "GroupedEmoji", "PixelEncoder", "PixelViT", "emoji_epg", "emoji_pretraining"]

SIZE = 32


@dataclass(frozen=True)
class PixelEncoder:
    """The encoder: what pre-training trains, and what fine-tuning must build again to take its weights."""

    size: int = SIZE
    patch: int = 4
    width: int = 160
    depth: int = 5
    heads: int = 5

    def __call__(self) -> ViTEncoder:
        """The fresh encoder."""
        return ViTEncoder(3, self.size, self.patch, self.width, self.depth, self.heads)


@dataclass(frozen=True)
class PixelViT:
    """The encoder with a decoder of its size.

    Args:
        pretrained: the folder of a pre-training run, or a safetensors file; None to start from scratch.
        encoder: as it was pre-trained.
        classes: number of classes.
        dropout: in the decoder.
    """

    pretrained: str | None = None
    encoder: PixelEncoder = field(default_factory=PixelEncoder)
    classes: int = len(GROUPS)
    dropout: float = 0.0

    def __call__(self, spec: LatentSpec) -> EncoderDecoderViT:
        """The network, with the pre-trained weights where there are any.

        Raises:
            ValueError: where there is no run at `pretrained`, or its encoder is another one.
        """
        net = EncoderDecoderViT.from_encoder(self.encoder(), classes=self.classes, dropout=self.dropout)
        if self.pretrained is not None:
            load_encoder(net, read_state(_weights(Path(self.pretrained))))
        return net


def _weights(place: Path) -> Path:
    if not place.is_dir():
        return place
    newest = newest_checkpoint(place / CHECKPOINTS)
    if newest is None:
        raise ValueError(f"{place}: no checkpoint there; expected the folder of a pre-training run")
    return newest / "module.online.safetensors"


@dataclass(frozen=True)
class DirectPixels:
    """x-prediction on levels shifted by the images' height."""

    size: int = SIZE
    classes: int = len(GROUPS)

    def __call__(self, net: nn.Module) -> Denoiser:
        """The denoiser that training sees."""
        denoiser = DirectDenoiser(net, ResolutionLevels(self.size).schedule)
        return EncodedDenoiser(denoiser, ClassConditioner(self.classes))


@dataclass(frozen=True)
class GroupedEmoji:
    """Batches of emoji with the group as class (10 of them).

    Args:
        size: pixels a side.
        split: of the emoji set.
    """

    size: int = SIZE
    split: str = "train"

    def __call__(self, autoencoder: Autoencoder, batch: int, seed: int) -> Batches:
        """step -> Batch, a pure function of the step."""
        source = Emoji(self.size, self.split)
        labels, null = source.labels, torch.tensor([len(GROUPS)])
        assert labels is not None

        def batches(step: int) -> Batch:
            rows = indices(seed, step, batch, len(source))
            x = autoencoder.encode(source.batch(rows)[0])
            return Batch(x, Condition({"label": labels[rows]}, {"label": null}))

        return batches


def emoji_pretraining() -> PretrainingRecipe:
    """The encoder of 32x32 emoji, by contrast and representation consistency (arXiv 2510.12586, stage 1)."""
    return PretrainingRecipe(
        name="emoji-pretraining",
        data=EmojiImages(size=SIZE),
        encoder=PixelEncoder(),
        views=VIEWS,
        projector=(1024, 256),
        optimiser=AdamW(lr=6e-4, betas=(0.9, 0.95), weight_decay=0.03, clip=None, schedule="cosine", warmup=200),
        budget=Budget(steps=4000, batch=128),
        seed=0,
    )


def emoji_epg() -> Recipe:
    """Groups of emoji in 32x32 pixels by x-prediction (arXiv 2510.12586, stage 2a); net.pretrained is where from."""
    levels = ResolutionLevels(SIZE)
    return Recipe(
        name="emoji-epg",
        data=GroupedEmoji(),
        latent=pixels,
        net=PixelViT(),
        denoiser=DirectPixels(),
        objective=Denoise("x0", SnappedLogNormal(levels), KarrasSpacing(levels), drop=0.1),
        optimiser=AdamW(lr=5e-4, betas=(0.9, 0.999), weight_decay=0.01, clip=0.5, schedule="cosine", warmup=200),
        ema=0.999,
        budget=Budget(steps=4000, batch=64),
        seed=0,
    )
