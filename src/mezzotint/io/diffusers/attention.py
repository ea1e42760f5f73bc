"""Every attention layer of a diffusers network behind our door, so that taps and edits serve both kinds of network.

diffusers gives each attention layer a processor: projections, norms, rotations, and in their midst one call of
torch's scaled dot product. A `ProcessorDoor` stands in a processor's place. While nothing is open on it, it hands the
call to the processor unchanged, bit for bit and on the fused kernel. With handlers open the same processor runs, and
that one call in its midst is answered by `mezzotint.nn.attention.attend` under them: whatever the processor does
around it (joint streams, rotary embeddings, masks) stays its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mezzotint.nn.attention import attend
from mezzotint.nn.site import Call, Door, Handler, Opened, any_opened, opened

__all__ = ["ProcessorDoor", "drawing", "kind_of", "open_doors"]

_sides: ContextVar[tuple[int, int] | None] = ContextVar("sides of what is drawn", default=None)


@contextmanager
def drawing(height: int, width: int) -> Iterator[None]:
    """While the block runs, tokens are laid out as an image of these sides or of 1/2, 1/4, ... of them."""
    if not any_opened():  # nobody asks, and torch.compile cannot trace what follows
        yield
        return
    token = _sides.set((height, width))
    try:
        yield
    finally:
        _sides.reset(token)


def grid_of(tokens: int) -> tuple[int, int] | None:
    """(height, width) of so many tokens in what is being drawn, None if no halving of it has that many.

    >>> from mezzotint.nn import Handler, UNet, handling
    >>> with handling(UNet(4, channels=16), Handler()), drawing(8, 12):
    ...     grid_of(24), grid_of(25)
    ((4, 6), None)
    """
    sides = _sides.get()
    while sides is not None and sides[0] * sides[1] >= tokens:
        if sides[0] * sides[1] == tokens:
            return sides
        half = (-(-sides[0] // 2), -(-sides[1] // 2))
        sides = None if half == sides else half
    return None


class ProcessorDoor(Door):
    """A processor of diffusers that handlers can be opened on.

    Args:
        processor: the layer's own.
        site: the layer's name, ending in its kind.
        kind: "self", "cross" or "joint" (text and image tokens in one sequence).
    """

    def __init__(self, processor: Any, site: str, kind: str) -> None:
        super().__init__()
        self.processor, self.site, self.kind = processor, site, kind
        # diffusers reads the signature of a processor's __call__ to see which keywords it takes
        self.__dict__["__call__"] = processor.__call__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what diffusers asks a processor about its backend
            return (
                getattr(self.__dict__["processor"], name) if "processor" in self.__dict__ else super().__getattr__(name)
            )
        return super().__getattr__(name)

    def forward(self, layer: nn.Module, *args: Any, **keywords: Any) -> Any:
        """What the processor gives for the layer."""
        handlers = opened(self)
        if not handlers:
            return self.processor(layer, *args, **keywords)
        return self.under(handlers, layer, *args, **keywords)  # type: ignore[call-arg]  # the decorator's types

    @torch.compiler.disable  # handlers are the user's Python, and the mode that answers cannot be traced
    def under(self, handlers: tuple[Opened, ...], layer: nn.Module, *args: Any, **keywords: Any) -> Any:
        """What it gives with handlers open; a processor that calls no scaled dot product needs its own."""
        with _Answered(self, handlers) as answered:
            out = self.processor(layer, *args, **keywords)
        if not answered.calls:
            raise ValueError(
                f"the processor {type(self.processor).__name__} at {self.site!r} does not call torch's scaled dot "
                "product, so that it cannot be tapped or edited; set the layer's default processor before loading"
            )
        return out

    def describe(self, handlers: tuple[Opened, ...], tokens: int) -> list[tuple[Opened, Call]]:
        """Each handler with its description of this call of `tokens` queries."""
        grid = None if self.kind == "joint" else grid_of(tokens)
        return [(entry, entry.call(self.site, self.kind == "cross", grid)) for entry in handlers]


class _Answered(TorchFunctionMode):
    """Answers scaled dot products under the handlers of a door."""

    def __init__(self, door: ProcessorDoor, handlers: tuple[Opened, ...]) -> None:
        super().__init__()
        self.door, self.handlers, self.calls = door, handlers, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self.calls += 1
        return self._answer(*args, **(kwargs or {}))

    def _answer(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if is_causal or enable_gqa or dropout_p:
            raise ValueError(
                f"attention at {self.door.site!r} is causal, grouped or has dropout, which taps and edits do not know"
            )
        if scale is not None:
            query = query * (scale * query.shape[-1] ** 0.5)
        pairs = self.door.describe(self.handlers, query.shape[-2])
        if attn_mask is None or attn_mask.dtype == torch.bool:
            return attend(query, key, value, attn_mask, pairs)
        for entry, call in pairs:
            query, key, value = entry.handler.tokens(call, query, key, value)
        if not any(entry.handler.explicit for entry, _ in pairs):
            return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        last = Opened(_Bias(attn_mask))  # after the others' logits, as a mask of booleans is
        maps = [(Opened(_MapsOnly(entry.handler)), call) for entry, call in pairs if entry.handler.explicit]
        return attend(query, key, value, None, [*maps, (last, pairs[0][1])])


class _MapsOnly(Handler):
    """A handler whose tokens have been seen to."""

    explicit = True

    def __init__(self, handler: Handler) -> None:
        self.logits, self.maps = handler.logits, handler.maps  # type: ignore[method-assign]


class _Bias(Handler):
    """logits += bias."""

    explicit = True

    def __init__(self, bias: Tensor) -> None:
        self.bias = bias

    def logits(self, call: Call, logits: Tensor) -> Tensor:
        return logits + self.bias.to(logits.dtype)


def kind_of(name: str, layer: Any) -> str:
    """ "self", "cross" or "joint", from what the layer says of itself."""
    if getattr(layer, "added_kv_proj_dim", None) is not None:
        return "joint"
    return "cross" if getattr(layer, "is_cross_attention", False) else "self"


def open_doors(
    network: nn.Module,
    kind: Callable[[str, Any], str] = kind_of,
    special: Mapping[str, type[ProcessorDoor]] | None = None,
) -> dict[str, ProcessorDoor]:
    """Put a door in the place of every attention processor; sites are called "NAME.KIND", as "mid_block...attn2.cross".

    Args:
        network: of diffusers; a processor that is a door already is left alone.
        kind: (name, layer) -> "self", "cross" or "joint".
        special: class name of a processor that calls no scaled dot product -> the door that knows it.

    Returns:
        site -> door, those made now.

    Raises:
        ValueError: for a processor with weights of its own (IP-Adapter and the like).
    """
    doors = {}
    for name, layer in list(network.named_modules()):
        processor = getattr(layer, "processor", None)
        if processor is None or isinstance(layer, ProcessorDoor) or not hasattr(layer, "set_processor"):
            continue
        if isinstance(processor, ProcessorDoor):
            continue
        if isinstance(processor, nn.Module):
            raise ValueError(f"{name}: the attention processor {type(processor).__name__} has weights; not supported")
        what = kind(name, layer)
        site = f"{name}.{what}"
        door = (special or {}).get(type(processor).__name__, ProcessorDoor)(processor, site, what)
        del layer.processor  # a plain attribute would hide the module of that name
        layer.processor = doors[site] = door
    return doors
