"""Edits: change what attention layers do, for the length of a block.

Every edit takes `sites`, a glob as in `mezzotint.nn.find_sites`; `when`, a predicate of the `Call` that says at which
sites and evaluations it acts (`when=lambda call: call.index < 10`), None for always; and `rows`, the rows of the batch
on which it acts, a slice or numbers, None for all: guidance evaluates [null, condition] in one batch of 2 b rows, of
which `slice(b, None)` are the conditional ones. Tensors that start with a batch dimension act per sample of those
rows. A layer on which an edit does not act stays fused. All are context managers and undo themselves, also when the
block raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.attention.rows import OnRows, Rows, alone, opening
from mezzotint.nn.site import Call, Handler, find_sites, opened

When = Callable[[Call], bool] | None


@dataclass
class Reweight(Handler):
    """maps[..., j] *= weights[j]; with `renormalise` each row is then divided by its sum."""

    weights: Tensor
    renormalise: bool = False
    when: When = None
    explicit = True

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.explicit = _acts(self.when, call)
        return q, k, v

    def maps(self, call: Call, maps: Tensor) -> Tensor:
        weights = self.weights.to(maps)
        _check_keys("weights", weights, maps, call)
        if weights.ndim == 2:
            weights = weights[:, None, None, :]
        maps = maps * weights
        return maps / maps.sum(-1, keepdim=True).clamp_min(1e-12) if self.renormalise else maps


@dataclass
class Rescale(Handler):
    """q *= factor: all logits times the factor, the layer stays on the fused kernel."""

    factor: float | Callable[[Call, Tensor, Tensor], float]
    when: When = None

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not _acts(self.when, call):
            return q, k, v
        factor = self.factor(call, q, k) if callable(self.factor) else self.factor
        return (q if factor == 1 else q * factor), k, v


@dataclass
class AddMask(Handler):
    """logits += mask."""

    mask: Tensor
    when: When = None
    explicit = True

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.explicit = _acts(self.when, call)
        return q, k, v

    def logits(self, call: Call, logits: Tensor) -> Tensor:
        mask = self.mask.to(logits)
        if mask.ndim == 3:
            mask = mask[:, None]
        try:
            fits = torch.broadcast_shapes(mask.shape, logits.shape) == logits.shape
        except RuntimeError:
            fits = False
        if not fits:
            raise ValueError(
                f"additive mask {tuple(self.mask.shape)} does not fit the logits {tuple(logits.shape)} at "
                f"{call.site!r}; give (n, m), (b, n, m) or (b, heads, n, m), and narrow `sites` to one resolution"
            )
        return logits + mask


@dataclass
class Saved(Handler):
    """Keys and values as they passed, by site and call index."""

    grad: bool = False
    values: dict[tuple[str, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    when: When = None

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not _acts(self.when, call):
            return q, k, v
        self.values[call.site, call.index] = (k, v) if self.grad else (alone(k.detach()), alone(v.detach()))
        return q, k, v


@dataclass
class Swap(Handler):
    """k, v = those saved at the same site and call index."""

    saved: Saved
    keys: bool = True
    values: bool = True
    when: When = None

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not _acts(self.when, call):
            return q, k, v
        try:
            new_k, new_v = self.saved.values[call.site, call.index]
        except KeyError:
            raise ValueError(
                f"no keys and values were saved at {call.site!r} for its call {call.index}; save over the same "
                "sites and at least as many network evaluations as are swapped"
            ) from None
        if new_k.shape[0] not in (1, k.shape[0]) or new_k.shape[1:] != k.shape[1:]:
            raise ValueError(
                f"keys saved at {call.site!r} have shape {tuple(new_k.shape)}, this run has {tuple(k.shape)}; save "
                "and swap at the same size, with the same batch or a batch of one"
            )
        k = new_k.to(k).expand_as(k) if self.keys else k
        return q, k, (new_v.to(v).expand_as(v) if self.values else v)


class _Explicit(Handler):
    explicit = True


@contextmanager
def reweight(
    root: nn.Module,
    weights: Float[Tensor, "*b m"] | Mapping[int, float],
    sites: str = "*cross",
    *,
    renormalise: bool = False,
    when: When = None,
    rows: Rows = None,
) -> Iterator[Reweight]:
    """Multiply what is attended to a key token by its weight: maps[..., j] *= weights[j].

    Args:
        weights: one a key (m,), or one a sample and key (b, m); or {key index: weight}, the others being 1.
        renormalise: divide each row by its sum afterwards.
    Raises:
        ValueError: no site matches; at the call: the number of keys or samples differs.

    Source: Prompt-to-Prompt (arXiv 2208.01626), attention re-weighting.

    >>> from mezzotint.nn import UNet
    >>> with reweight(UNet(4, channels=16, context=8), {1: 2.0}) as edit:
    ...     edit.weights.tolist()
    [1.0, 2.0]
    """
    if isinstance(weights, Mapping):
        if not weights or min(weights) < 0:
            raise ValueError(f"weights by key index need at least one index, all 0 or more, got {dict(weights)}")
        table = torch.ones(max(weights) + 1)
        for index, weight in weights.items():
            table[index] = weight
        handler: Reweight = _ReweightSome(table, renormalise, when)
    else:
        if weights.ndim not in (1, 2):
            raise ValueError(f"weights must be (keys,) or (batch, keys), got {tuple(weights.shape)}")
        handler = Reweight(weights, renormalise, when)
    with opening(root, handler, sites, rows):
        yield handler


class _ReweightSome(Reweight):
    """Weights for the first keys only; the rest keep 1."""

    def maps(self, call: Call, maps: Tensor) -> Tensor:
        missing = maps.shape[-1] - len(self.weights)
        if missing < 0:
            raise ValueError(
                f"a weight was given for key {len(self.weights) - 1}, but {call.site!r} has {maps.shape[-1]} keys"
            )
        full = torch.cat([self.weights, self.weights.new_ones(missing)])
        return Reweight(full, self.renormalise, self.when).maps(call, maps)


@contextmanager
def rescale(
    root: nn.Module,
    factor: float | Callable[[Call, Tensor, Tensor], float],
    sites: str = "*",
    *,
    when: When = None,
    rows: Rows = None,
) -> Iterator[Rescale]:
    """Multiply the attention logits by a factor: below 1 flatter, above 1 sharper. The layers stay fused.

    Args:
        factor: a number, or a function of (call, q, k), with q (b, heads, n, d) and k (b, heads, m, d).
    Raises:
        ValueError: no site matches.

    Source: the hook of arXiv 2306.08645, section 3.

    >>> from mezzotint.nn import UNet
    >>> with rescale(UNet(4, channels=16), lambda call, q, k: k.shape[-2] ** 0.1, "mid.*") as edit:
    ...     edit.explicit
    False
    """
    handler = Rescale(factor, when)
    with opening(root, handler, sites, rows):
        yield handler


@contextmanager
def add_mask(
    root: nn.Module, mask: Tensor, sites: str = "*", *, when: When = None, rows: Rows = None
) -> Iterator[AddMask]:
    """Add a mask to the attention logits; -inf hides (a row must keep at least one key).

    Args:
        mask: float, (n, m) for all samples and heads, (b, n, m) a sample, or (b, heads, n, m).
    Raises:
        ValueError: no site matches, or the mask is not a float; at the call: it does not fit the layer.

    >>> from mezzotint.nn import UNet
    >>> with add_mask(UNet(4, channels=16), torch.zeros(16, 16), "mid.*") as edit:
    ...     edit.explicit
    True
    """
    if not mask.is_floating_point():
        raise ValueError(f"an additive mask is a float tensor (0 keeps, -inf hides), got {mask.dtype}")
    handler = AddMask(mask, when)
    with opening(root, handler, sites, rows):
        yield handler


@contextmanager
def save(
    root: nn.Module, sites: str = "*", *, grad: bool = False, when: When = None, rows: Rows = None
) -> Iterator[Saved]:
    """Save keys and values of the matching sites, one pair a call, to be swapped into another run.

    Args:
        grad: keep the autograd graph.
    Raises:
        ValueError: no site matches.

    >>> from mezzotint.nn import UNet
    >>> net = UNet(4, channels=16)
    >>> with save(net, "mid.*") as saved:
    ...     y = net(torch.zeros(1, 4, 8, 8), torch.zeros(1))
    >>> list(saved.values)
    [('mid.1.attention', 0)]
    """
    handler = Saved(grad, when=when)
    with opening(root, handler, sites, rows):
        yield handler


@contextmanager
def swap(
    root: nn.Module,
    saved: Saved,
    sites: str = "*",
    *,
    keys: bool = True,
    values: bool = True,
    when: When = None,
    rows: Rows = None,
) -> Iterator[Swap]:
    """Put saved keys and values in the place of the layer's own, site by site and call by call.

    Args:
        saved: from `save`; its batch must be this run's or one.
        keys, values: which of the two to swap.
    Raises:
        ValueError: no site matches, or another swap is open on one of them, of which only the later would be seen
            (two with `when`, or two on other `rows`, may share a site); at the call: nothing was saved for it, or the
            shapes differ.

    Source: MasaCtrl (arXiv 2304.08465), mutual self-attention.

    >>> from mezzotint.nn import UNet
    >>> net = UNet(4, channels=16)
    >>> with save(net, "mid.*") as saved, swap(net, saved, "mid.*"):
    ...     y = net(torch.zeros(1, 4, 8, 8), torch.zeros(1))
    """
    if not (keys or values):
        raise ValueError("a swap of neither keys nor values changes nothing; leave one of them True")
    handler = Swap(saved, keys, values, when)
    _check_alone(root, handler, sites, rows)
    with opening(root, handler, sites, rows):
        yield handler


@contextmanager
def explicit(root: nn.Module, sites: str = "*") -> Iterator[None]:
    """Compute attention in plain operations, which can be differentiated twice (fused kernels cannot everywhere).

    >>> from mezzotint.nn import UNet
    >>> with explicit(UNet(4, channels=16)):
    ...     pass
    """
    with opening(root, _Explicit(), sites):
        yield


def _acts(when: When, call: Call) -> bool:
    return when is None or when(call)


def _check_alone(root: nn.Module, swap: Swap, sites: str, rows: Rows) -> None:
    """Two swaps of the same thing at one site: the later would overrule the earlier without a word."""
    for site, layer in find_sites(root, sites).items():
        for entry in opened(layer):
            other = entry.handler.handler if isinstance(entry.handler, OnRows) else entry.handler
            if not isinstance(other, Swap):
                continue
            apart = (other.when is not None and swap.when is not None) or (
                rows is not None and isinstance(entry.handler, OnRows) and _apart(rows, entry.handler.rows)
            )
            both = [n for n in ("keys", "values") if getattr(other, n) and getattr(swap, n)]
            if both and not apart:
                raise ValueError(
                    f"two swaps collide at {site!r}: both replace its {' and '.join(both)}, so that the earlier would "
                    "not be seen; close one, or tell both when= or rows= they act"
                )


def _apart(rows: slice | Sequence[int], others: slice | Sequence[int]) -> bool:
    """Whether they may be different rows: of a slice and numbers only the batch would tell."""
    if isinstance(rows, slice) or isinstance(others, slice):
        return rows != others
    return not set(rows) & set(others)


def _check_keys(name: str, weights: Tensor, maps: Tensor, call: Call) -> None:
    keys, batch = maps.shape[-1], maps.shape[0]
    if weights.shape[-1] != keys or (weights.ndim == 2 and weights.shape[0] not in (1, batch)):
        raise ValueError(
            f"{name} {tuple(weights.shape)} do not fit {call.site!r}, which has {keys} keys and a batch of {batch}; "
            "give (keys,) or (batch, keys), and narrow `sites` to layers with that many keys"
        )
