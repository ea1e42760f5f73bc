"""Edits: change what attention layers do, for the length of a block.

Every edit takes `sites`, a glob as in `mezzotint.nn.find_sites`; `when`, a predicate of the `Call` that says at which
sites and evaluations it acts (`when=lambda call: call.index < 10`), None for always; and `rows`, the rows of the batch
on which it acts, a slice or numbers, None for all: guidance evaluates [null, condition] in one batch of 2 b rows, of
which `slice(b, None)` are the conditional ones. Tensors that start with a batch dimension act per sample of those
rows. A layer on which an edit does not act stays fused. All are context managers and undo themselves, also when the
block raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.attention.rows import Rows, When, acts, opening
from mezzotint.nn.site import Call, Handler


@dataclass
class Reweight(Handler):
    """maps[..., j] *= weights[j]; with `renormalise` each row is then divided by its sum."""

    weights: Tensor
    renormalise: bool = False
    when: When = None
    explicit = True

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.explicit = acts(self.when, call)
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
        if not acts(self.when, call):
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
        self.explicit = acts(self.when, call)
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
def explicit(root: nn.Module, sites: str = "*") -> Iterator[None]:
    """Compute attention in plain operations, which can be differentiated twice (fused kernels cannot everywhere).

    >>> from mezzotint.nn import UNet
    >>> with explicit(UNet(4, channels=16)):
    ...     pass
    """
    with opening(root, _Explicit(), sites):
        yield


def _check_keys(name: str, weights: Tensor, maps: Tensor, call: Call) -> None:
    keys, batch = maps.shape[-1], maps.shape[0]
    if weights.shape[-1] != keys or (weights.ndim == 2 and weights.shape[0] not in (1, batch)):
        raise ValueError(
            f"{name} {tuple(weights.shape)} do not fit {call.site!r}, which has {keys} keys and a batch of {batch}; "
            "give (keys,) or (batch, keys), and narrow `sites` to layers with that many keys"
        )
