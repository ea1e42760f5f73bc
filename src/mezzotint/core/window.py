"""Overlapping windows over an image: cut it up, and blend the pieces back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["EvenWindows", "Windows"]


@dataclass(frozen=True)
class Windows:
    """A regular layout of overlapping windows that covers an image exactly.

    blend(unfold(x)) = fold(w unfold(x)) / fold(w) = x, with the weight of a window's pixel
    w(i, j) = clip(distance to the nearest border, in [0, 0.5], 0.01, 0.5); a border is at distance 0,
    the middle at 0.5.

    Args:
        size: height and width of the image, in pixels.
        window: height and width of a window; cut to the image where it is larger.
        stride: step between windows, from 1 to the window's side.

    Raises:
        ValueError: where a size is below 1, or where windows would leave a gap or miss the far border;
            the message names sizes that work.

    Source: arXiv 2112.10752, released code (windowed sampling).

    >>> layout = Windows(size=(8, 12), window=(8, 8), stride=(4, 4))
    >>> layout.corners()
    [(0, 0), (0, 4)]
    """

    size: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        window = tuple(min(w, s) for w, s in zip(self.window, self.size))
        object.__setattr__(self, "window", window)
        for name, size, side, step in zip(("height", "width"), self.size, self.window, self.stride):
            if min(size, side, step) < 1:
                raise ValueError(f"{name}: size {size}, window {side} and stride {step} must be at least 1")
            if size == side:
                continue
            if step > side:
                raise ValueError(f"{name}: stride {step} is larger than the window {side} and would leave gaps")
            self._reach(name, size, side, step)

    def _reach(self, name: str, size: int, side: int, step: int) -> None:
        rest = (size - side) % step
        if rest:
            raise ValueError(
                f"{name}: windows of {side} with stride {step} leave {rest} of {size} pixels at the border "
                f"uncovered; use a size of {size - rest} or {size - rest + step}, or a stride that divides "
                f"{size - side}"
            )

    def corners(self) -> list[tuple[int, int]]:
        """Top-left corner (row, column) of every window, row by row."""
        rows, columns = (self._along(*axis) for axis in zip(self.size, self.window, self.stride))
        return [(y, x) for y in rows for x in columns]

    def _along(self, size: int, side: int, step: int) -> list[int]:
        return list(range(0, size - side + 1, step))

    def scaled(self, up: int = 1, down: int = 1) -> Windows:
        """The same layout on an image ``up / down`` times as large (image and latent).

        Raises:
            ValueError: where down does not divide the sizes.
        """
        lengths = (*self.size, *self.window, *self.stride)
        if any(n * up % down for n in lengths):
            raise ValueError(
                f"size {self.size}, window {self.window} and stride {self.stride} must be multiples of {down}"
            )
        h, w, wh, ww, sh, sw = (n * up // down for n in lengths)
        return Windows((h, w), (wh, ww), (sh, sw))

    def weights(self) -> Float[Tensor, "wh ww"]:
        """Weight of each pixel of a window, in [0.01, 0.5], float64."""
        rows, columns = (_border_distance(side) for side in self.window)
        return torch.minimum(rows[:, None], columns[None, :]).clamp(0.01, 0.5)

    def unfold(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "bn c wh ww"]:
        """All windows of all images: row i * n + j is window j of image i.

        Raises:
            ValueError: for an image of another size.
        """
        if x.ndim != 4 or tuple(x.shape[-2:]) != self.size:
            raise ValueError(f"expected (batch, channels, {self.size[0]}, {self.size[1]}), got {tuple(x.shape)}")
        h, w = self.window
        return torch.stack([x[..., y : y + h, z : z + w] for y, z in self.corners()], 1).flatten(0, 1)

    def blend(self, pieces: Float[Tensor, "bn c wh ww"]) -> Float[Tensor, "b c h w"]:
        """Whole images from their windows, as a weighted mean where windows overlap; differentiable.

        Half precision is summed in float32 and handed back as it came.

        Raises:
            ValueError: for windows of another size or number.
        """
        corners = self.corners()
        if pieces.ndim != 4 or tuple(pieces.shape[-2:]) != self.window or len(pieces) % len(corners):
            raise ValueError(
                f"expected a multiple of {len(corners)} windows of {self.window[0]} x {self.window[1]}, "
                f"got {tuple(pieces.shape)}; was the network's output another size than its input?"
            )
        h, w = self.window
        dtype = pieces.dtype
        pieces = pieces.to(torch.promote_types(dtype, torch.float32))
        weight = self.weights().to(pieces)
        parts = (pieces * weight).unflatten(0, (-1, len(corners)))
        total = parts.new_zeros(len(parts), parts.shape[2], *self.size)
        mass = weight.new_zeros(self.size)
        for j, (y, z) in enumerate(corners):
            total[..., y : y + h, z : z + w] += parts[:, j]
            mass[y : y + h, z : z + w] += weight
        return (total / mass).to(dtype)


@dataclass(frozen=True)
class EvenWindows(Windows):
    """Windows that all count alike, at any stride: where steps do not reach the far border, one more ends at it.

    blend(unfold(x)) = fold(unfold(x)) / (number of windows over each pixel) = x.

    Args:
        size, window, stride: as of `Windows`; any stride from 1 to the window's side.

    Source: arXiv 2207.14626 (patches in WeatherDiff); the last window at the border is our choice.

    >>> EvenWindows(size=(4, 9), window=(4, 4), stride=(4, 4)).corners()
    [(0, 0), (0, 4), (0, 5)]
    """

    def _reach(self, name: str, size: int, side: int, step: int) -> None:
        return None

    def _along(self, size: int, side: int, step: int) -> list[int]:
        starts = super()._along(size, side, step)
        return starts if starts[-1] == size - side else [*starts, size - side]

    def weights(self) -> Float[Tensor, "wh ww"]:
        """Ones, float64."""
        return torch.ones(self.window, dtype=torch.float64)


def _border_distance(side: int) -> Tensor:
    if side == 1:
        return torch.full((1,), 0.5, dtype=torch.float64)
    place = torch.linspace(0.0, 1.0, side, dtype=torch.float64)
    return torch.minimum(place, 1.0 - place)
