"""Embeddings of time, position and label."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


def sinusoidal(time: Float[Tensor, " b"], width: int, max_period: float = 10_000.0) -> Float[Tensor, "b width"]:
    """Embed a time.

    (cos(time f_i), sin(time f_i)) with f_i = max_period^(-i / (width / 2)), i = 0 .. width / 2 - 1.

    Args:
        time: network time (1000 t, or EDM's c_noise), any float.
        width: even number of features.
        max_period: longest period, in units of time over 2 pi.
    Returns:
        The embedding, float32 or wider.
    Raises:
        ValueError: `width` is odd.

    Source: arXiv 2112.10752, section 3.3 (the embedding of DDPM, cosines first as in ADM).

    >>> sinusoidal(torch.zeros(1), 4)
    tensor([[1., 1., 0., 0.]])
    """
    if width < 2 or width % 2:
        raise ValueError(f"a sinusoidal embedding needs an even width of at least 2, got {width}")
    time = time if time.dtype == torch.float64 else time.float()
    half = width // 2
    index = torch.arange(half, dtype=time.dtype, device=time.device)
    angle = time[:, None] * torch.exp(index * (-math.log(max_period) / half))
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def positions_2d(
    height: int,
    width: int,
    features: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Float[Tensor, "n features"]:
    """Embed the places of a grid, row by row: half of the features for the row, half for the column.

    Args:
        height, width: the grid; any size.
        features: a multiple of 4.
    Returns:
        (height * width, features).
    Raises:
        ValueError: `features` is not a multiple of 4.

    Source: DiT (arXiv 2212.09748), fixed sine-cosine positions.

    >>> positions_2d(2, 3, 8).shape
    torch.Size([6, 8])
    """
    if features < 4 or features % 4:
        raise ValueError(f"2-D positions need a multiple of 4 features, got {features}; choose such a width")
    rows = sinusoidal(torch.arange(height, dtype=dtype, device=device), features // 2)
    columns = sinusoidal(torch.arange(width, dtype=dtype, device=device), features // 2)
    both = (rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1))
    return torch.cat(both, dim=-1).flatten(0, 1).to(dtype)


class LabelEmbedding(nn.Embedding):
    """A table of class embeddings with one more row for the null label, at index `classes`.

    >>> LabelEmbedding(10, 8)(torch.tensor([3, 10])).shape
    torch.Size([2, 8])
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes + 1, width)
        nn.init.normal_(self.weight, std=0.02)

    @property
    def null(self) -> int:
        """The label that stands for no label."""
        return self.num_embeddings - 1


class GlobalEmbedding(nn.Module):
    """One vector a sample: MLP(sinusoidal(time)) + label embedding + W pooled.

    Args:
        features: width of the sinusoidal embedding.
        width: width of the result.
        classes: number of classes; 0 for none.
        pooled: width of the pooled vector; 0 for none.
    """

    def __init__(self, features: int, width: int, classes: int = 0, pooled: int = 0) -> None:
        super().__init__()
        self.features = features
        self.time_in, self.time_out = nn.Linear(features, width), nn.Linear(width, width)
        self.label = LabelEmbedding(classes, width) if classes else None
        self.pooled = nn.Linear(pooled, width) if pooled else None

    def forward(
        self,
        time: Float[Tensor, " b"],
        label: Int[Tensor, " b"] | None,
        pooled: Float[Tensor, "b features"] | None,
    ) -> Float[Tensor, "b width"]:
        """Embed; `label` and `pooled` must be given where the module was built with them."""
        out = sinusoidal(time, self.features).to(self.time_in.weight.dtype)
        out = self.time_out(F.silu(self.time_in(out)))
        if self.label is not None:
            assert label is not None
            out = out + self.label(label)
        if self.pooled is not None:
            assert pooled is not None
            out = out + self.pooled(pooled)
        return out
