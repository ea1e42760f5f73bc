"""Inception-v3 in the form that FID is defined on; the weights are the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.metric.resize import eight_bits, resize_clean, resize_tensorflow
from mezzotint.metric.weights import fill, read_weights

__all__ = ["InceptionV3", "load_inception"]

# One step of a branch: name, channels, kernel, stride; a list of steps is a fork whose outputs are joined.
Step = tuple[str, int, Any, int]
_TAPS = (64, 192, 768, 2048)


class InceptionV3(nn.Module):
    """The network of the 2015 TensorFlow graph: features (b, 2048), or those of an earlier tap, pooled over places.

    It differs from the published Inception-v3 in its average pools, which leave the padding out, in a maximum pool in
    the branch of the last block, and in 1008 classes; hence other weights do not give FID. Layers have the names of
    the converted weights that pytorch-fid and torch-fidelity use. Images are rounded to 8 bits, resized to 299, and
    scaled by (p - 128) / 128.

    Args:
        tap: 64, 192, 768 or 2048 channels. FID is on 2048.
        resize: "tensorflow" as published FIDs; "bicubic" antialiased, as clean-fid's.

    Raises:
        ValueError: for another tap or filter.

    Source: Szegedy et al. 2015 (arXiv 1512.00567); Heusel et al. 2017 (arXiv 1706.08500) for its use.
    """

    def __init__(
        self, tap: Literal[64, 192, 768, 2048] = 2048, resize: Literal["tensorflow", "bicubic"] = "tensorflow"
    ) -> None:
        super().__init__()
        if tap not in _TAPS or resize not in ("tensorflow", "bicubic"):
            raise ValueError(f"InceptionV3 got tap={tap!r}, resize={resize!r}; expected a tap of {_TAPS}, "
                             "and 'tensorflow' or 'bicubic'")  # fmt: skip
        self.tap, self.filter = tap, resize
        self.name = "Inception-v3" if tap == 2048 else f"Inception-v3, {tap} channels"
        filters = {"tensorflow": "bilinear of TensorFlow 1, not antialiased", "bicubic": "bicubic, antialiased"}
        self.resize = f"8 bits, {filters[resize]}, to 299"
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, padded=False)
        for name, channels, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
            self.add_module(f"Mixed_{name}", _Mixed(channels, _wide(pooled), "mean"))
        self.Mixed_6a = _Mixed(288, _shrink_35(), "stride")
        for name, inner in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            self.add_module(f"Mixed_{name}", _Mixed(768, _long(inner), "mean"))
        self.Mixed_7a = _Mixed(768, _shrink_17(), "stride")
        self.Mixed_7b = _Mixed(1280, _forked(), "mean")
        self.Mixed_7c = _Mixed(2048, _forked(), "max")
        self.fc = nn.Linear(2048, 1008)

    def features(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Features of images in [-1, 1]."""
        return self.maps(x)[-1].mean((2, 3))

    def maps(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """The feature maps at the taps up to this network's own, of 73, 35, 17 and 8 places a side."""
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"InceptionV3 needs images (b, 3, h, w); got {tuple(x.shape)}")
        x = eight_bits(x)
        x = resize_tensorflow(x, 299) if self.filter == "tensorflow" else resize_clean(x, 299)
        h, maps = (x - 128) / 128, []
        for names in _STAGES[: _TAPS.index(self.tap) + 1]:
            for name in names:
                h = F.max_pool2d(h, 3, 2) if name == "pool" else self.get_submodule(name)(h)
            maps.append(h)
        return maps

    def logits(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1008"]:
        """Scores of the 1008 classes, of a network with the tap 2048."""
        return self.fc(self.features(x))


_STAGES = (
    ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "pool"),
    ("Conv2d_3b_1x1", "Conv2d_4a_3x3", "pool"),
    tuple(f"Mixed_{name}" for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e")),
    tuple(f"Mixed_{name}" for name in ("7a", "7b", "7c")),
)


def load_inception(
    source: str | Path, *, allow_pickle: bool = False, file: str = "model.safetensors", **options: Any
) -> InceptionV3:
    """An InceptionV3 with the user's weights: the file converted from the 2015 graph, of any of its packagings.

    Args:
        source: a file, or a hub id "owner/model" that has `file`.
        allow_pickle: whether a .pth file may be opened (by torch's restricted reader).
        file: name of the weights on the hub.
        options: `tap` and `resize` of `InceptionV3`.

    Raises:
        ValueError: where the file is missing, broken, a pickle without the word, or of another network.
    """
    with torch.device("meta"):
        net = InceptionV3(**options)
    state = read_weights(source, allow_pickle=allow_pickle, file=file)
    fill(net, {name: value for name, value in state.items() if not name.startswith("AuxLogits.")}, source)
    return net


class _Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU; a stride of 2 goes without padding."""

    def __init__(self, channels: int, out: int, kernel: Any, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (sides[0] // 2, sides[1] // 2) if stride == 1 and padded else 0
        self.conv = nn.Conv2d(channels, out, sides, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Mixed(nn.Module):
    """Branches beside each other, joined over channels; the last branch begins with a pool."""

    def __init__(
        self, channels: int, branches: Sequence[Sequence[Any]], pool: Literal["mean", "max", "stride"]
    ) -> None:
        super().__init__()
        self.pool = pool
        self.names: list[list[list[str]]] = []
        for branch in branches:
            width, chain = channels, []
            for step in branch:
                fork: list[Step] = step if isinstance(step, list) else [step]
                for name, out, kernel, stride in fork:
                    self.add_module(name, _Conv(width, out, kernel, stride))
                width = sum(out for _, out, _, _ in fork)
                chain.append([name for name, *_ in fork])
            self.names.append(chain)

    def forward(self, x: Tensor) -> Tensor:
        outs = []
        for index, chain in enumerate(self.names):
            h = self._pooled(x) if index == len(self.names) - 1 else x
            for fork in chain:
                h = torch.cat([self.get_submodule(name)(h) for name in fork], 1)
            outs.append(h)
        return torch.cat(outs, 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "stride":
            return F.max_pool2d(x, 3, 2)
        if self.pool == "max":
            return F.max_pool2d(x, 3, 1, 1)
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _wide(pooled: int) -> list[list[Any]]:
    return [
        [("branch1x1", 64, 1, 1)],
        [("branch5x5_1", 48, 1, 1), ("branch5x5_2", 64, 5, 1)],
        [("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 1), ("branch3x3dbl_3", 96, 3, 1)],
        [("branch_pool", pooled, 1, 1)],
    ]


def _shrink_35() -> list[list[Any]]:
    return [
        [("branch3x3", 384, 3, 2)],
        [("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 1), ("branch3x3dbl_3", 96, 3, 2)],
        [],
    ]


def _long(c: int) -> list[list[Any]]:
    across, down = (1, 7), (7, 1)
    return [
        [("branch1x1", 192, 1, 1)],
        [("branch7x7_1", c, 1, 1), ("branch7x7_2", c, across, 1), ("branch7x7_3", 192, down, 1)],
        [
            ("branch7x7dbl_1", c, 1, 1),
            ("branch7x7dbl_2", c, down, 1),
            ("branch7x7dbl_3", c, across, 1),
            ("branch7x7dbl_4", c, down, 1),
            ("branch7x7dbl_5", 192, across, 1),
        ],
        [("branch_pool", 192, 1, 1)],
    ]


def _shrink_17() -> list[list[Any]]:
    return [
        [("branch3x3_1", 192, 1, 1), ("branch3x3_2", 320, 3, 2)],
        [
            ("branch7x7x3_1", 192, 1, 1),
            ("branch7x7x3_2", 192, (1, 7), 1),
            ("branch7x7x3_3", 192, (7, 1), 1),
            ("branch7x7x3_4", 192, 3, 2),
        ],
        [],
    ]


def _forked() -> list[list[Any]]:
    def fork(name: str) -> list[Step]:
        return [(f"{name}a", 384, (1, 3), 1), (f"{name}b", 384, (3, 1), 1)]

    return [
        [("branch1x1", 320, 1, 1)],
        [("branch3x3_1", 384, 1, 1), fork("branch3x3_2")],
        [("branch3x3dbl_1", 448, 1, 1), ("branch3x3dbl_2", 384, 3, 1), fork("branch3x3dbl_3")],
        [("branch_pool", 192, 1, 1)],
    ]
