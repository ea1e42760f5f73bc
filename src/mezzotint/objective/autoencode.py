"""What training an autoencoder minimises: reconstruction, perceptual, regularising and adversarial terms.

Two conventions live here side by side, as in the released code of arXiv 2112.10752. The KL model *sums* the
reconstruction error over pixels and the divergence over latent elements, then divides by the batch; the VQ model
takes *means* of both. :class:`PlainAutoencode` is the KL model's loss divided by the number of pixel values, so its
weights keep the paper's meaning while its size does not depend on the image.
"""
from __future__ import annotations

from dataclasses import dataclass

from mezzotint.core.noise import Noise
from mezzotint.latent.kl import AutoencoderKL
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.perceptual import Perceptual


@dataclass(frozen=True, eq=False)
class PlainAutoencode:
    """Mean L1 + perceptual + KL, for small models trained without a discriminator.

    loss = mean|x - x_hat| + perceptual_weight mean d(x, x_hat) + kl_weight sum(KL) / (b c h w)

    This is the sheet's nll + kl_weight KL divided by c h w, so kl_weight is comparable with the paper's 1e-6.

    Args:
        kl_weight: weight of the divergence, at least 0. Small latents bear more than the paper's 1e-6.
        perceptual: distance added to every pixel, or None for L1 alone.
        perceptual_weight: its weight, at least 0.

    Source: arXiv 2112.10752, released code; mean reduction and the missing discriminator are our choice.
    """

    kl_weight: float = 1e-6
    perceptual: Perceptual | None = None
    perceptual_weight: float = 1.0

    def __post_init__(self) -> None:
        _require_weights(kl_weight=self.kl_weight, perceptual_weight=self.perceptual_weight)

    def __call__(self, autoencoder: AutoencoderKL, batch: Batch, noise: Noise) -> Loss:
        """Loss of one batch; terms "l1", "perceptual" and "kl" (nats a sample), each before its weight."""
        x = batch.x
        posterior = autoencoder.posterior(x)
        x_hat = autoencoder.raw_decode(posterior.sample(noise))
        l1, kl = (x - x_hat).abs().mean(), posterior.kl().mean()
        total = l1 + self.kl_weight * kl / x[0].numel()
        terms = {"l1": l1, "kl": kl}
        if self.perceptual is not None:
            terms["perceptual"] = self.perceptual(x, x_hat).mean()
            total = total + self.perceptual_weight * terms["perceptual"]
        return Loss(total, terms)


def _require_weights(**weights: float) -> None:
    for name, value in weights.items():
        if not value >= 0:
            raise ValueError(f"{name} must be at least 0, got {value}")
