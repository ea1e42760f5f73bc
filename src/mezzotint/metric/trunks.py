"""The trunks LPIPS was published on: AlexNet, VGG-16 and SqueezeNet 1.1 up to their last tap."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.metric.perceptual import PerceptualDistance
from mezzotint.metric.weights import fill, read_weights

__all__ = ["Trunk", "load_lpips"]

_TAPS = {
    "alex": (1, 4, 7, 9, 11),
    "vgg": (3, 8, 15, 22, 29),
    "squeeze": (1, 4, 7, 9, 10, 11, 12),
}


class Trunk(nn.Module):
    """Convolutional layers under torchvision's names, with the feature maps that LPIPS compares.

    Images in [-1, 1] are scaled by LPIPS's constants (ImageNet's mean and standard deviation for that range) and not
    resized.

    Args:
        net: "alex", "vgg" (16 layers) or "squeeze" (1.1).

    Raises:
        ValueError: for another name.

    Source: Zhang et al. 2018 (arXiv 1801.03924), section 3 and the published version 0.1.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Literal["alex", "vgg", "squeeze"] = "alex") -> None:
        super().__init__()
        if net not in _TAPS:
            raise ValueError(f"unknown trunk {net!r}; expected one of {', '.join(_TAPS)}")
        self.net, self.name, self.resize = net, net, "none"
        self.features = nn.Sequential(*{"alex": _alex, "vgg": _vgg, "squeeze": _squeeze}[net]())
        for name, values in (("shift", [-0.030, -0.088, -0.188]), ("scale", [0.458, 0.448, 0.450])):
            with torch.device("cpu"):  # constants, also where the weights are still to come
                self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def maps(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The feature maps at the taps, finest first."""
        h, maps = (x - self.shift) / self.scale, []
        for index, layer in enumerate(self.features):
            h = layer(h)
            if index in _TAPS[self.net]:
                maps.append(h)
        return maps


def load_lpips(
    trunk: str | Path,
    linear: str | Path,
    net: Literal["alex", "vgg", "squeeze"] = "alex",
    *,
    allow_pickle: bool = False,
) -> PerceptualDistance:
    """LPIPS with its published weights, from two files of the user's: its result is called "LPIPS".

    Args:
        trunk: ImageNet weights of the trunk under torchvision's names (features.0.weight and so on); what belongs to
            the classifier is left out.
        linear: the published linear layers (lin0.model.1.weight and so on), version 0.1.
        net: which trunk.
        allow_pickle: whether .pth files may be opened (by torch's restricted reader).

    Raises:
        ValueError: where a file is missing, broken, a pickle without the word, or of another network.

    Source: Zhang et al. 2018 (arXiv 1801.03924), equation 1.
    """
    with torch.device("meta"):
        made = Trunk(net)
    state = read_weights(trunk, allow_pickle=allow_pickle)
    fill(made, {name: value for name, value in state.items() if name.startswith("features.")}, trunk)
    given, weights = read_weights(linear, allow_pickle=allow_pickle), []
    for index in range(len(_TAPS[net])):
        name = f"lin{index}.model.1.weight"
        if name not in given:
            raise ValueError(f"{linear}: no {name}; expected LPIPS's linear layers for {net!r}")
        weights.append(given[name].float().flatten())
    return PerceptualDistance(made, weights, metric="LPIPS")


def _alex() -> list[nn.Module]:
    return [
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(),
    ]  # fmt: skip


def _vgg() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for stage, (width, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        if stage:
            layers.append(nn.MaxPool2d(2, 2))
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return layers


def _squeeze() -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 2), nn.ReLU()]
    channels = 64
    for pooled, inner, width in (
        (True, 16, 64), (False, 16, 64), (True, 32, 128), (False, 32, 128),
        (True, 48, 192), (False, 48, 192), (False, 64, 256), (False, 64, 256),
    ):  # fmt: skip
        if pooled:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        layers.append(_Fire(channels, inner, width))
        channels = 2 * width
    return layers


class _Fire(nn.Module):
    """1x1 to few channels, then 1x1 and 3x3 beside each other."""

    def __init__(self, channels: int, inner: int, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, inner, 1)
        self.expand1x1 = nn.Conv2d(inner, width, 1)
        self.expand3x3 = nn.Conv2d(inner, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(h).relu(), self.expand3x3(h).relu()], 1)
