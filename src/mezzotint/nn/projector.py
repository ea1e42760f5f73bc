"""The head of contrastive learning: what the loss compares, so that the representation below need not be bent to it."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from .vit import ViTEncoder

__all__ = ["ProjectedEncoder", "Projector"]


class Projector(nn.Module):
    """Linear - BatchNorm - ReLU - Linear - BatchNorm - ReLU - Linear, without a bias before a norm.

    In training the norms use the batch's own statistics, in evaluation the running ones, so that results differ; a
    batch of one has no statistics. With several processes each has its own, unless converted to `nn.SyncBatchNorm`.

    Args:
        width: features of the representation.
        hidden: features between; 4096 in the paper's code.
        out: features that are compared; 256 in its configuration, 768 in its scripts.

    Raises:
        ValueError: a width below 1; in training, a batch of one.

    Source: arXiv 2510.12586, code; as in MoCo-v3 (2104.02057).

    >>> import torch
    >>> Projector(8, hidden=16, out=4)(torch.randn(3, 8)).shape
    torch.Size([3, 4])
    """

    def __init__(self, width: int, hidden: int = 4096, out: int = 256) -> None:
        super().__init__()
        if min(width, hidden, out) < 1:
            raise ValueError(f"Projector got width={width}, hidden={hidden}, out={out}; expected at least 1 each")
        self.config: dict[str, Any] = {"width": width, "hidden": hidden, "out": out}
        self.layers = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(),
            nn.Linear(hidden, out),
        )  # fmt: skip
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, h: Float[Tensor, "b width"]) -> Float[Tensor, "b out"]:
        """The projections of a batch of representations."""
        if self.training and len(h) < 2:
            raise ValueError(
                "the projector normalises over the batch and cannot train on a batch of 1; give at least 2 samples "
                "to each process and part, or put it in eval mode"
            )
        return self.layers(h)


class ProjectedEncoder(nn.Module):
    """An encoder with its projector: g(E(x, time)), (b, out).

    Args:
        encoder: of images.
        projector: of representations; None for g = identity.
    """

    def __init__(self, encoder: ViTEncoder, projector: Projector | None = None) -> None:
        super().__init__()
        self.encoder, self.projector = encoder, projector

    def project(self, h: Float[Tensor, "b width"]) -> Float[Tensor, "b out"]:
        """g(h) of representations."""
        return h if self.projector is None else self.projector(h)

    def forward(self, x: Float[Tensor, "b c h w"], time: Float[Tensor, " b"]) -> Float[Tensor, "b out"]:
        """g(E(x, time)); arguments as for the encoder."""
        return self.project(self.encoder(x, time))
