"""Where handles take hold: which attention layers are self or cross, and which modules are a network's decoder."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.nn.attention import Attention
from mezzotint.nn.site import Door, find_sites

__all__ = ["as_map", "check_sites", "cross_sites", "decoder_places", "decoder_sites", "self_sites"]

_LISTS = ("up_blocks", "up", "blocks", "transformer_blocks")


def self_sites(root: nn.Module) -> tuple[str, ...]:
    """Names of the self-attention layers, in the order of the network; joined by `|` they are a glob of sites.

    Raises:
        ValueError: there is none.

    >>> from mezzotint.nn import UNet
    >>> self_sites(UNet(4, channels=16, context=8, blocks=1, attention=()))
    ('mid.1.block.self',)
    """
    return _of_kind(root, "self")


def cross_sites(root: nn.Module) -> tuple[str, ...]:
    """Names of the cross-attention layers, in the order of the network.

    Raises:
        ValueError: there is none.

    >>> from mezzotint.nn import UNet
    >>> cross_sites(UNet(4, channels=16, context=8, blocks=1, attention=()))
    ('mid.1.block.cross',)
    """
    return _of_kind(root, "cross")


def decoder_sites(root: nn.Module) -> tuple[str, ...]:
    """Names of the self-attention layers of a network's decoder: the upward half of a UNet, the last half of the blocks
    of a transformer (our choice).

    Raises:
        ValueError: there is none, or the network's decoder is not known.

    >>> from mezzotint.nn import DiT
    >>> decoder_sites(DiT(4, width=16, depth=4, heads=2))
    ('blocks.2.self', 'blocks.3.self')
    """
    inside = {id(module) for stage in _stages(root) for module in stage.modules()}
    own = tuple(door.site for door in _doors(root) if _kind(door) == "self" and id(door) in inside)
    if not own:
        raise ValueError("the decoder of this model has no self-attention; take a model with attention on its way up")
    return own


def decoder_places(root: nn.Module) -> dict[str, nn.Module]:
    """The modules whose outputs are a decoder's activations, by their name below `root`, from coarse to fine.

    Of our UNet the last part of every stage upwards, of diffusers' its `up_blocks`, of a transformer the last half of
    its blocks (our choice).

    Raises:
        ValueError: the network's decoder is not known.

    >>> from mezzotint.nn import UNet
    >>> list(decoder_places(UNet(4, channels=16, blocks=1)))
    ['up.0.1', 'up.1.2', 'up.2.0', 'up.3.0']
    """
    stages = _stages(root)
    names = {id(module): n for n, module in root.named_modules()}
    ends = [stage[-1] if isinstance(stage, nn.ModuleList) else stage for stage in stages]
    return {names[id(end)]: end for end in ends}


def as_map(feature: Float[Tensor, "b *rest"], height: int, width: int) -> Float[Tensor, "b c i j"]:
    """An activation as a map: tokens (b, n, c) are laid out in the proportions of what is drawn, maps stay.

    Args:
        feature: (b, c, i, j), or tokens (b, n, c) row by row.
        height, width: of the image or latent that the network was given.

    Raises:
        ValueError: so many tokens are no image of these proportions.

    >>> import torch
    >>> as_map(torch.zeros(1, 6, 5), 8, 12).shape
    torch.Size([1, 5, 2, 3])
    """
    if feature.ndim == 4:
        return feature
    if feature.ndim != 3:
        raise ValueError(f"an activation of shape {tuple(feature.shape)} is no map; expected (b, c, i, j) or (b, n, c)")
    tokens = feature.shape[1]
    for side in range(1, max(height, width) + 1):
        grid = (-(-height // side), -(-width // side))  # halved again and again, or in patches, with ends rounded up
        if grid[0] * grid[1] == tokens:
            return feature.transpose(1, 2).unflatten(2, grid)
    raise ValueError(f"{tokens} tokens are no image in the proportions of {height} x {width}")


def check_sites(root: nn.Module, sites: str) -> None:
    """Refuse sites that do not exist, saying so in particular where a model reads no context.

    Raises:
        ValueError: no site matches.
    """
    if "cross" in sites and not any(_kind(door) == "cross" for door in _doors(root)):
        _of_kind(root, "cross")
    find_sites(root, sites)


def _doors(root: nn.Module) -> list[Door]:
    return [module for module in root.modules() if isinstance(module, Door)]


def _kind(door: Door) -> str:
    if isinstance(door, Attention):
        return "cross" if door.context else "self"
    return getattr(door, "kind", "self")


def _of_kind(root: nn.Module, kind: str) -> tuple[str, ...]:
    doors = _doors(root)
    found = tuple(door.site for door in doors if _kind(door) == kind)
    if not found:
        others = ", ".join(door.site for door in doors) or "none"
        why = "it reads no text tokens, or mixes them in elsewhere" if kind == "cross" else "nothing looks over places"
        raise ValueError(f"this model has no {kind}-attention ({why}); its attention sites are: {others}")
    return found


def _stages(root: nn.Module) -> Sequence[nn.Module]:
    for module in root.modules():
        for name in _LISTS:
            found = getattr(module, name, None)
            if isinstance(found, nn.ModuleList) and len(found) > 0:
                return list(found) if name.startswith("up") else list(found)[len(found) // 2 :]
    raise ValueError(
        f"the decoder of {type(root).__name__} is not known: expected a UNet (up, up_blocks) or a transformer (blocks, "
        "transformer_blocks)"
    )
