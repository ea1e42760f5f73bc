"""Denoising of other sizes than that of training, window by window."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Prediction
from mezzotint.core.window import EvenWindows, Windows
from mezzotint.guide.guided import spread_time

__all__ = ["PatchMean", "Windowed"]


@dataclass(frozen=True)
class Windowed:
    """A guide that runs the denoiser on overlapping windows of its input and blends what it says.

    D'(x_t) = fold(w D(unfold(x_t))) / fold(w), with the weights of :class:`mezzotint.core.window.Windows`. The
    denoiser's own kind of prediction is blended; all kinds agree, since x_t blends to itself.

    A condition's "concat" image is cut up as x_t is; every other condition is repeated for each window. A null of
    "concat" does not reach the windows, so guidance goes outside: compose(Windowed(...), CFG(w)). (Layout
    boxes would need crop tokens for each window: give those to the denoiser yourself.) An input no larger than a
    window goes straight to the denoiser.

    Args:
        window: side of a window, the size the network was trained at.
        stride: step between windows, at most window; half the window is the paper's choice.
        batch: most windows in one call of the network; None for all at once.

    Raises:
        ValueError: for sizes below 1 or a stride beyond the window; when called, for an input that is no image or
            whose border the windows do not reach.

    Source: arXiv 2112.10752, released code (windowed sampling for super-resolution).

    >>> from mezzotint.core import Gaussian, VP
    >>> exact = Gaussian(torch.zeros(1, 4, 4), std=1.0).denoiser(VP())
    >>> Windowed(window=4, stride=2)(exact)(torch.zeros(1, 1, 8, 6), torch.tensor([0.5])).x0.shape
    torch.Size([1, 1, 8, 6])
    """

    window: int
    stride: int
    batch: int | None = None

    def __post_init__(self) -> None:
        if self.window < 1 or not 1 <= self.stride <= self.window:
            raise ValueError(
                f"window must be at least 1 and stride between 1 and window, got {self.window} and {self.stride}"
            )
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")

    def __call__(self, d: Denoiser) -> Denoiser:
        return _WindowedDenoiser(d, self)

    def layout(self, height: int, width: int) -> Windows:
        """The windows over an input of this size."""
        return Windows((height, width), (self.window, self.window), (self.stride, self.stride))


@dataclass(frozen=True)
class PatchMean(Windowed):
    """The mean of what the denoiser says of all patches that a pixel lies in, at every step: any size, any stride.

    D'(x_t) = fold(D(unfold(x_t))) / (patches over each pixel). As `Windowed`, but every patch counts alike and the
    last ones end at the border whatever the stride, so that a network trained on patches restores pictures of any size:
    degraded ones ("concat") are cut up with x_t.

    Args:
        window: side p of a patch, the size the network was trained at.
        stride: r, step between patches, at most window; the smaller, the more calls.
        batch: most patches in one call of the network; None for all at once.

    Source: arXiv 2207.14626 (WeatherDiff), as 2406.11138 asks for with all methods.

    >>> from mezzotint.core import Gaussian, VP
    >>> exact = Gaussian(torch.zeros(1, 4, 4), std=1.0).denoiser(VP())
    >>> PatchMean(window=4, stride=3)(exact)(torch.zeros(1, 1, 9, 6), torch.tensor([0.5])).x0.shape
    torch.Size([1, 1, 9, 6])
    """

    def layout(self, height: int, width: int) -> Windows:
        """See Windowed.layout."""
        return EvenWindows((height, width), (self.window, self.window), (self.stride, self.stride))


class _WindowedDenoiser(Denoiser):
    def __init__(self, denoiser: Denoiser, guide: Windowed) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.guide = denoiser, guide

    def forward(self, x_t: Float[Tensor, "b *s"], t: Float[Tensor, " b"], c: Condition | None = None) -> Prediction:
        if x_t.ndim != 4:
            raise ValueError(f"windows need images (batch, channels, height, width), got {tuple(x_t.shape)}")
        layout = self.guide.layout(x_t.shape[-2], x_t.shape[-1])
        n = len(layout.corners())
        if n == 1:
            return self.denoiser(x_t, t, c)
        xs, ts, cs = layout.unfold(x_t), t.repeat_interleave(n), _cut(c, layout, n)
        step = self.guide.batch or len(xs)
        parts = [
            self.denoiser(
                xs[i : i + step], spread_time(t, ts[i : i + step]), None if cs is None else cs.rows(slice(i, i + step))
            )
            for i in range(0, len(xs), step)
        ]
        value = layout.blend(torch.cat([part.value for part in parts]))
        return Prediction(parts[0].kind, value, x_t, t, self.schedule)


def _cut(c: Condition | None, layout: Windows, n: int) -> Condition | None:
    if c is None:
        return None
    repeated = c.without("concat").repeat(n)
    return repeated.updated({"concat": layout.unfold(c["concat"])}) if "concat" in c else repeated
