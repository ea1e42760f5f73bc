"""A small fixed convolutional classifier whose features the emoji metrics are measured on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["FeatureNet", "load_features"]

_WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


class FeatureNet(nn.Module):
    """Four strided stages and a global mean: features (b, dim); linear heads on them are for training only.

    Inputs are brought to size x size by an antialiased bilinear filter first (an input of that size is left as it is),
    so that 32 and 64 px images are measured by the same network. Not an Inception network: a distance on these
    features is comparable only with others on the same weights.

    Args:
        classes: classes of each head, for example (10, 99) for group and subgroup.
        width: channels of the first stage.
        dim: number of features.
        size: side in pixels the network works at.

    >>> FeatureNet().features(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 96])
    """

    def __init__(self, classes: Sequence[int] = (10,), width: int = 24, dim: int = 96, size: int = 64) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"classes": list(classes), "width": width, "dim": dim, "size": size}
        self.size, self.dim = size, dim
        self.name, self.resize = "FeatureNet", f"bilinear, antialiased, to {size}"
        self.trunk = nn.Sequential(
            _stage(3, width, 5),
            _stage(width, 2 * width, 3),
            _stage(2 * width, 3 * width, 3),
            _stage(3 * width, dim, 3),
            nn.Conv2d(dim, dim, 3, padding=1, bias=False),
            nn.GroupNorm(8, dim),
            nn.ReLU(),
        )
        self.heads = nn.ModuleList(nn.Linear(dim, count) for count in classes)

    def features(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Features of images in [-1, 1] at any size of at least 8 px.

        Raises:
            ValueError: for another shape, or values that are not finite.
        """
        return self.trunk(self._sized(x)).mean((2, 3))

    def maps(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The feature maps of the four stages and the last layer, finest first, for a perceptual distance."""
        x, maps = self._sized(x), []
        for layer in self.trunk:
            x = layer(x)
            maps.append(x)
        return [*maps[:4], maps[-1]]

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        """Logits of every head."""
        features = self.features(x)
        return tuple(head(features) for head in self.heads)

    def _sized(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < 8:
            raise ValueError(f"features need images (b, 3, h, w) of at least 8x8 pixels; got {tuple(x.shape)}")
        if not bool(torch.isfinite(x).all()):
            raise ValueError("features got an image with NaN or infinite values; look where it was made")
        if x.shape[2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        return x


def load_features(folder: str | Path = "emoji-features") -> FeatureNet:
    """The shipped feature network (or one saved by `train_classifier`), in eval mode and without gradients.

    Args:
        folder: name of a shipped set of weights, or a folder with config.json and weights.safetensors.

    Raises:
        ValueError: if the folder or one of its files is missing, broken, or does not fit the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) if Path(folder).is_dir() else _WEIGHTS / str(folder)
    config, weights = path / "config.json", path / "weights.safetensors"
    for file in (config, weights):
        if not file.is_file():
            raise ValueError(f"no {file}: give the folder that `python -m mezzotint.metric.train_classifier` wrote")
    try:
        net = FeatureNet(**json.loads(config.read_text()))
        state = {name: tensor.float() for name, tensor in load_file(weights).items()}
        net.load_state_dict(state)
    except (SafetensorError, RuntimeError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a feature network of this version: {error}") from error
    net.name = path.name
    return net.eval().requires_grad_(False)


def _stage(channels: int, out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride=2, padding=kernel // 2, bias=False),
        nn.GroupNorm(8, out),
        nn.ReLU(),
    )
