"""Taps: record what attention layers look at while a network runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mezzotint.attention.rows import Rows, When, acts, opening
from mezzotint.nn.site import Call, Handler

Reduce = Callable[[Call, Tensor], Tensor]


class Record(Handler):
    """The attention maps that a tap has seen: a mapping from site to maps.

    With `average` one running mean a site is kept, mean_n = mean_{n-1} + (map_n - mean_{n-1}) / n, so memory does
    not grow with the number of calls; otherwise every call is kept.

    Args:
        heads: keep the heads apart; else they are averaged.
        average: keep the running mean over calls; else all calls.
        grad: keep the autograd graph; else maps are detached.
        when: which calls are recorded; None for all.
        reduce: (call, maps) -> what is kept of them, in place of the whole maps.

    Attributes:
        calls: site -> how many calls were recorded.
        grids: site -> (height, width) of its query tokens, None where they form no image.
    """

    explicit = True

    def __init__(
        self,
        *,
        heads: bool = False,
        average: bool = True,
        grad: bool = False,
        when: When = None,
        reduce: Reduce | None = None,
    ) -> None:
        self.heads, self.average, self.grad, self.when, self.reduce = heads, average, grad, when, reduce
        self.calls: dict[str, int] = {}
        self.grids: dict[str, tuple[int, int] | None] = {}
        self._mean: dict[str, Tensor] = {}
        self._every: dict[str, list[Tensor]] = {}

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See Handler.tokens: a call that is not recorded stays fused."""
        self.explicit = acts(self.when, call)
        return q, k, v

    def maps(self, call: Call, maps: Tensor) -> Tensor:
        """See Handler.maps."""
        kept = maps if self.grad else maps.detach()
        kept = kept if self.heads else kept.mean(1)
        kept = kept if self.reduce is None else self.reduce(call, kept)
        self.calls[call.site] = n = self.calls.get(call.site, 0) + 1
        self.grids[call.site] = call.grid
        if not self.average:
            # A map with heads is the very tensor the layer goes on with, and what is cut out of it a part of it: keep
            # a copy, it may be edited in place and the whole would be held.
            self._every.setdefault(call.site, []).append(kept.clone() if self.heads or self.reduce else kept)
        elif n == 1:
            # bf16 loses a running mean after a few hundred calls.
            self._mean[call.site] = kept.clone() if kept.dtype == torch.float64 else kept.float().clone()
        else:
            mean = self._mean[call.site]
            if kept.shape != mean.shape:
                raise ValueError(
                    f"the tap averages over calls, but at {call.site!r} the maps went from {tuple(mean.shape)} to "
                    f"{tuple(kept.shape)}; open one tap for each size and batch, or tap with average=False"
                )
            self._mean[call.site] = mean + (kept.to(mean.dtype) - mean) / n
        return maps

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites seen so far, in the order in which they ran."""
        return tuple(self.calls)

    def __getitem__(self, site: str) -> Tensor:
        """Return the maps of a site: (b, n, m), with heads (b, heads, n, m), without averaging (calls, b, ...).

        Raises:
            ValueError: nothing was recorded there.
        """
        if site not in self.calls:
            raise ValueError(f"nothing was recorded at {site!r}; recorded sites: {', '.join(self.calls) or 'none'}")
        return self._mean[site] if self.average else torch.stack(self._every[site])

    def __contains__(self, site: object) -> bool:
        return site in self.calls

    def __iter__(self) -> Iterator[str]:
        return iter(self.calls)

    def __len__(self) -> int:
        return len(self.calls)


@contextmanager
def tap(
    root: nn.Module,
    sites: str = "*",
    *,
    heads: bool = False,
    average: bool = True,
    grad: bool = False,
    when: When = None,
    rows: Rows = None,
    reduce: Reduce | None = None,
) -> Iterator[Record]:
    """Record the attention maps of the matching sites for the length of the block.

    The tapped layers compute their maps in plain operations; the others keep fused attention. Any number of taps may
    look at one site: they change nothing.

    Args:
        root: a backbone, or anything that holds one.
        sites: a glob as in `mezzotint.nn.find_sites`: `"*.cross"`, `"mid.*|up.*"`.
        heads: keep the heads apart; else they are averaged.
        average: keep one running mean over the calls; else every call (memory grows with each).
        grad: keep the autograd graph of the maps.
        when: a predicate of the `Call` that says which evaluations are recorded; the others stay fused.
        rows: of the batch, a slice or numbers; guidance evaluates [null, condition] in one batch of 2 b.
        reduce: (call, maps) -> what is kept, as `lambda call, maps: maps[..., 3]` for one word of a prompt; maps are
            (b, n, m), with heads (b, heads, n, m).
    Returns:
        A context manager that gives the `Record`; it can be read inside the block and after it.
    Raises:
        ValueError: no site matches; or maps change their shape while they are averaged.

    >>> from mezzotint.nn import UNet
    >>> net = UNet(4, channels=16, context=8)
    >>> with tap(net, "mid.*.cross") as record:
    ...     y = net(torch.zeros(1, 4, 8, 8), torch.zeros(1), {"text": torch.ones(1, 2, 8)})
    >>> record["mid.1.block.cross"][0, 0].tolist()
    [0.5, 0.5]
    """
    record = Record(heads=heads, average=average, grad=grad, when=when, reduce=reduce)
    with opening(root, record, sites, rows):
        yield record
