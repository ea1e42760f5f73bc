"""Where an edit takes hold of a network: the self-attention of its decoder, and the features of its decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.nn.attention import Attention
from mezzotint.nn.site import Door

__all__ = ["Decoder", "decoder_of"]


@dataclass(frozen=True)
class Decoder:
    """What is known of a network's decoder.

    Args:
        attention: sites of all its self-attention, the whole network's.
        own: those of the decoder.
        blocks: modules whose outputs are features, from coarse to fine; two or more.
    """

    attention: tuple[str, ...]
    own: tuple[str, ...]
    blocks: tuple[nn.Module, ...]

    @contextmanager
    def features(self, height: int, width: int) -> Iterator[list[Float[Tensor, "b c i j"]]]:
        """Collect the features of one evaluation at latents of this size; read the list after the block.

        Of the outputs at each resolution the first is taken, of these the two finest: blocks 1 and 2 of Stable
        Diffusion, 0 and 1 of SDXL. Where all are at one resolution, the first two (our choice).
        """
        seen: list[Tensor] = []
        kept: list[Tensor] = []

        def see(module: nn.Module, inputs: Any, output: Any) -> None:
            seen.append(_map(output[0] if isinstance(output, tuple) else output, height, width))

        handles = [block.register_forward_hook(see) for block in self.blocks]
        try:
            yield kept
        finally:
            for handle in handles:
                handle.remove()
        first: dict[int, Tensor] = {}
        for output in seen:
            first.setdefault(output.shape[-2] * output.shape[-1], output)
        kept.extend(list(first.values())[-2:] if len(first) > 1 else seen[:2])


def decoder_of(root: nn.Module) -> Decoder:
    """The decoder of a network: the upward half of a UNet, the last half of the blocks of a transformer (our choice).

    Args:
        root: a backbone of ours, one of diffusers, or anything that holds one.

    Raises:
        ValueError: for a network without self-attention, or whose decoder is not known.
    """
    attention = tuple(door.site for door in root.modules() if isinstance(door, Door) and _is_self(door))
    if not attention:
        raise ValueError(
            "this model has no self-attention over the places of its images, by which the edit carries the background "
            "over; take a model with self-attention"
        )
    stages, blocks = _stages(root)
    own = tuple(
        dict.fromkeys(
            door.site for stage in stages for door in stage.modules() if isinstance(door, Door) and _is_self(door)
        )
    )
    return Decoder(attention, own, tuple(blocks))


def _stages(root: nn.Module) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
    """The decoder's stages, and the modules whose outputs are its features."""
    for module in root.modules():
        for name in ("up_blocks", "up", "blocks", "transformer_blocks"):
            found = getattr(module, name, None)
            if not isinstance(found, nn.ModuleList) or len(found) == 0:
                continue
            if name == "up":  # ours: stages are lists of parts, a level ends where its last part enlarges
                return list(found), [stage[-1] if isinstance(stage, nn.ModuleList) else stage for stage in found]
            if name == "up_blocks":
                return list(found), list(found)
            half = list(found)[len(found) // 2 :]
            return half, [half[0], half[len(half) // 2]] if len(half) > 1 else half
    raise ValueError(
        f"the decoder of {type(root).__name__} is not known: expected a UNet (up, up_blocks) or a transformer (blocks, "
        "transformer_blocks)"
    )


def _is_self(door: Door) -> bool:
    if isinstance(door, Attention):
        return door.context == 0
    return getattr(door, "kind", None) == "self"


def _map(output: Tensor, height: int, width: int) -> Tensor:
    """Tokens (b, n, d) laid out as a map, in the proportions of the latent."""
    if output.ndim == 4:
        return output
    tokens, rows, columns = output.shape[1], height, width
    while rows * columns > tokens:
        rows, columns = -(-rows // 2), -(-columns // 2)
    if rows * columns != tokens:
        raise ValueError(f"a decoder block puts out {tokens} tokens, which are no image of {height} x {width} halved")
    return output.transpose(1, 2).unflatten(2, (rows, columns))
