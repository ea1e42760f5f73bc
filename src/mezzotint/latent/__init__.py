"""Autoencoders and tokenizers: images to normalised latents and back."""
from mezzotint.latent.autoencoder import Autoencoder
from mezzotint.latent.identity import Identity
from mezzotint.latent.kl import AutoencoderKL, Posterior
from mezzotint.latent.spec import LatentSpec

__all__ = ["Autoencoder", "AutoencoderKL", "Identity", "LatentSpec", "Posterior"]
