"""Image prompts: tokens of an image beside those of a text, with keys and values of their own (decoupled attention)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.attention.rows import Rows, opening
from mezzotint.nn.attention import Attention, attend
from mezzotint.nn.site import Call, Door, Handler, find_sites, opened

__all__ = ["DecoupledAttention", "ImageKeys", "Scale", "image_prompt"]

Scale = float | int | Tensor | Callable[[Call], float | int | Tensor]


class ImageKeys(Door):
    """Attn(q, W_k c, W_v c) of one layer: its queries, keys and values of an image's tokens c.

    It is a site of its own, "SITE.image": taps and edits may be opened on it.

    Args:
        site: of the layer whose queries it takes.
        features: of an image token.
        keys, values: widths of all heads together.
    """

    def __init__(self, site: str, features: int, keys: int, values: int) -> None:
        super().__init__()
        self.of, self.site = site, f"{site}.image"
        self.to_k = nn.Linear(features, keys, bias=False)
        self.to_v = nn.Linear(features, values, bias=False)

    def forward(
        self, q: Float[Tensor, "b heads n d"], tokens: Float[Tensor, "k m features"], call: Call
    ) -> Float[Tensor, "b n width"]:
        """What the queries see in the image.

        Args:
            q: the layer's queries.
            tokens: of the image, one row or as many as there are queries.
            call: the layer's.

        Raises:
            ValueError: for another number of rows.
        """
        if len(tokens) not in (1, len(q)):
            raise ValueError(
                f"image tokens of {len(tokens)} rows at {self.of!r}, which runs {len(q)}; give 1 or as many"
            )
        tokens = tokens.to(self.to_k.weight.dtype)
        k, v = (
            layer(tokens).unflatten(-1, (q.shape[1], -1)).transpose(1, 2).expand(len(q), -1, -1, -1).to(q.dtype)
            for layer in (self.to_k, self.to_v)
        )
        out = attend(q, k, v, None, [(o, o.call(self.site, True, call.grid)) for o in opened(self)])
        return out.transpose(1, 2).flatten(2)


class DecoupledAttention(nn.Module):
    """The keys and values of image tokens for every cross-attention layer of a network; trained beside it or alone.

    Args:
        root: a backbone, or anything that holds one, of ours or of diffusers; it is not kept.
        features: of an image token.
        sites: a glob as in `mezzotint.nn.find_sites`.
        start: "text" copies the layers' own W_k and W_v (text and image tokens have equal features), "random" draws.

    Raises:
        ValueError: no site matches, or is no cross-attention; start "text" with other features; a layer that
            normalises its keys, which is not supported.

    Source: arXiv 2404.13263, sheet section 3.1 (the attention of IP-Adapter, arXiv 2308.06721, section 3.2).

    >>> from mezzotint.nn import UNet
    >>> [part.site for part in DecoupledAttention(UNet(4, channels=16, context=8, attention=()), 6).layers]
    ['mid.1.block.cross.image']
    """

    def __init__(
        self, root: nn.Module, features: int, sites: str = "*cross", start: Literal["text", "random"] = "random"
    ) -> None:
        super().__init__()
        if features < 1:
            raise ValueError(f"image tokens of {features} features; expected at least 1")
        if start not in ("text", "random"):
            raise ValueError(f"start={start!r}; expected 'text' or 'random'")
        with opening(root, Handler(), sites):  # refuses sites that are none
            doors = find_sites(root, sites)
        holders = {id(m.processor): m for m in root.modules() if isinstance(getattr(m, "processor", None), Door)}
        parts = []
        for site, door in doors.items():
            layer = _cross(door, holders.get(id(door)))
            part = ImageKeys(site, features, layer.to_k.out_features, layer.to_v.out_features)
            if start == "text":
                if layer.to_k.in_features != features:
                    raise ValueError(
                        f"start='text' at {site!r}: text tokens have {layer.to_k.in_features} features, image tokens "
                        f"{features}; give them as many, or start='random'"
                    )
                with torch.no_grad():
                    part.to_k.weight.copy_(layer.to_k.weight)
                    part.to_v.weight.copy_(layer.to_v.weight)
            parts.append(part)
        self.features = features
        self.layers = nn.ModuleList(parts)

    def at(self, site: str) -> ImageKeys:
        """The part for a layer."""
        for part in self.layers:
            if isinstance(part, ImageKeys) and part.of == site:
                return part
        raise ValueError(f"no keys of image tokens were made for {site!r}")

    @property
    def sites(self) -> str:
        """The layers, as a glob."""
        return "|".join(part.of for part in self.layers if isinstance(part, ImageKeys))


class _Queries(Handler):
    """Remembers the queries of the latest call at each site."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[Tensor, Call]] = {}

    def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.seen[call.site] = q, call
        return q, k, v


@contextmanager
def image_prompt(
    root: nn.Module,
    attention: DecoupledAttention,
    tokens: Float[Tensor, "b m features"],
    beta: Scale = 1.0,
    *,
    rows: Rows = None,
) -> Iterator[None]:
    """Let cross-attention see image tokens too, for the length of the block.

        W_o (Attn(Q, K_t, V_t) + beta Attn(Q, K_s, V_s)),    K_s = W_k c, V_s = W_v c

    The layers stay fused, and where beta is the number 0 they are untouched, bit for bit. Handlers that are open on a
    layer see its text tokens; those of the image are at "SITE.image", below `attention`. Gradients flow to tokens,
    beta and `attention`.

    Args:
        root: the network for which `attention` was made, or what holds it.
        attention: keys and values of image tokens.
        tokens: c, one row for all of the batch, or one each.
        beta: a number, a tensor of one number or of one a row, or a function of the `Call`, whose `index` counts
            evaluations.
        rows: of the batch that see the image; with guidance `slice(b, None)` are the conditional ones.

    Raises:
        ValueError: tokens of other features, or of a layer for which there are no keys; at the call: rows that do not
            fit.

    Source: arXiv 2404.13263, sheet section 3.1.

    >>> from mezzotint.nn import UNet
    >>> net = UNet(4, channels=16, context=8)
    >>> with image_prompt(net, DecoupledAttention(net, 6), torch.zeros(1, 3, 6), 0.5):
    ...     y = net(torch.zeros(1, 4, 8, 8), torch.zeros(1), {"text": torch.ones(1, 2, 8)})
    """
    if tokens.ndim != 3 or tokens.shape[2] != attention.features:
        raise ValueError(f"image tokens of {tuple(tokens.shape)}; expected (b, m, {attention.features})")
    queries, owner = _Queries(), threading.get_ident()

    def add(door: Door, args: tuple[Any, ...], keywords: dict[str, Any], output: Tensor) -> Tensor | None:
        if threading.get_ident() != owner:
            return None
        q, call = queries.seen.pop(door.site)
        scale = beta(call) if callable(beta) else beta
        if isinstance(scale, (float, int)) and scale == 0:
            return None
        more = attention.at(door.site)(q, tokens, call)
        if isinstance(scale, Tensor):
            scale = scale.to(more).view(-1, 1, 1) if scale.ndim else scale.to(more)
        more = _projected(door, args, scale * more)
        if rows is None:
            return output + more
        output = output.clone()
        output[rows] = output[rows] + more
        return output

    with opening(root, queries, attention.sites, rows):
        handles = [
            door.register_forward_hook(add, with_kwargs=True) for door in find_sites(root, attention.sites).values()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _cross(door: Door, holder: Any) -> Any:
    """The layer with the projections: the door itself, or the one whose processor it is."""
    layer = door if isinstance(door, Attention) else holder
    kind = (layer.context > 0) if isinstance(layer, Attention) else getattr(door, "kind", "self") == "cross"
    if not kind or layer is None:
        raise ValueError(f"{door.site!r} is no cross-attention and sees no prompt; choose cross-attention ('*cross')")
    if getattr(layer, "norm_k", None) is not None:
        raise ValueError(f"{door.site!r} normalises its keys; image tokens are not supported there")
    return layer


def _projected(door: Door, args: tuple[Any, ...], x: Tensor) -> Tensor:
    """W_o x as it comes out of the layer: without the bias, which the text's part has brought."""
    if isinstance(door, Attention):
        return F.linear(x, door.to_out.weight)
    layer = args[0]  # of diffusers
    out = layer.to_out[0]
    x = F.linear(x, out.weight) if type(out) is nn.Linear else out(x) - out(torch.zeros_like(x[:1, :1]))
    return x / layer.rescale_output_factor
