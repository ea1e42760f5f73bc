"""The leaves that the emoji recipes are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from mezzotint.core import EncodedDenoiser, Flow, FlowDenoiser, Noise, fold
from mezzotint.data import Emoji, indices
from mezzotint.latent import Autoencoder, Identity, LatentSpec
from mezzotint.nn import DiT, UNet
from mezzotint.nn.conditioner import TextConditioner
from mezzotint.objective import Batch
from mezzotint.train.recipe import Batches

__all__ = ["CaptionedEmoji", "EmojiImages", "TextDiT", "TextFlow", "TextUNet", "vocabulary"]

LENGTH = 24


@cache
def vocabulary() -> tuple[str, ...]:
    """The word pieces of the emoji captions and keywords (made by tools/train_tokenizer.py)."""
    return tuple(json.loads((Path(__file__).parent / "emoji_vocab.json").read_text(encoding="utf-8")))


@dataclass(frozen=True)
class EmojiImages:
    """Batches of emoji images without captions: what an autoencoder is trained on.

    Args:
        size: pixels a side.
        split: of the emoji set.
    """

    size: int = 64
    split: str = "train"

    def __call__(self, batch: int, seed: int) -> Batches:
        """step -> Batch, a pure function of the step."""
        source = Emoji(self.size, self.split)

        def batches(step: int) -> Batch:
            return Batch(source.batch(indices(seed, step, batch, len(source)))[0])

        return batches


@dataclass(frozen=True)
class CaptionedEmoji:
    """Batches of latents with the tokens of captions that vary from step to step.

    The images are encoded once; each step draws new posterior samples from the moments kept in memory, keyed by
    (seed, step, place in the batch).

    Args:
        size: pixels a side.
        split: of the emoji set.
    """

    size: int = 64
    split: str = "train"

    def __call__(self, autoencoder: Autoencoder, batch: int, seed: int) -> Batches:
        """step -> Batch of normalised latents, a pure function of the step."""
        source = Emoji(self.size, self.split)
        mean, spread = _moments(autoencoder, source)
        # the smallest conditioner there is: only its tokenizer is used
        words = TextConditioner(vocabulary(), LENGTH, width=2, depth=1, heads=1)

        def batches(step: int) -> Batch:
            rows = indices(seed, step, batch, len(source))
            raw = mean[rows]
            if spread is not None:
                noise = Noise([fold(seed, "posterior", step, i) for i in range(batch)])
                raw = raw + spread[rows] * noise("posterior", 0, raw.shape[1:])
            captions = [source.caption(int(i), step, seed) for i in rows]
            return Batch(autoencoder.normalise(raw), words.prepare(captions))

        return batches


@torch.no_grad()
def _moments(autoencoder: Autoencoder, source: Emoji) -> tuple[Tensor, Tensor | None]:
    """Mean and standard deviation of every image's posterior (None where it has no width)."""
    means, spreads = [], []
    for start in range(0, len(source), 64):
        mean, variance = autoencoder.moments(source.batch(range(start, min(start + 64, len(source))))[0])
        means.append(mean)
        if variance is not None:
            spreads.append(variance.sqrt())
    return torch.cat(means), torch.cat(spreads) if spreads else None


@dataclass(frozen=True)
class TextUNet:
    """A UNet that reads text tokens and a pooled vector of `text` features."""

    channels: int = 64
    mult: tuple[int, ...] = (1, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (2,)
    text: int = 128

    def __call__(self, spec: LatentSpec) -> nn.Module:
        """The network for a latent space."""
        return UNet(
            spec.channels,
            channels=self.channels,
            mult=self.mult,
            blocks=self.blocks,
            attention=self.attention,
            context=self.text,
            pooled=self.text,
        )


@dataclass(frozen=True)
class TextDiT:
    """A DiT that reads text tokens and a pooled vector of `text` features."""

    patch: int = 4
    width: int = 160
    depth: int = 5
    heads: int = 5
    text: int = 128

    def __call__(self, spec: LatentSpec) -> nn.Module:
        """The network for a latent space."""
        return DiT(
            spec.channels,
            patch=self.patch,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            context=self.text,
            pooled=self.text,
        )


@dataclass(frozen=True)
class TextFlow:
    """Flow matching over a network, with a text encoder that is trained jointly.

    Args:
        text: features of a text token, as the network reads them.
        depth, heads: of the text transformer.
    """

    text: int = 128
    depth: int = 2
    heads: int = 4

    def __call__(self, net: nn.Module) -> EncodedDenoiser:
        """The denoiser that training sees."""
        conditioner = TextConditioner(vocabulary(), LENGTH, self.text, self.depth, self.heads)
        return EncodedDenoiser(FlowDenoiser(net, Flow()), conditioner)


def pixels() -> Autoencoder:
    """The identity: pixel space."""
    return Identity(3)
