"""Vector quantisation: the nearest entry of a codebook, with straight-through gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Codebook", "EMACodebook", "GradientCodebook", "Quantised"]


@dataclass(frozen=True)
class Quantised:
    """What quantising latents z with entries e gives.

    Args:
        z: straight-through value z + sg(e - z): equal to e but for rounding, with the gradient of z.
        index: number of the nearest entry at each position.
        codebook_error: mean((sg[z] - e)^2), moves the entries; 0 where they are averages.
        commitment_error: mean((z - sg[e])^2), moves the encoder.
    """

    z: Float[Tensor, "b k h w"]
    index: Int[Tensor, "b h w"]
    codebook_error: Float[Tensor, ""]
    commitment_error: Float[Tensor, ""]


class Codebook(nn.Module):
    """Nearest entry by ||z||^2 + ||e||^2 - 2 z.e; subclasses own ``entries`` (codes, channels).

    Source: arXiv 1711.00937 section 3; released code of arXiv 2112.10752.
    """

    entries: Tensor

    def nearest(self, z: Float[Tensor, "b k h w"]) -> Int[Tensor, "b h w"]:
        """Index of the nearest entry at each position (the term ||z||^2 is the same for all of them)."""
        flat = z.detach().movedim(1, -1).flatten(0, -2).to(self.entries.dtype)
        entries = self.entries.detach()
        distance = torch.addmm(entries.square().sum(1), flat, entries.t(), alpha=-2.0)
        return distance.argmin(1).view(len(z), *z.shape[2:])

    def lookup(self, index: Int[Tensor, "b h w"]) -> Float[Tensor, "b k h w"]:
        """The entries with these numbers."""
        return F.embedding(index, self.entries).movedim(-1, 1)

    def forward(self, z: Float[Tensor, "b k h w"]) -> Quantised:
        """Quantise raw latents."""
        index = self.nearest(z)
        e = self.lookup(index).to(z.dtype)
        return Quantised(
            z=z + (e - z).detach(),
            index=index,
            codebook_error=(z.detach() - e).square().mean(),
            commitment_error=(z - e.detach()).square().mean(),
        )

    def update(self, z: Float[Tensor, "b k h w"], index: Int[Tensor, "b h w"]) -> None:
        """Learn from one training batch outside the optimiser; nothing here."""


class GradientCodebook(Codebook):
    """A codebook trained by the optimiser through ``codebook_error``; entries start U(-1/codes, 1/codes).

    Args:
        codes: number of entries.
        channels: length of an entry.
    """

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.entries = nn.Parameter(torch.empty(codes, channels).uniform_(-1.0 / codes, 1.0 / codes))


class EMACodebook(Codebook):
    """A codebook of running averages of the latents assigned to each entry.

    N_i <- decay N_i + (1 - decay) n_i;  m_i <- decay m_i + (1 - decay) sum z;  e_i = m_i / N_i.
    An entry whose N_i has faded below 1e-5 keeps its place (our choice, instead of Laplace smoothing, which
    would pull unused entries to 0).

    Args:
        codes: number of entries.
        channels: length of an entry.
        decay: in [0, 1).

    Raises:
        ValueError: for a decay outside [0, 1).

    Source: arXiv 1711.00937, appendix A.1.
    """

    count: Tensor
    total: Tensor

    def __init__(self, codes: int, channels: int, decay: float = 0.99) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        self.decay = decay
        entries = torch.empty(codes, channels).uniform_(-1.0 / codes, 1.0 / codes)
        self.register_buffer("entries", entries)
        self.register_buffer("count", torch.ones(codes))
        self.register_buffer("total", entries.clone())

    def forward(self, z: Float[Tensor, "b k h w"]) -> Quantised:
        """Quantise raw latents; there is no codebook error, as no gradient moves an average."""
        return replace(super().forward(z), codebook_error=z.new_zeros(()))

    @torch.no_grad()
    def update(self, z: Float[Tensor, "b k h w"], index: Int[Tensor, "b h w"]) -> None:
        """One step of the averages."""
        flat, index = z.detach().movedim(1, -1).flatten(0, -2).to(self.total.dtype), index.flatten()
        share = 1.0 - self.decay
        n = torch.zeros_like(self.count).index_add_(0, index, torch.ones_like(flat[:, 0]))
        self.count.mul_(self.decay).add_(n, alpha=share)
        self.total.mul_(self.decay).add_(torch.zeros_like(self.total).index_add_(0, index, flat), alpha=share)
        alive = (self.count > 1e-5)[:, None]
        self.entries.copy_(torch.where(alive, self.total / self.count.clamp(min=1e-5)[:, None], self.entries))
