"""Several contexts in one run: what cross-attention gives for other prompts, mixed into what it gives for its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mezzotint.attention.rows import Rows, opening
from mezzotint.nn.attention import Attention
from mezzotint.nn.site import Call, Door, Handler, find_sites, none_opened

__all__ = ["Contexts", "Mix", "mix_contexts", "save_contexts"]

Mix = Callable[[Call, Tensor, tuple[Tensor, ...]], Tensor]


@dataclass
class Contexts:
    """What each cross-attention layer was given to attend to: site -> (context (b, m, d), mask or None)."""

    given: dict[str, tuple[Tensor, Tensor | None]] = field(default_factory=dict)


@contextmanager
def save_contexts(root: nn.Module, sites: str = "*cross") -> Iterator[Contexts]:
    """Save what cross-attention layers attend to, as the network hands it to them; the latest call's. They stay fused.

    Raises:
        ValueError: no site matches, or it is no cross-attention.

    >>> import torch; from mezzotint.nn import UNet
    >>> net = UNet(4, channels=16, context=8)
    >>> with save_contexts(net, "mid.*cross") as saved:
    ...     y = net(torch.zeros(1, 4, 8, 8), torch.zeros(1), {"text": torch.ones(1, 2, 8)})
    >>> {site: tuple(context.shape) for site, (context, _) in saved.given.items()}
    {'mid.1.block.cross': (1, 2, 8)}
    """
    saved, owner = Contexts(), threading.get_ident()

    def see(door: Door, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if threading.get_ident() == owner:
            saved.given[door.site] = _context_of(door, args, keywords)

    with opening(root, Handler(), sites):  # refuses sites that are none, and holds off recomputation
        handles = [d.register_forward_pre_hook(see, with_kwargs=True) for d in find_sites(root, sites).values()]
        try:
            yield saved
        finally:
            for handle in handles:
                handle.remove()


class _Latest(Handler):
    """Remembers the description of the latest call."""

    def __init__(self) -> None:
        self.call: Call | None = None

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.call = call
        return q, k, v


@contextmanager
def mix_contexts(
    root: nn.Module,
    contexts: Sequence[Contexts],
    mix: Mix,
    sites: str = "*cross",
    *,
    rows: Rows = None,
) -> Iterator[None]:
    """Run cross-attention for other contexts too, and let `mix` say what its output is.

        out = mix(call, g(c), (g(c_1), g(c_2), ...))     g: the layer, before the residual is added

    The layers stay fused. Other handlers see the layer's own context alone. Gradients flow through `mix`.

    Args:
        root: a backbone, or anything that holds one.
        contexts: of `save_contexts` at the same sites, of one row or as many as `rows` has.
        mix: (call, g(c) (b, n, d), one (rows, n, d) a context) -> (b, n, d). The places of an image are the rows of
            call.grid, one after the other; call.index counts evaluations.
        sites: a glob as in `mezzotint.nn.find_sites`.
        rows: rows of the batch for which the other contexts are run; with guidance `slice(b, None)`.

    Raises:
        ValueError: no site matches, or nothing was saved for one; at the call: mix changes the shape, or no such rows.

    Source: the hook of arXiv 2304.03869, section 3.2 of the sheet.

    >>> import torch; from mezzotint.nn import UNet
    >>> net, text = UNet(4, channels=16, context=8), torch.ones(1, 2, 8)
    >>> with save_contexts(net) as other:
    ...     y = net(torch.zeros(1, 4, 8, 8), torch.zeros(1), {"text": -text})
    >>> with mix_contexts(net, [other], lambda call, own, others: 0.5 * (own + others[0])):
    ...     y = net(torch.zeros(1, 4, 8, 8), torch.zeros(1), {"text": text})
    """
    latest, owner = _Latest(), threading.get_ident()

    def run(door: Door, args: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> Tensor | None:
        if threading.get_ident() != owner:
            return None
        call = latest.call
        assert call is not None
        calls = [_with_context(door, args, keywords, c.given[door.site], rows) for c in contexts]
        with none_opened():
            others = tuple(door.forward(*a, **k) for a, k in calls)
        made = mix(call, output, others)
        if made.shape != output.shape:
            raise ValueError(
                f"mix gave {tuple(made.shape)} at {door.site!r}; expected the shape of its first tensor, "
                f"{tuple(output.shape)}"
            )
        return made

    if not contexts:
        raise ValueError("mix_contexts got no contexts; save one for each other prompt with save_contexts")
    with opening(root, latest, sites):
        doors = find_sites(root, sites)
        for i, c in enumerate(contexts):
            if missing := [site for site in doors if site not in c.given]:
                raise ValueError(f"contexts {i} has nothing for {missing[0]!r}; save it at the sites that are mixed")
        handles = [door.register_forward_hook(run, with_kwargs=True) for door in doors.values()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _context_of(door: Door, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    if isinstance(door, Attention):
        named = dict(zip(("x", "context", "mask"), args)) | keywords
        context, mask = named.get("context"), named.get("mask")
    else:  # a processor of diffusers
        context, mask = keywords.get("encoder_hidden_states"), keywords.get("attention_mask")
    if context is None:
        raise ValueError(f"{door.site!r} is self-attention and has no context; choose cross-attention ('*cross')")
    return context, mask


def _with_context(
    door: Door, args: tuple[Any, ...], keywords: dict[str, Any], given: tuple[Tensor, Tensor | None], rows: Rows
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call, of some rows, with another context."""
    place = 0 if isinstance(door, Attention) else 1
    x = args[place] if rows is None else args[place][rows]
    context, mask = given
    if not len(x):
        raise ValueError(f"rows={rows} of a batch of {len(args[place])} at {door.site!r}; expected rows that it has")
    if len(context) not in (1, len(x)):
        raise ValueError(
            f"contexts of {len(context)} rows were saved for {door.site!r}, but they are mixed into {len(x)} rows; "
            "save one row, or as many"
        )
    context = context.to(x.dtype).expand(len(x), -1, -1)
    mask = mask if mask is None or len(mask) == len(x) else mask.expand(len(x), *mask.shape[1:])
    if isinstance(door, Attention):
        grid = keywords.get("grid", args[3] if len(args) > 3 else None)
        return (x,), {"context": context, "mask": mask, "grid": grid}
    more = {"encoder_hidden_states": context, "attention_mask": mask}
    return (args[0], x, *args[2:]), {**keywords, **more}
