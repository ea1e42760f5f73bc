"""The adversarial part of an autoencoder's loss: a patch discriminator, hinge losses, and their adaptive weight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.objective.batch import Loss

__all__ = ["DiscriminatorLoss", "PatchDiscriminator", "adaptive_weight", "generator_hinge", "hinge"]


class PatchDiscriminator(nn.Module):
    """PatchGAN: one real-or-fake number (a logit) for each overlapping patch of an image.

    conv4x4 stride 2, LeakyReLU(0.2); ``layers - 1`` times conv4x4 stride 2, BatchNorm, LeakyReLU; once the same
    with stride 1; conv4x4 to one channel. Width doubles up to 8 times ``channels``. Weights start N(0, 0.02),
    BatchNorm's N(1, 0.02), from torch's generator as every layer's do.

    Args:
        in_channels: channels of the images.
        channels: width of the first layer.
        layers: strided layers (the paper's: 3, and 2 for its vq-f8).

    Raises:
        ValueError: for sizes below 1, or, when called, an image too small for one patch.

    Source: arXiv 1611.07004; released code of arXiv 2112.10752.

    >>> PatchDiscriminator(channels=4, layers=2)(torch.zeros(1, 3, 32, 32)).shape
    torch.Size([1, 1, 6, 6])
    """

    def __init__(self, in_channels: int = 3, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        if min(in_channels, channels, layers) < 1:
            raise ValueError(
                f"in_channels, channels and layers must be at least 1, got {in_channels}, {channels}, {layers}"
            )
        self.config = {"in_channels": in_channels, "channels": channels, "layers": layers}
        self.smallest = 3 * 2**layers
        body: list[nn.Module] = [nn.Conv2d(in_channels, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = channels
        for layer in range(1, layers + 1):
            out, stride = channels * min(2**layer, 8), 2 if layer < layers else 1
            body += [nn.Conv2d(width, out, 4, stride, 1, bias=False), nn.BatchNorm2d(out), nn.LeakyReLU(0.2)]
            width = out
        self.body = nn.Sequential(*body, nn.Conv2d(width, 1, 4, 1, 1))
        for module in self.body:
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 hp wp"]:
        """Logits of the patches: positive means real."""
        if min(x.shape[-2:]) < self.smallest:
            raise ValueError(
                f"this discriminator needs images of at least {self.smallest} pixels a side, got "
                f"{tuple(x.shape[-2:])}; use fewer layers"
            )
        return self.body(x)


def hinge(real: Float[Tensor, "..."], fake: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """The discriminator's loss 0.5 (mean relu(1 - D(x)) + mean relu(1 + D(x_hat))); 0 at best, 1 at D = 0."""
    return 0.5 * ((1.0 - real).relu().mean() + (1.0 + fake).relu().mean())


def generator_hinge(fake: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """The generator's loss -mean D(x_hat)."""
    return -fake.mean()


def adaptive_weight(
    nll: Float[Tensor, ""],
    g: Float[Tensor, ""],
    last_layer: Tensor,
    *,
    weight: float = 0.5,
    clip: float = 1e4,
    eps: float = 1e-4,
) -> Float[Tensor, ""]:
    """Weight of the adversarial term that gives it about the gradient of the reconstruction at the last layer.

    lambda = weight clip(||d nll / d W|| / (||d g / d W|| + eps), 0, clip), detached.

    Args:
        nll: reconstruction loss.
        g: adversarial loss of the generator.
        last_layer: W, the last layer's weight; both losses must depend on it.
        weight: factor on the result, at least 0.
        clip: largest ratio; reached where g has no gradient.
        eps: keeps the division finite.
    Returns:
        lambda, in [0, weight clip], without a gradient. Both graphs are kept for the backward pass.
    Raises:
        ValueError: where no gradient can be had: under no_grad, or a frozen or unused last layer.

    Source: arXiv 2012.09841, equation 7; numbers from the released code of arXiv 2112.10752.

    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> round(float(adaptive_weight((6 * w).sum(), (3 * w).sum(), w, weight=1.0)), 3)
    2.0
    """
    try:
        (d_nll,) = torch.autograd.grad(nll, last_layer, retain_graph=True)
        (d_g,) = torch.autograd.grad(g, last_layer, retain_graph=True)
    except RuntimeError as error:
        raise ValueError(
            "the adaptive weight needs gradients of both losses at last_layer: call it with gradients enabled, "
            "on a weight that is trained and used outside activation checkpointing"
        ) from error
    return (weight * (d_nll.norm() / (d_g.norm() + eps)).clamp(0.0, clip)).detach()


@dataclass(frozen=True, eq=False)
class DiscriminatorLoss:
    """What the discriminator minimises: the hinge, times 0 before step ``start``.

    Args:
        discriminator: maps images to logits.
        start: first step at which it learns; the same as the generator's ``disc_start``.
    """

    discriminator: nn.Module
    start: int = 0

    def __call__(self, x: Float[Tensor, "b c h w"], x_hat: Float[Tensor, "b c h w"], step: int) -> Loss:
        """Loss of one batch; no gradient reaches the images. Terms "real" and "fake": mean logits."""
        real, fake = self.discriminator(x.detach()), self.discriminator(x_hat.detach())
        factor = float(step >= self.start)
        return Loss(factor * hinge(real, fake), {"real": real.mean(), "fake": fake.mean()})
