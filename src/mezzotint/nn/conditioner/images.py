"""Images as raw conditions: checked where they enter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def stack_images(inputs: Sequence[Any], channels: int) -> Float[Tensor, "b c h w"]:
    """A batch of images that share a size, in [-1, 1].

    Args:
        inputs: Float tensors (channels, h, w) in [-1, 1].
        channels: Channels that each must have.

    Returns:
        (b, channels, h, w) on the CPU.

    Raises:
        ValueError: No images, other types or shapes, values that are not finite or outside [-1, 1].

    >>> stack_images([torch.zeros(3, 2, 2)], 3).shape
    torch.Size([1, 3, 2, 2])
    """
    if not len(inputs):
        raise ValueError("images come as a list with at least one tensor, got an empty one")
    for image in inputs:
        if not isinstance(image, Tensor) or not image.is_floating_point():
            found = f"a {image.dtype} tensor" if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(f"an image must be a float tensor in [-1, 1], got {found}; bytes: x.float() / 127.5 - 1")
        if image.ndim != 3 or image.shape[0] != channels or image.shape != inputs[0].shape:
            raise ValueError(
                f"images must all be ({channels}, h, w) of one size, got {[tuple(i.shape) for i in inputs][:4]}"
            )
        low, high = image.aminmax()
        if not (low >= -1.001 and high <= 1.001):  # also false for NaN
            raise ValueError(f"an image must be finite and in [-1, 1], got values from {low:.4g} to {high:.4g}")
    return torch.stack([image.detach().cpu() for image in inputs])
