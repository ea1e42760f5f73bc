"""Running statistics that a forward pass changes: batch norms' and codebooks', the same in every process."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mezzotint.latent.quantise import EMACodebook

__all__ = ["average_statistics"]


@torch.no_grad()
def average_statistics(modules: nn.Module, mean: Callable[[Tensor], None]) -> None:
    """Replace running statistics by their mean over the processes, each of which has seen its own rows.

    A running mean comes out as that of the whole batch; a running variance lacks the part between processes, as the
    normalisation itself does. A codebook's counts and totals are averaged, and its entries are their quotients.

    Args:
        modules: where to look for them.
        mean: replaces a flat tensor by its mean over the processes, in place.
    """
    found: list[Tensor] = []
    books = [m for m in modules.modules() if isinstance(m, EMACodebook)]
    for module in modules.modules():
        if isinstance(module, _NormBase) and module.track_running_stats and module.training:
            found += [s for s in (module.running_mean, module.running_var) if s is not None]
    for book in books:
        found += [book.count, book.total, book.entries]
    if not found:
        return
    flat = torch.cat([s.reshape(-1) for s in found])
    mean(flat)
    for statistic, value in zip(found, flat.split([s.numel() for s in found]), strict=True):
        statistic.copy_(value.view_as(statistic))
    for book in books:
        alive = (book.count > 1e-5)[:, None]
        book.entries.copy_(torch.where(alive, book.total / book.count.clamp(min=1e-5)[:, None], book.entries))
