"""Ghosts: whether an object is still seen where an edit took it away."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mezzotint.metric.overlap import as_mask

__all__ = ["ghosts", "windows"]


def windows(
    x: Float[Tensor, "b c h w"], regions: Tensor, size: int = 32, margin: int = 2
) -> Float[Tensor, "b c {size} {size}"]:
    """A square window around each region, all brought to one size.

    The window is the region's bounding box, made square about its centre and widened by a margin; where it would leave
    the picture it is moved inside, where it is larger than the picture's shorter side it is that side.

    Args:
        x: pictures.
        regions: (b, h, w), bool, or 0 and 1.
        size: side of the result, pixels; antialiased bilinear, and a window of that size is copied.
        margin: pixels on each side.

    Raises:
        ValueError: for shapes that do not fit, an empty region, a size below 1 or a margin below 0.

    >>> x = torch.arange(64.0).view(1, 1, 8, 8)
    >>> windows(x, x[:, 0] == 9, size=1, margin=0).item()
    9.0
    """
    if x.ndim != 4 or regions.shape != x[:, 0].shape:
        raise ValueError(
            f"windows got pictures {tuple(x.shape)} and regions {tuple(regions.shape)}; "
            "expected (b, c, h, w) and (b, h, w)"
        )
    if size < 1 or margin < 0:
        raise ValueError(f"windows got size={size}, margin={margin}; expected 1 or more and 0 or more pixels")
    inside = as_mask("windows", regions)
    empty = (~inside.flatten(1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"regions {empty[:4]} are empty: nothing was vacated there; leave these pictures out")
    made = []
    for picture, region in zip(x, inside.cpu(), strict=True):
        spans = [region.any(1 - axis).nonzero().flatten() for axis in (0, 1)]
        first, last = [int(s[0]) for s in spans], [int(s[-1]) for s in spans]
        shape = (picture.shape[1], picture.shape[2])
        side = min(max(b - a + 1 for a, b in zip(first, last, strict=True)) + 2 * margin, *shape)
        top, left = (min(max((a + b + 1 - side) // 2, 0), n - side) for a, b, n in zip(first, last, shape, strict=True))
        part = picture[None, :, top : top + side, left : left + side]
        if side != size:
            part = F.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False)
        made.append(part)
    return torch.cat(made)


@torch.no_grad()
def ghosts(
    classifier: Callable[[Tensor], Tensor],
    edited: Float[Tensor, "b c h w"],
    vacated: Tensor,
    labels: Int[Tensor, "b"],
    *,
    size: int = 32,
    margin: int = 2,
    threshold: float | int = 0.5,
) -> Bool[Tensor, "b"]:
    """Whether a classifier sees the object in the window around the place that it left; the mean is the ghost rate.

        fires_i = softmax(classifier(window_i))[label_i] >= threshold

    A rate says something beside those of two references: of the true pictures (false alarms), and of the unedited
    source, which has the object there (hits). The window shows what lies around the hole too: an object that was moved
    by less than its own size and the margin is seen at its new place.

    Args:
        classifier: windows (b, c, size, size) -> logits (b, classes), one class of which may be "nothing there".
        edited: pictures after the edit.
        vacated: m_ipt of each, (b, h, w).
        labels: class of the object that was moved.
        size, margin: of the window, as of `windows`.
        threshold: probability, in (0, 1].

    Raises:
        ValueError: as `windows`; for logits or labels that do not fit or are not finite, or a threshold out of range.

    Source: the ghost rate of the sheet of arXiv 2412.14283, section 7 (our choice of window and threshold).

    >>> bright = lambda x: torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], 1)
    >>> x = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    >>> ghosts(bright, x, torch.ones(2, 8, 8), torch.ones(2, dtype=torch.long)).tolist()
    [True, False]
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"ghosts got threshold={threshold}; expected a probability above 0 and up to 1")
    logits = classifier(windows(edited, vacated, size, margin))
    if logits.ndim != 2 or len(logits) != len(edited) or labels.shape != (len(edited),):
        raise ValueError(
            f"ghosts got logits {tuple(logits.shape)} and labels {tuple(labels.shape)} for {len(edited)} pictures; "
            "expected (b, classes) and (b,)"
        )
    if bool((labels < 0).any()) or bool((labels >= logits.shape[1]).any()):
        raise ValueError(f"ghosts got labels outside 0 to {logits.shape[1] - 1}, the classes of the classifier")
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("ghosts got NaN or infinite logits; look at the pictures and the classifier")
    return logits.double().softmax(1).gather(1, labels.to(logits.device)[:, None])[:, 0] >= threshold
