"""What training an autoencoder minimises: reconstruction, perceptual, regularising and adversarial terms.

Two conventions live here side by side, as in the released code of arXiv 2112.10752. The KL model *sums* the
reconstruction error over pixels and the divergence over latent elements and divides by the batch; the VQ model
takes *means* of both. The adversarial term is a mean in both, so the KL model's adaptive weight often sits at its
largest value. :class:`PlainAutoencode` and :class:`PlainQuantise` need no discriminator; the former is the KL
model's loss divided by the number of pixel values, so its weights mean what the paper's mean, whatever the size.

A training step with a discriminator has two losses over one reconstruction:

    posterior = autoencoder.posterior(x); x_hat = autoencoder.raw_decode(posterior.sample(noise))
    generator.loss(autoencoder.last_layer, x, x_hat, posterior, step)       # KLGenerator, a Loss
    DiscriminatorLoss(discriminator, start)(x, x_hat, step)                 # objective/adversarial.py, a Loss
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core.noise import Noise
from mezzotint.latent.kl import AutoencoderKL, Posterior
from mezzotint.latent.quantise import Quantised
from mezzotint.latent.vq import AutoencoderVQ
from mezzotint.objective.adversarial import adaptive_weight, generator_hinge
from mezzotint.objective.batch import Batch, Loss
from mezzotint.objective.perceptual import Perceptual

__all__ = ["KLGenerator", "LegacyVQLoss", "PlainAutoencode", "PlainQuantise", "VQGenerator", "VQLoss"]


@dataclass(frozen=True, eq=False)
class PlainAutoencode:
    """Mean L1 + perceptual + KL, for small models trained without a discriminator.

    loss = mean|x - x_hat| + perceptual_weight mean d(x, x_hat) + kl_weight sum(KL) / (b c h w)

    This is the paper's nll + kl_weight KL divided by c h w, so kl_weight is comparable with its 1e-6.

    Args:
        kl_weight: weight of the divergence, at least 0. Small models bear more than the paper's 1e-6.
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
        """Loss of one batch; terms "l1", "kl" (nats a sample) and "perceptual", each before its weight."""
        posterior = autoencoder.posterior(batch.x)
        x_hat = autoencoder.raw_decode(posterior.sample(noise))
        total, terms = _plain(batch.x, x_hat, self.perceptual, self.perceptual_weight)
        terms["kl"] = posterior.kl().mean()
        return Loss(total + self.kl_weight * terms["kl"] / math.prod(batch.x.shape[1:]), terms)


@dataclass(frozen=True)
class VQLoss:
    """mean((sg[z] - e)^2) + beta mean((z - sg[e])^2): the codebook follows, the encoder commits by beta.

    Source: arXiv 1711.00937, equation 3.
    """

    beta: float = 0.25

    def __call__(self, q: Quantised) -> Float[Tensor, ""]:
        return q.codebook_error + self.beta * q.commitment_error


@dataclass(frozen=True)
class LegacyVQLoss:
    """mean((z - sg[e])^2) + beta mean((sg[z] - e)^2): beta on the other term, as in the code the paper used.

    Source: the quantiser of CompVis/taming-transformers with its "legacy" default; use it to match old runs.
    """

    beta: float = 0.25

    def __call__(self, q: Quantised) -> Float[Tensor, ""]:
        return q.commitment_error + self.beta * q.codebook_error


@dataclass(frozen=True, eq=False)
class PlainQuantise:
    """Mean L1 + perceptual + VQ, for small models trained without a discriminator (our choice).

    loss = mean|x - x_hat| + perceptual_weight mean d(x, x_hat) + codebook_weight L_vq

    Args:
        vq: a :class:`VQLoss` or :class:`LegacyVQLoss`.
        codebook_weight, perceptual, perceptual_weight: as named; weights at least 0.
    """

    vq: VQLoss | LegacyVQLoss = field(default_factory=VQLoss)
    codebook_weight: float = 1.0
    perceptual: Perceptual | None = None
    perceptual_weight: float = 1.0

    def __post_init__(self) -> None:
        _require_weights(codebook_weight=self.codebook_weight, perceptual_weight=self.perceptual_weight)

    def __call__(self, autoencoder: AutoencoderVQ, batch: Batch, noise: Noise) -> Loss:
        """Loss of one batch (noise is not used); terms "l1", "vq" and "perceptual", each before its weight."""
        q = autoencoder.quantised(batch.x)
        x_hat = autoencoder.decode_quantised(q.z)
        total, terms = _plain(batch.x, x_hat, self.perceptual, self.perceptual_weight)
        terms["vq"] = self.vq(q)
        return Loss(total + self.codebook_weight * terms["vq"], terms)


@dataclass(frozen=True, eq=False)
class KLGenerator:
    """The generator's loss of the KL autoencoders, sums over pixels.

    r = |x - x_hat| + perceptual_weight d(x, x_hat);  nll = sum(r / exp(s) + s) / b
    loss = nll + kl_weight sum(KL) / b + lambda g,  g = -mean D(x_hat)

    d is broadcast over all pixel values; lambda is :func:`adaptive_weight`, 0 before ``disc_start`` (and not
    computed then: the released code computes it and multiplies by 0).

    Args:
        discriminator: maps images to logits.
        perceptual: distance d, or None for L1 alone.
        disc_start: first step with the adversarial term; from step 0 a KL model is unstable.
        disc_weight, kl_weight, perceptual_weight: at least 0.
        log_variance: s; a number, since in the released code it is a parameter that no optimiser has.

    Source: arXiv 2112.10752, appendix G and released code.
    """

    discriminator: nn.Module
    perceptual: nn.Module | None = None
    disc_start: int = 50001
    disc_weight: float = 0.5
    kl_weight: float = 1e-6
    perceptual_weight: float = 1.0
    log_variance: float = 0.0

    def __post_init__(self) -> None:
        _require_weights(
            disc_weight=self.disc_weight, kl_weight=self.kl_weight, perceptual_weight=self.perceptual_weight
        )

    def __call__(self, autoencoder: AutoencoderKL, batch: Batch, noise: Noise, step: int = 0) -> Loss:
        """Encode, sample, decode and return :meth:`loss`."""
        posterior = autoencoder.posterior(batch.x)
        x_hat = autoencoder.raw_decode(posterior.sample(noise))
        return self.loss(autoencoder.last_layer, batch.x, x_hat, posterior, step)

    def loss(self, last_layer: Tensor, x: Tensor, x_hat: Tensor, posterior: Posterior, step: int) -> Loss:
        """Loss of a reconstruction; terms "nll", "kl" (before its weight), "g" and "lambda"."""
        r = _errors(x, x_hat, self.perceptual, self.perceptual_weight)
        nll = (r * math.exp(-self.log_variance) + self.log_variance).sum() / len(x)
        terms = {"nll": nll, "kl": posterior.kl().mean()}
        terms |= _adversarial(self.discriminator, x_hat, nll, last_layer, self.disc_weight, step >= self.disc_start)
        return Loss(nll + self.kl_weight * terms["kl"] + terms["lambda"] * terms["g"], terms)


@dataclass(frozen=True, eq=False)
class VQGenerator:
    """The generator's loss of the VQ autoencoders, means over pixels.

    loss = mean(|x - x_hat| + perceptual_weight d(x, x_hat)) + lambda g + codebook_weight L_vq

    Args:
        discriminator, perceptual, disc_start, disc_weight, perceptual_weight: as in :class:`KLGenerator`.
        vq: a :class:`VQLoss`, or :class:`LegacyVQLoss` to match the released runs.
        codebook_weight: at least 0.

    Source: arXiv 2112.10752, appendix G and released code.
    """

    discriminator: nn.Module
    perceptual: nn.Module | None = None
    vq: VQLoss | LegacyVQLoss = field(default_factory=VQLoss)
    disc_start: int = 0
    disc_weight: float = 0.75
    codebook_weight: float = 1.0
    perceptual_weight: float = 1.0

    def __post_init__(self) -> None:
        _require_weights(
            disc_weight=self.disc_weight,
            codebook_weight=self.codebook_weight,
            perceptual_weight=self.perceptual_weight,
        )

    def __call__(self, autoencoder: AutoencoderVQ, batch: Batch, noise: Noise, step: int = 0) -> Loss:
        """Encode, quantise, decode and return :meth:`loss` (noise is not used)."""
        q = autoencoder.quantised(batch.x)
        return self.loss(autoencoder.last_layer, batch.x, autoencoder.decode_quantised(q.z), q, step)

    def loss(self, last_layer: Tensor, x: Tensor, x_hat: Tensor, q: Quantised, step: int) -> Loss:
        """Loss of a reconstruction; terms "nll", "vq" (before its weight), "g" and "lambda"."""
        nll = _errors(x, x_hat, self.perceptual, self.perceptual_weight).mean()
        terms = {"nll": nll, "vq": self.vq(q)}
        terms |= _adversarial(self.discriminator, x_hat, nll, last_layer, self.disc_weight, step >= self.disc_start)
        return Loss(nll + self.codebook_weight * terms["vq"] + terms["lambda"] * terms["g"], terms)


def _errors(x: Tensor, x_hat: Tensor, perceptual: nn.Module | None, weight: float) -> Tensor:
    r = (x - x_hat).abs()
    return r if perceptual is None else r + weight * perceptual(x, x_hat).view(-1, 1, 1, 1)


def _plain(x: Tensor, x_hat: Tensor, perceptual: nn.Module | None, weight: float) -> tuple[Tensor, dict[str, Tensor]]:
    terms = {"l1": (x - x_hat).abs().mean()}
    if perceptual is None:
        return terms["l1"], terms
    terms["perceptual"] = perceptual(x, x_hat).mean()
    return terms["l1"] + weight * terms["perceptual"], terms


def _adversarial(
    discriminator: nn.Module, x_hat: Tensor, nll: Tensor, last_layer: Tensor, weight: float, on: bool
) -> dict[str, Tensor]:
    if not on or not torch.is_grad_enabled():  # evaluation has no gradients to weigh by: lambda is 0, as in the code
        return {"g": nll.new_zeros(()), "lambda": nll.new_zeros(())}
    g = generator_hinge(discriminator(x_hat))
    return {"g": g, "lambda": adaptive_weight(nll, g, last_layer, weight=weight)}


def _require_weights(**weights: float) -> None:
    for name, value in weights.items():
        if not value >= 0:
            raise ValueError(f"{name} must be at least 0, got {value}")
