"""Norms whose gain is fixed at 1, and how a built network gets them."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Gainless", "NonScalingGroupNorm", "NonScalingLayerNorm", "without_gains"]

Gainless = Literal["none", "output", "all"]  # which norms of a network have no learned gain


class NonScalingGroupNorm(nn.Module):
    """y = (x - mean) / sqrt(var + eps) + bias, over the places and channels of a group; no learned gain.

    A channel cannot be amplified, so that an outlier in it stays as large as it is. With one group this is layer
    normalisation over (channels, height, width).

    Args:
        channels: features, on the second axis.
        groups: of channels.
        eps: inside the root.

    Source: arXiv 2502.01441, non-scaling LayerNorm.

    >>> sum(p.numel() for p in NonScalingGroupNorm(8).parameters())
    8
    """

    def __init__(self, channels: int, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups, self.eps = groups, eps
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        """The normalised input plus the bias, of the same shape."""
        # the bias apart: torch's own backward fails for a bias without a gain
        return F.group_norm(x, self.groups, eps=self.eps) + self.bias.view(-1, *[1] * (x.ndim - 2))


class NonScalingLayerNorm(nn.Module):
    """y = (x - mean) / sqrt(var + eps) + bias, over the last axis; no learned gain (see `NonScalingGroupNorm`).

    Args:
        features: on the last axis.
        eps: inside the root.
    """

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.features, self.eps = features, eps
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Float[Tensor, "*b features"]) -> Float[Tensor, "*b features"]:
        """The normalised input plus the bias, of the same shape."""
        return F.layer_norm(x, (self.features,), eps=self.eps) + self.bias


def without_gains(net: nn.Module, where: Gainless = "all") -> nn.Module:
    """Replace the norms of a freshly built network, in place, by ones without a gain; returns the network.

    GroupNorm becomes `NonScalingGroupNorm` of one group, LayerNorm with a gain `NonScalingLayerNorm`. Which norms the
    paper replaces could not be read; its code has the output's: "all" is our choice. The network's settings tell of it
    (`UNet(..., gainless="all")` builds the same one), so that a model folder brings it back; a plain network refuses
    its state, which has no gains.

    Args:
        net: a UNet or a DiT (whose modulated norms have no gain of their own), alone or inside another network; or any
            module without settings.
        where: "all", or the norm before the output alone (`net.norm`).

    Raises:
        ValueError: where there is no norm to replace, or for a network whose settings could not tell of it.

    >>> from mezzotint.nn import UNet
    >>> net = without_gains(UNet(4, channels=16))
    >>> any(name.endswith("norm.weight") for name, _ in net.named_parameters()), net.config["gainless"]
    (False, 'all')
    """
    if where not in ("output", "all"):
        raise ValueError(f"without_gains got where={where!r}; expected all or output")
    settings = [own for m in net.modules() if isinstance(own := getattr(m, "config", None), dict) and "gainless" in own]
    if hasattr(net, "config") and not settings:
        raise ValueError(
            f"{type(net).__name__} has no setting for norms without gains, and could not be had back from a model "
            "folder; expected a UNet or a DiT"
        )
    found = {name: _plain(part) for name, part in net.named_modules()}
    chosen = {name: new for name, new in found.items() if new is not None and (where == "all" or name == "norm")}
    if not chosen:
        raise ValueError(
            f"{type(net).__name__} has no {'norm before its output' if where == 'output' else 'norm'} with a gain; "
            "nothing to replace"
        )
    for name, new in chosen.items():
        parent, _, last = name.rpartition(".")
        setattr(net.get_submodule(parent), last, new)
    for own in settings:
        own["gainless"] = where
    return net


def _plain(norm: nn.Module) -> nn.Module | None:
    """The norm without a gain that takes the place of one with, keeping its bias; None for anything else."""
    if isinstance(norm, nn.GroupNorm) and norm.affine:
        new: NonScalingGroupNorm | NonScalingLayerNorm = NonScalingGroupNorm(norm.num_channels, 1, norm.eps)
    elif isinstance(norm, nn.LayerNorm) and norm.weight is not None and len(norm.normalized_shape) == 1:
        new = NonScalingLayerNorm(norm.normalized_shape[0], norm.eps)
    else:
        return None
    new.to(norm.weight)
    if norm.bias is not None:
        with torch.no_grad():
            new.bias.copy_(norm.bias)
    return new
