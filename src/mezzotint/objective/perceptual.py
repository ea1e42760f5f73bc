"""Perceptual distance over the features of any network, and a small fixed network for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mezzotint.core.noise import Noise


class Perceptual(nn.Module):
    """Distance of two images in the features of a network, in the style of LPIPS.

    d(x, y) = sum_l mean_{h,w} sum_c w_lc (f_lc(x)/|f_l(x)| - f_lc(y)/|f_l(y)|)^2

    with |f| the norm over channels at each position. Gradients reach both images, never the network, which is
    frozen and kept in evaluation mode.

    Args:
        features: maps images (b, c, h, w) to a list of feature maps (b, c_l, h_l, w_l).
        weights: for each map, one non-negative weight a channel (c_l,); None weighs all channels by 1.

    Raises:
        ValueError: for a negative weight, or weights that do not fit the feature maps.

    Source: Zhang et al., arXiv 1801.03924, equation 1. The root's epsilon is inside it (our choice), so that
    features that are all zero give a zero gradient and not NaN.

    >>> import torch
    >>> x = torch.zeros(2, 3, 16, 16)
    >>> Perceptual(RandomFeatures())(x, x)
    tensor([0., 0.])
    """

    def __init__(self, features: nn.Module, weights: Sequence[Tensor] | None = None) -> None:
        super().__init__()
        self.features = features.eval().requires_grad_(False)
        self.layers = None if weights is None else len(weights)
        for index, weight in enumerate(weights or ()):
            if weight.ndim != 1 or bool((weight < 0).any()):
                raise ValueError(
                    f"weights[{index}] must be a vector of non-negative numbers, one a channel, "
                    f"got shape {tuple(weight.shape)} and minimum {float(weight.min()):.3g}"
                )
            self.register_buffer(f"weight{index}", weight.detach().clone())

    def train(self, mode: bool = True) -> Perceptual:
        """Sets the mode of this module; the feature network stays in evaluation mode."""
        super().train(mode)
        self.features.eval()
        return self

    def forward(self, x: Float[Tensor, "b c h w"], y: Float[Tensor, "..."]) -> Float[Tensor, " b"]:
        """Distance of each pair, at least 0; both images in [-1, 1] and of the same shape."""
        if x.shape != y.shape:
            raise ValueError(f"the images must have one shape, got {tuple(x.shape)} and {tuple(y.shape)}")
        maps_x, maps_y = self.features(x), self.features(y)
        if self.layers is not None and self.layers != len(maps_x):
            raise ValueError(f"{self.layers} weights for {len(maps_x)} feature maps; give one vector a map")
        distance = x.new_zeros(len(x))
        for index, (f, g) in enumerate(zip(maps_x, maps_y, strict=True)):
            difference = (_unit(f) - _unit(g)).square()
            if self.layers is not None:
                weight = self.get_buffer(f"weight{index}")
                if len(weight) != f.shape[1]:
                    raise ValueError(f"weights[{index}] has {len(weight)} entries for {f.shape[1]} channels")
                difference = difference * weight.to(difference)[:, None, None]
            distance = distance + difference.sum(1).mean((1, 2))
        return distance


def _unit(f: Tensor) -> Tensor:
    return f / (f.square().sum(1, keepdim=True) + 1e-10).sqrt()


class RandomFeatures(nn.Module):
    """Three scales of fixed random convolutional features: ours; random features, not LPIPS.

    conv3x3 - ReLU at each scale, 2x2 mean pooling between scales; weights N(0, 2 / fan_in) and biases
    N(0, bias^2) drawn from the seed, so the same seed is the same network everywhere. The biases keep the features
    of a grey area away from 0, where their direction would be noise. Needs no download; knows nothing of natural
    images, but unlike L1 it weighs faint structure like strong structure.

    Args:
        in_channels: channels of the images.
        channels: width of each scale; small, since it runs in training on a CPU.
        seed: names the network.
        bias: standard deviation of the biases; 0 for none.
    """

    label = "ours; random features, not LPIPS"

    def __init__(
        self, in_channels: int = 3, channels: Sequence[int] = (8, 16, 32), seed: int = 0, bias: float = 0.1
    ) -> None:
        super().__init__()
        self.config = {"in_channels": in_channels, "channels": list(channels), "seed": seed, "bias": bias}
        self.scales = len(channels)
        noise = Noise([seed])
        for index, (fan, out) in enumerate(zip((in_channels, *channels), channels)):
            weight = noise("random-features", index, (out, fan, 3, 3))[0] * math.sqrt(2.0 / (9 * fan))
            offset = noise("random-features-bias", index, (out,))[0] * bias
            self.register_buffer(f"weight{index}", weight, persistent=False)
            self.register_buffer(f"bias{index}", offset, persistent=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """The feature maps, finest first. The image's sides must be at least 2 ** (scales - 1)."""
        least = 2 ** (self.scales - 1)
        if min(x.shape[-2:]) < least:
            raise ValueError(f"images must be at least {least} pixels a side, got {tuple(x.shape)}")
        maps = []
        for index in range(self.scales):
            if index:
                x = F.avg_pool2d(x, 2)
            weight, bias = (self.get_buffer(f"{name}{index}").to(x) for name in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
            maps.append(x)
        return maps
