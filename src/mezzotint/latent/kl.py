"""The KL-regularised autoencoder (arXiv 2112.10752)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mezzotint.core.noise import Noise
from mezzotint.latent._check import check_image
from mezzotint.latent.convolutional import ConvolutionalAutoencoder


@dataclass(frozen=True)
class Posterior:
    """A diagonal Gaussian N(mean, exp(logvar)) over each image's latent.

    Args:
        mean: (b, k, h, w).
        logvar: (b, k, h, w), log of the variance; :meth:`AutoencoderKL.posterior` clamps it to [-30, 20].

    >>> import torch
    >>> Posterior(torch.ones(1, 4, 8, 8), torch.zeros(1, 4, 8, 8)).kl()
    tensor([128.])
    """

    mean: Float[Tensor, "b k h w"]
    logvar: Float[Tensor, "b k h w"]

    def kl(self) -> Float[Tensor, " b"]:
        """KL(N(mean, var) || N(0, I)) = 1/2 sum(mean^2 + var - 1 - logvar), over c, h, w of each sample."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).flatten(1).sum(1)

    def sample(self, noise: Noise) -> Float[Tensor, "b k h w"]:
        """mean + exp(logvar / 2) n, with n drawn for the purpose "posterior". One seed a sample."""
        if len(noise) != len(self.mean):
            raise ValueError(f"noise has {len(noise)} seeds for {len(self.mean)} images; give one seed an image")
        like = {"dtype": self.mean.dtype, "device": self.mean.device}
        return self.mean + (0.5 * self.logvar).exp() * noise("posterior", 0, self.mean.shape[1:], **like)


class AutoencoderKL(ConvolutionalAutoencoder):
    """Convolutional autoencoder with a Gaussian posterior: (mean, logvar) = split(quant_conv(E(x))).

    Factor patch * 2**(len(mult) - 1). The paper's: channels 128, blocks 2, groups 32, patch 1, attention, and
    mult (1, 2, 4) latent 3 for f = 4; (1, 2, 4, 4) latent 4 for f = 8 (the Stable Diffusion autoencoder);
    (1, 1, 2, 2, 4) latent 16 attention_at (16,) for f = 16. The defaults here are small (our choice).

    Args: see :class:`mezzotint.latent.blocks.Encoder`; ``latent`` is the number of latent channels.

    Source: arXiv 2112.10752, appendix G and released code; ``patch`` is our choice.

    >>> import torch
    >>> net = AutoencoderKL(channels=8, mult=(1, 2), latent=4, patch=2)
    >>> net.encode(torch.zeros(1, 3, 16, 16)).shape, net.spec.factor
    (torch.Size([1, 4, 4, 4]), 4)
    """

    def __init__(
        self,
        in_channels: int = 3,
        channels: int = 32,
        mult: Sequence[int] = (1, 2, 4),
        blocks: int = 1,
        latent: int = 4,
        patch: int = 1,
        attention: bool = False,
        attention_at: Sequence[int] = (),
        groups: int = 8,
    ) -> None:
        config = {
            "in_channels": in_channels,
            "channels": channels,
            "mult": list(mult),
            "blocks": blocks,
            "latent": latent,
            "patch": patch,
            "attention": attention,
            "attention_at": list(attention_at),
            "groups": groups,
        }
        super().__init__(**config, doubled=2, codes=None, config=config)

    def posterior(self, x: Float[Tensor, "b c h w"]) -> Posterior:
        """The Gaussian over each image's raw latent; log-variance clamped to [-30, 20]."""
        check_image(x, self.image_channels, self.spec.factor)
        return self._posterior(x)

    def moments(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor | None]:
        """Mean and variance of the posterior."""
        posterior = self._posterior(x)
        return posterior.mean, posterior.logvar.exp()

    def _posterior(self, x: Tensor) -> Posterior:
        mean, logvar = self.features(x).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(-30.0, 20.0))
