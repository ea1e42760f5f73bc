"""Keys and values of attention layers: saved in one run, put into another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor, nn

from mezzotint.attention.rows import OnRows, Rows, When, acts, alone, opening
from mezzotint.nn.site import Call, Handler, find_sites, opened

__all__ = ["Saved", "Swap", "save", "swap"]


@dataclass
class Saved(Handler):
    """Keys and values as they passed, by site and call index."""

    grad: bool = False
    values: dict[tuple[str, int], tuple[Tensor, Tensor]] = field(default_factory=dict)
    when: When = None

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not acts(self.when, call):
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
        if not acts(self.when, call):
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


@contextmanager
def save(
    root: nn.Module, sites: str = "*", *, grad: bool = False, when: When = None, rows: Rows = None
) -> Iterator[Saved]:
    """Save keys and values of the matching sites, one pair a call, to be swapped into another run.

    Args:
        grad: keep the autograd graph.
    Raises:
        ValueError: no site matches.

    >>> import torch; from mezzotint.nn import UNet
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

    >>> import torch; from mezzotint.nn import UNet
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
