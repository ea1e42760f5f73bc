"""How widely attention looks: the entropy of its rows, of tensors and of a network while it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mezzotint.nn.site import Call, Handler, handling

__all__ = ["Entropy", "EntropyProbe", "entropy_probe", "row_entropy"]

_BUDGET = 1 << 24  # logits held at once


def row_entropy(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads m d"],
    mask: Bool[Tensor, "#b #heads #n #m"] | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "b heads n"], Float[Tensor, "b heads n"]]:
    """Entropy of each row of softmax(s q k^T), in nats, and the variance of its logits.

        Ent = logsumexp(L) - sum_j softmax(L)_j L_j,    kappa = Var_j(L),    L = s q k^T

    In float32 or wider, some rows at a time, so that memory does not grow with n m.

    Args:
        q, k: queries and keys.
        mask: True where a query may see a key; it must see at least one.
        scale: s; None is 1 / sqrt(d).

    Returns:
        (entropies, variances over the keys that are seen).

    Source: arXiv 2306.08645, sheet section 3.6.

    >>> entropy, _ = row_entropy(torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 8, 4))
    >>> [round(v, 4) for v in entropy.exp().flatten().tolist()]
    [8.0, 8.0]
    """
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    q, k = q.to(wide) * (q.shape[-1] ** -0.5 if scale is None else scale), k.to(wide).transpose(-1, -2)
    b, heads, n = q.shape[:3]
    chunk = max(1, _BUDGET // max(1, b * heads * k.shape[-1]))
    entropies, variances = [], []
    for rows in range(0, n, chunk):
        logits = q[:, :, rows : rows + chunk] @ k
        if mask is None:
            seen = torch.ones((), dtype=wide, device=q.device).expand_as(logits)
        else:
            part = mask if mask.shape[-2] == 1 else mask[:, :, rows : rows + chunk]
            seen = part.to(wide).expand_as(logits)
            logits = logits.masked_fill(seen == 0, -torch.inf)
        total = logits.logsumexp(-1)
        shares = (logits - total[..., None]).exp()
        finite = logits.masked_fill(seen == 0, 0.0)  # 0 * inf is no number
        entropies.append((total - (shares * finite).sum(-1)).clamp_min(0))
        count = seen.sum(-1)
        mean = finite.sum(-1) / count
        variances.append((seen * (finite - mean[..., None]).square()).sum(-1) / count)
    return torch.cat(entropies, 2), torch.cat(variances, 2)


@dataclass(frozen=True)
class Entropy:
    """What a probe has seen at a site.

    Attributes:
        keys: N, of the last call.
        rows: how many rows were looked at, over calls and samples, a head.
        mean: of the entropy over rows and heads, nats.
        std: of the same.
        heads: (heads,) mean entropy of each.
        kappa: (heads,) mean variance of the logits of a row.
    """

    keys: int
    rows: int
    mean: float
    std: float
    heads: Tensor
    kappa: Tensor

    @property
    def share(self) -> float:
        """The mean as a share of ln N, where 1 is uniform attention and 0 a single key."""
        return self.mean / math.log(max(self.keys, 2))

    @property
    def effective(self) -> float:
        """How many keys a row looks at, e to the mean entropy."""
        return math.exp(self.mean)


class EntropyProbe(Handler):
    """The entropy of attention rows while a network runs; the layers stay on the fused kernel.

    It sees queries and keys as the handlers opened before it leave them, so open it inside `attention_scaling`; it
    does not see masks over keys, which self-attention of our backbones does not have.

    Args:
        rows: of each call and head, drawn without replacement; None for all.

    Raises:
        ValueError: rows below 1.
    """

    def __init__(self, rows: int | None = 256) -> None:
        if rows is not None and rows < 1:
            raise ValueError(f"rows={rows}; expected 1 or more, or None for all")
        self.rows = rows
        self._sums: dict[str, tuple[int, int, Tensor, Tensor, Tensor]] = {}

    @torch.no_grad()
    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if call.cross:
            return q, k, v
        seen = q
        if self.rows is not None and self.rows < q.shape[2]:
            generator = torch.Generator().manual_seed(call.index)
            chosen = torch.randperm(q.shape[2], generator=generator)[: self.rows]
            seen = q[:, :, chosen.to(q.device)]
        entropy, variance = row_entropy(seen, k)
        parts = [x.double().sum((0, 2)).cpu() for x in (entropy, entropy.square(), variance)]
        count = entropy.shape[0] * entropy.shape[2]
        if call.site in self._sums:
            _, before, *sums = self._sums[call.site]
            count, parts = count + before, [a + b for a, b in zip(parts, sums, strict=True)]
        self._sums[call.site] = (k.shape[2], count, parts[0], parts[1], parts[2])
        return q, k, v

    def report(self) -> dict[str, Entropy]:
        """Site -> what was seen there, in the order of the network."""
        told = {}
        for site, (keys, rows, first, second, variance) in self._sums.items():
            mean = float(first.mean() / rows)
            std = math.sqrt(max(0.0, float(second.mean() / rows) - mean**2))
            told[site] = Entropy(keys, rows, mean, std, first / rows, variance / rows)
        return told


@contextmanager
def entropy_probe(root: nn.Module, sites: str = "*", *, rows: int | None = 256) -> Iterator[EntropyProbe]:
    """Measure the entropy of self-attention for the length of the block.

    Args:
        root: a backbone, or anything that holds one.
        sites: a glob as in `mezzotint.nn.find_sites`.
        rows: of each call and head; None for all.

    Raises:
        ValueError: no site matches.

    >>> from mezzotint.nn import UNet
    >>> net = UNet(3, channels=8, blocks=1, attention=())
    >>> with entropy_probe(net) as probe:
    ...     y = net(torch.zeros(1, 3, 8, 8), torch.zeros(1))
    >>> round(probe.report()["mid.1.attention"].effective, 1)
    16.0
    """
    probe = EntropyProbe(rows)
    with handling(root, probe, sites):
        yield probe
