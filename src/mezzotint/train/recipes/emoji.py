"""Text to emoji: in latent space at 64 pixels, and in pixel space at 32, by the same code."""

from __future__ import annotations

from mezzotint.latent import AutoencoderKL
from mezzotint.objective import Denoise, LogitNormalTime
from mezzotint.objective.autoencode import PlainAutoencode
from mezzotint.objective.perceptual import Perceptual, RandomFeatures
from mezzotint.train.autoencoder_recipe import AutoencoderRecipe
from mezzotint.train.recipe import AdamW, Budget, Recipe
from mezzotint.train.recipes.parts import CaptionedEmoji, EmojiImages, TextDiT, TextFlow, TextUNet, pixels
from mezzotint.train.staged import LatentRecipe

__all__ = ["emoji", "emoji_autoencoder", "emoji_pixel"]


def _autoencoder() -> AutoencoderKL:
    return AutoencoderKL(channels=64, mult=(1, 1), blocks=1, latent=8, patch=4)


def emoji_autoencoder() -> AutoencoderRecipe:
    """64x64 pixels to 8x8x8 latents (factor 8), L1 + random-feature perceptual + a light KL."""
    return AutoencoderRecipe(
        name="emoji-autoencoder",
        data=EmojiImages(size=64),
        autoencoder=_autoencoder,
        objective=PlainAutoencode(
            kl_weight=3e-3, perceptual=Perceptual(RandomFeatures(bias=0.0)), perceptual_weight=0.1
        ),
        optimiser=AdamW(lr=2e-3, betas=(0.9, 0.99), schedule="cosine", warmup=100),
        budget=Budget(steps=9000, batch=16),
        seed=0,
    )


def emoji() -> LatentRecipe:
    """Text to 64x64 emoji by latent diffusion (arXiv 2112.10752): autoencoder, then a UNet over its latents."""
    return LatentRecipe(
        name="emoji",
        autoencoder=emoji_autoencoder(),
        diffusion=Recipe(
            name="emoji-diffusion",
            data=CaptionedEmoji(size=64),
            latent=pixels,  # replaced by the trained autoencoder when the second stage starts
            net=TextUNet(),
            denoiser=TextFlow(),
            objective=Denoise("flow", times=LogitNormalTime(), drop=0.1),
            optimiser=AdamW(lr=1e-3, betas=(0.9, 0.99), schedule="cosine", warmup=200, final=0.02),
            ema=0.999,
            budget=Budget(steps=12000, batch=64),
            seed=0,
        ),
        size=64,
    )


def emoji_pixel() -> Recipe:
    """Text to 32x32 emoji in pixel space: the same objective and text encoder, and no autoencoder."""
    return Recipe(
        name="emoji-pixel",
        data=CaptionedEmoji(size=32),
        latent=pixels,
        net=TextDiT(),
        denoiser=TextFlow(),
        objective=Denoise("flow", times=LogitNormalTime(), drop=0.1),
        optimiser=AdamW(lr=1e-3, betas=(0.9, 0.99), schedule="cosine", warmup=200, final=0.02),
        ema=0.999,
        budget=Budget(steps=3600, batch=64),
        seed=0,
    )
