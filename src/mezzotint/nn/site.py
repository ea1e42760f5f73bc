"""Attention sites: the names of attention layers, and the handlers that may be opened on them.

A backbone names its layers once (`name_sites`). `handling` opens a handler on the sites that match a glob and closes
it when its block ends. Open handlers belong to the thread that opened them, so a server may tap one request while
another runs untouched; a layer without open handlers keeps fused attention and pays one comparison.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Call:
    """One use of one attention layer, as a handler sees it.

    Args:
        site: the layer's name.
        cross: True where keys and values come from a context, False for self-attention.
        grid: (height, width) of the query tokens where they form an image, else None.
        index: how often this handler has seen this site before: 0 at the first network evaluation.
    """

    site: str
    cross: bool
    grid: tuple[int, int] | None
    index: int


class Door(nn.Module):
    """An attention layer that handlers can be opened on, under the name of its site."""

    site: str = ""


class Handler:
    """What may happen inside an attention layer; a subclass overrides what it needs. The base changes nothing.

    `explicit = True` asks for `logits` and `maps` and makes the layer compute them in plain, twice differentiable
    operations; otherwise only `tokens` is called and the layer stays on the fused kernel.
    """

    explicit: bool = False

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the queries (b, heads, n, d), keys and values (b, heads, m, d) to use."""
        return q, k, v

    def logits(self, call: Call, logits: Float[Tensor, "b heads n m"]) -> Float[Tensor, "b heads n m"]:
        """Return the scaled logits to use; the layer hides masked keys afterwards, so padding never comes back."""
        return logits

    def maps(self, call: Call, maps: Float[Tensor, "b heads n m"]) -> Float[Tensor, "b heads n m"]:
        """Return the attention maps to use (rows sum to one before the first handler)."""
        return maps


@dataclass
class Opened:
    """A handler while it is open, with the number of calls it has seen at each site."""

    handler: Handler
    seen: dict[str, int] = field(default_factory=dict)

    def call(self, site: str, cross: bool, grid: tuple[int, int] | None) -> Call:
        """Count one use of `site` and describe it."""
        index = self.seen.get(site, 0)
        self.seen[site] = index + 1
        return Call(site, cross, grid, index)


_table: ContextVar[Mapping[Door, tuple[Opened, ...]] | None] = ContextVar("attention handlers", default=None)
_lock = threading.Lock()
# Handlers open in any thread. While it is 0 no layer looks at the context variable, which torch.compile cannot trace.
_open_anywhere = 0


def opened(layer: Door) -> tuple[Opened, ...]:
    """Return the handlers open on `layer` in this thread, oldest first."""
    if _open_anywhere == 0:
        return ()
    return (_table.get() or {}).get(layer, ())


def any_opened() -> bool:
    """Return whether this thread has handlers open on any layer."""
    return _open_anywhere > 0 and bool(_table.get())


@contextmanager
def none_opened() -> Iterator[None]:
    """Hide this thread's handlers for a while: what runs inside sees no handler."""
    if _open_anywhere == 0:
        yield
        return
    token = _table.set(None)
    try:
        yield
    finally:
        _table.reset(token)


def name_sites(root: nn.Module) -> None:
    """Give every attention layer below `root` its qualified name as its site. A backbone calls this once, at the end
    of its constructor, so that names do not depend on what the backbone is later wrapped in."""
    for name, module in root.named_modules():
        if isinstance(module, Door):
            module.site = name


def find_sites(root: nn.Module, sites: str = "*") -> dict[str, Door]:
    """Return the attention layers below `root` whose site matches a glob.

    Args:
        root: a backbone, or anything that holds one.
        sites: a glob over site names (`*` also matches dots), or several joined by `|`: `"*.cross"`, `"down.*|mid.*"`.
    Returns:
        site -> layer, in the order of the network.
    Raises:
        ValueError: no site matches, or two layers share one name.

    >>> from mezzotint.nn import UNet
    >>> net = UNet(4, channels=16, context=8, blocks=1)
    >>> list(find_sites(net, "mid.*"))
    ['mid.1.block.self', 'mid.1.block.cross']
    """
    every = [module for module in root.modules() if isinstance(module, Door)]
    found: dict[str, Door] = {}
    for layer in every:
        site = layer.site
        if any(fnmatchcase(site, glob.strip()) for glob in sites.split("|")):
            if site in found:
                raise ValueError(
                    f"two attention layers are both called {site!r}: this module holds more than one backbone; "
                    "pass the one you mean (for example denoiser.net)"
                )
            found[site] = layer
    if not found:
        names = ", ".join(layer.site for layer in every) or "none"
        raise ValueError(f"no attention site matches {sites!r}; the sites of this module are: {names}")
    return found


@contextmanager
def handling(root: nn.Module, handler: Handler, sites: str = "*") -> Iterator[tuple[str, ...]]:
    """Open `handler` on the matching sites for the length of the block; it is closed also when the block raises.

    Handlers on one layer act in the order in which they were opened. They hold for this thread alone.

    Args:
        root: a backbone, or anything that holds one.
        handler: what to do there.
        sites: a glob as in `find_sites`.
    Returns:
        A context manager that gives the names of the sites.
    Raises:
        ValueError: no site matches.

    >>> from mezzotint.nn import UNet
    >>> with handling(UNet(4, channels=16), Handler(), "mid.*") as names:
    ...     print(names)
    ('mid.1.attention',)
    """
    layers = find_sites(root, sites)
    entry = Opened(handler)
    table = dict(_table.get() or {})
    for layer in layers.values():
        table[layer] = (*table.get(layer, ()), entry)
    _table.set(table)
    _count(1)
    try:
        yield tuple(layers)
    finally:
        # Take out only our own entry: blocks need not close in the order in which they were opened.
        rest = {layer: tuple(e for e in entries if e is not entry) for layer, entries in (_table.get() or {}).items()}
        _table.set({layer: entries for layer, entries in rest.items() if entries} or None)
        _count(-1)


def _count(change: int) -> None:
    global _open_anywhere
    with _lock:
        _open_anywhere += change
