"""How far an image is from a caption of several objects at their places: what spatial-temporal attention minimises."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mezzotint.guide.region import Region, crop

__all__ = ["Scorer", "faithfulness_loss"]

Scorer = Callable[[Tensor, Sequence[str]], Tensor]


def faithfulness_loss(
    scorer: Scorer,
    images: Float[Tensor, "b c h w"],
    captions: Sequence[str],
    phrases: Sequence[Sequence[str]],
    regions: Sequence[Sequence[Region]],
    weight: float | int = 5.0,
) -> Float[Tensor, " b"]:
    """L = 1 - s(I, caption) + weight sum_k (1 - s(crop_k, phrase_k)), for each image.

    Crops are the rectangles around the regions, resized to the image's own size; the scorer resizes and normalises as
    its network wants (the paper's code leaves the normalisation out).

    Args:
        scorer: (images in [-1, 1], captions) -> (b,) cosines, differentiable: `TextScore.cosine`.
        images: in [-1, 1].
        captions: b.
        phrases: of each image, its objects' captions.
        regions: of each image, its objects' regions.
        weight: of the crops; the paper's is 5.

    Raises:
        ValueError: for numbers that differ, or a scorer that gives another shape.

    Source: arXiv 2304.03869, sheet section 3.3.

    >>> from mezzotint.guide import Box
    >>> left_is_bright = torch.tensor([1.0, -1.0]).expand(1, 1, 2, 2)
    >>> bright = lambda x, words: x.mean((1, 2, 3))
    >>> faithfulness_loss(bright, left_is_bright, ["all"], [["left"]], [[Box(0, 0, 0.5, 1)]]).tolist()
    [1.0]
    """
    b = len(images)
    if not len(captions) == len(phrases) == len(regions) == b:
        raise ValueError(f"{b} images, {len(captions)} captions, {len(phrases)} and {len(regions)} lists of objects")
    rows, cut, words = [], [], []
    for i, (said, places) in enumerate(zip(phrases, regions, strict=True)):
        if len(said) != len(places):
            raise ValueError(f"image {i} has {len(said)} phrases and {len(places)} regions; give one a phrase")
        for phrase, region in zip(said, places, strict=True):
            part = crop(images[i : i + 1], region)
            cut.append(F.interpolate(part, images.shape[2:], mode="bilinear", antialias=True, align_corners=False))
            words.append(phrase)
            rows.append(i)
    loss = 1 - _scored(scorer, images, captions)
    if not cut:
        return loss
    part = 1 - _scored(scorer, torch.cat(cut), words)
    return loss + weight * part.new_zeros(b).index_add(0, torch.tensor(rows, device=part.device), part)


def _scored(scorer: Scorer, images: Tensor, captions: Sequence[str]) -> Tensor:
    scores = scorer(images, captions)
    if scores.shape != (len(images),):
        raise ValueError(f"the scorer gave {tuple(scores.shape)} for {len(images)} images; expected one number each")
    return scores.to(torch.promote_types(scores.dtype, torch.float32))  # cosines vanish in half precision
