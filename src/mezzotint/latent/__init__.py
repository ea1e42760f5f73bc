"""Autoencoders and tokenizers: images to normalised latents and back."""

from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.latent.identity import Identity
from mezzotint.latent.kl import AutoencoderKL, Posterior
from mezzotint.latent.quantise import Codebook, EMACodebook, GradientCodebook, Quantised
from mezzotint.latent.spec import LatentSpec
from mezzotint.latent.spread import statistics_hash, with_spread
from mezzotint.latent.tiled import Tiled
from mezzotint.latent.usage import Usage
from mezzotint.latent.vq import AutoencoderVQ, AutoencoderVQEMA

__all__ = [
    "Autoencoder",
    "AutoencoderKL",
    "AutoencoderVQ",
    "AutoencoderVQEMA",
    "Codebook",
    "EMACodebook",
    "GradientCodebook",
    "Identity",
    "LatentSpec",
    "Posterior",
    "Quantised",
    "Tiled",
    "Usage",
    "statistics_hash",
    "with_spread",
]
