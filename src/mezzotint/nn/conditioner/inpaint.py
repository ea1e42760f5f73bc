"""Inpainting: the known part of an image, and a mask of the hole, as a condition. The mask is 1 in the hole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mezzotint.core.condition import Condition
from mezzotint.nn.conditioner.base import Conditioner
from mezzotint.nn.conditioner.images import stack_images


@runtime_checkable
class Encodes(Protocol):
    """What is asked of an autoencoder here."""

    def encode(self, x: Tensor) -> Tensor:
        """Images (b, c, h, w) in [-1, 1] to latents (b, k, h / f, w / f)."""
        ...


class InpaintConditioner(Conditioner):
    """The masked image through the autoencoder, and the mask beside it.

    masked = 2 (1 - m) (x + 1) / 2 - 1    (the hole is -1);    concat = [E(masked), 2 nearest(m) - 1]

    The autoencoder belongs to the model: it is used here without gradients, and is neither registered, nor trained,
    nor saved with the conditioner. There is no null: guidance keeps the image in both halves.

    Args:
        autoencoder: The autoencoder of the model; it may be given later by ``attach``.
        channels: Channels of the image.

    Raises:
        ValueError: Fewer than one channel.

    Source: arXiv 2112.10752, section 4.5 and code.

    >>> from mezzotint.latent import Identity
    >>> inpaint = InpaintConditioner(Identity(3))
    >>> c = inpaint(inpaint.prepare([(torch.ones(3, 1, 2), torch.tensor([[0, 1]]))]))
    >>> c["concat"][0, :, 0].tolist()
    [[1.0, -1.0], [1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]
    """

    reads = ("masked_image", "mask")

    def __init__(self, autoencoder: Encodes | None = None, channels: int = 3) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.config = {"channels": channels}
        self._held: tuple[Encodes, ...] = ()
        if autoencoder is not None:
            self.attach(autoencoder)

    def attach(self, autoencoder: Encodes) -> None:
        """Use this autoencoder; its weights stay its owner's."""
        self._held = (autoencoder,)  # in a tuple, so that it is no submodule

    def prepare(self, inputs: Sequence[Any]) -> Condition:
        """Masked images and masks of a batch.

        Args:
            inputs: Pairs (image, mask): a float tensor (channels, h, w) in [-1, 1]; a tensor (h, w) or (1, h, w)
                of 0 (known) and 1 (hole).

        Returns:
            "masked_image" (b, channels, h, w) and "mask" (b, 1, h, w) in {0, 1}, without a null.

        Raises:
            ValueError: No pairs, or an image or a mask that is not as above (a soft mask, for one).
        """
        if any(not isinstance(pair, (tuple, list)) or len(pair) != 2 for pair in inputs):
            raise ValueError("inpainting takes a list of pairs (image, mask)")
        images = stack_images([image for image, _ in inputs], self.config["channels"])
        masks = torch.stack([_mask(mask, images.shape[-2:]) for _, mask in inputs]).to(images)
        return Condition({"masked_image": hide(images, masks), "mask": masks})

    def encode(self, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Masked images and masks to "concat" (b, latent channels + 1, h / f, w / f)."""
        if not self._held:
            raise ValueError("InpaintConditioner has no autoencoder; give it the model's: attach(autoencoder)")
        with torch.no_grad():
            z = self._held[0].encode(raw["masked_image"])
        mask = F.interpolate(raw["mask"], z.shape[-2:], mode="nearest")
        return {"concat": torch.cat([z, 2 * mask.to(z) - 1], 1)}


def hide(image: Float[Tensor, "b c h w"], mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b c h w"]:
    """The image with -1 in the hole: (1 - m) x on the scale [0, 1], then mapped to [-1, 1].

    Args:
        image: Images in [-1, 1].
        mask: 1 in the hole, 0 elsewhere.

    Returns:
        Masked images in [-1, 1].

    Source: arXiv 2112.10752, code.

    >>> hide(torch.tensor([[[[0.5, 0.5]]]]), torch.tensor([[[[0.0, 1.0]]]])).tolist()
    [[[[0.5, -1.0]]]]
    """
    return torch.where(mask > 0.5, -1.0, image)


def paste(
    image: Float[Tensor, "b c h w"], output: Float[Tensor, "..."], mask: Float[Tensor, "#b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """The output in the hole, the image elsewhere, bit for bit: (1 - m) image + m output.

    Args:
        image: The known images.
        output: What was sampled, of the same shape.
        mask: 1 in the hole, 0 elsewhere.

    Returns:
        The completed images.

    Raises:
        ValueError: A mask with other values than 0 and 1, or images of different shapes.

    Source: arXiv 2112.10752, code.

    >>> paste(torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2), torch.tensor([[[[0.0, 1.0]]]])).tolist()
    [[[[0.0, 1.0]]]]
    """
    if image.shape != output.shape:
        raise ValueError(f"image and output must have one shape, got {tuple(image.shape)} and {tuple(output.shape)}")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("a mask must be 0 (known) or 1 (hole) everywhere; threshold a soft one: (mask > 0.5)")
    return torch.where(mask == 1, output, image)


def _mask(mask: Any, size: Sequence[int]) -> Tensor:
    """A mask as (1, h, w), checked."""
    if not isinstance(mask, Tensor):
        raise ValueError(f"a mask must be a tensor of 0 and 1, got {type(mask).__name__}")
    if mask.shape not in (tuple(size), (1, *size)):
        raise ValueError(f"a mask must be {tuple(size)} or {(1, *size)} like its image, got {tuple(mask.shape)}")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(
            "a mask must be 0 (known) or 1 (hole) everywhere, got other values; threshold a soft one: (mask > 0.5)"
        )
    return mask.detach().cpu().reshape(1, *size)
