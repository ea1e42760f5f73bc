"""Line integrals through an image, as a sparse matrix that is made once: what parallel and fan beams share."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.operator import LinearOperator
from mezzotint.restore.operators.paired import need_images, need_wide

__all__ = ["RayTransform", "angle_shares", "ramp_filtered"]

_SAME = 1e-5  # of a turn: angles that are nearer count as one (they may come from float32)


def _joseph(points: Tensor, directions: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """One view's rays as rows of a sparse matrix: (entries per ray, pixels, weights).

    A ray steps along the axis that it follows most, from a row (column) of pixels to the next, interpolates linearly
    between the two pixels beside it, and each step counts with its length. Places are (row, column).
    """
    pixels, weights, ray = [], [], []
    steep = directions[:, 0].abs() >= directions[:, 1].abs()
    for along, chosen in ((0, steep), (1, ~steep)):
        rays = chosen.nonzero()[:, 0]
        if not len(rays):
            continue
        p, d, across = points[rays], directions[rays], 1 - along
        step = torch.arange(size[along], dtype=p.dtype)
        place = p[:, across, None] + (step - p[:, along, None]) * (d[:, across] / d[:, along])[:, None]
        left = place.floor()
        share = torch.stack([1 - (place - left), place - left], -1) / d[:, along].abs()[:, None, None]
        beside = torch.stack([left, left + 1], -1).long()
        at = step.long()[:, None].expand(beside.shape)
        pixel = at * size[1] + beside if along == 0 else beside * size[1] + at
        inside = (beside >= 0) & (beside < size[across]) & (share > 0)
        pixels.append(pixel[inside])
        weights.append(share[inside])
        ray.append(rays[:, None, None].expand(beside.shape)[inside])
    r, pixel, weight = torch.cat(ray), torch.cat(pixels), torch.cat(weights)
    count = r.bincount(minlength=len(points))
    if len(ray) == 1:  # as in a parallel beam: already ray by ray
        return count, pixel, weight
    order = r.argsort(stable=True)
    return count, pixel[order], weight[order]


class _Product(torch.autograd.Function):
    """matrix @ x, whose gradient is the transposed matrix's product: exact, and differentiable again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forth: tuple[Tensor, ...], back: tuple[Tensor, ...]) -> Tensor:
        ctx.pair = back, forth
        first, index, weight = forth
        # a sum of chosen rows, weighted: a sparse product, without torch's sparse tensors (beta) and their warnings
        return torch.nn.functional.embedding_bag(
            index, x.contiguous(), first, mode="sum", per_sample_weights=weight.to(x.dtype)
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _Product.apply(grads[0], *ctx.pair), None, None


class RayTransform(LinearOperator):
    """y = integrals of an image along given lines, y in units of the image times a pixel's side.

    Joseph's method; the adjoint is the same matrix transposed, so <A x, y> = <x, A* y> but for rounding. The matrix
    holds about 2 max(h, w) numbers a ray, twice, at 8 bytes each: 512 x 512 with 90 views and 725 bins takes 1.1 GB.

    Lengths are pixels, the origin is the image's centre, x to the right and y up; outside the image is 0.

    Args:
        points: a point of each line, (angles, bins, 2) as (x, y).
        directions: of each line, (angles, bins, 2), of length 1.
        size: height and width.

    Source: Joseph 1982, "An improved algorithm for reprojecting rays through pixel images".
    """

    first: Tensor
    pixel: Tensor
    weight: Tensor
    first_back: Tensor
    ray_back: Tensor
    weight_back: Tensor

    def __init__(self, points: Tensor, directions: Tensor, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        self.views, self.bins = points.shape[:2]
        h, w = size
        counts, pixels, weights = [], [], []
        for p, d in zip(points.double(), directions.double()):
            start = torch.stack([(h - 1) / 2 - p[:, 1], p[:, 0] + (w - 1) / 2], 1)
            count, pixel, weight = _joseph(start, torch.stack([-d[:, 1], d[:, 0]], 1), size)
            counts.append(count)
            pixels.append(pixel.int())
            weights.append(weight.float())
        count, pixel, weight = torch.cat(counts), torch.cat(pixels), torch.cat(weights)
        order = pixel.argsort(stable=True)
        ray = torch.arange(len(count), dtype=torch.int32).repeat_interleave(count)
        parts = {
            "first": _starts(count),
            "pixel": pixel,
            "weight": weight,
            "first_back": _starts(pixel.bincount(minlength=h * w)),
            "ray_back": ray[order],
            "weight_back": weight[order],
        }
        for name, part in parts.items():
            self.register_buffer(name, part, persistent=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c views bins"]:
        """Projections, (b, c, views, bins)."""
        need_images(x, type(self).__name__, self.size)
        need_wide(x, type(self).__name__)
        y = _Product.apply(x.flatten(2).flatten(0, 1).T, *self._matrices())
        return y.T.reshape(*x.shape[:2], self.views, self.bins)  # type: ignore[union-attr]

    def adjoint(self, y: Float[Tensor, "b c views bins"]) -> Float[Tensor, "b c h w"]:
        """Back-projection by the transposed matrix."""
        self._need_views(y)
        x = _Product.apply(y.flatten(2).flatten(0, 1).T, *self._matrices()[::-1])
        return x.T.reshape(*y.shape[:2], *self.size)  # type: ignore[union-attr]

    def _matrices(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        forth = self.first, self.pixel, self.weight
        return forth, (self.first_back, self.ray_back, self.weight_back)

    def _need_views(self, y: Tensor) -> None:
        need_images(y, type(self).__name__)
        need_wide(y, type(self).__name__)
        if tuple(y.shape[-2:]) != (self.views, self.bins):
            raise ValueError(
                f"{type(self).__name__} got projections of {y.shape[-2]} angles x {y.shape[-1]} bins; it was made for "
                f"{self.views} x {self.bins}"
            )

    def _interpolated(
        self, q: Float[Tensor, "b c views bins"], places: Float[Tensor, "views p"], shares: Float[Tensor, "views p"]
    ) -> Float[Tensor, "b c h w"]:
        """sum over views of share q(place), linear between bins and 0 outside; places in bins, p all pixels."""
        total = 0
        for view in range(self.views):
            row = torch.nn.functional.pad(q[:, :, view], (1, 1))
            place = (places[view] + 1).clamp(0, self.bins + 1)
            low = place.floor().clamp(max=self.bins)
            part = (place - low).to(q)
            at = low.long()
            total = total + shares[view].to(q) * ((1 - part) * row[..., at] + part * row[..., at + 1])
        return total.unflatten(-1, self.size)  # type: ignore[union-attr]

    def _pixels(self) -> Tensor:
        """(x, y) of every pixel, (2, h w), float64."""
        h, w = self.size
        device = self.weight.device
        x = torch.arange(w, dtype=torch.float64, device=device) - (w - 1) / 2
        y = (h - 1) / 2 - torch.arange(h, dtype=torch.float64, device=device)
        return torch.stack([x.expand(h, w).flatten(), y[:, None].expand(h, w).flatten()])


def _starts(count: Tensor) -> Tensor:
    return (count.cumsum(0) - count).int()


def ramp_filtered(y: Float[Tensor, "*b n"], spacing: float | int, hann: bool) -> Float[Tensor, "*b n"]:
    """Projections filtered by |f| up to the bins' Nyquist frequency, without wrap-around.

    The filter is the band-limited one sampled in space, h(0) = 1/4, h(n) = -1/(pi n)^2 for odd n and 0 for even n
    (over spacing^2): sampling |f| itself would lose the mean. The Hann window halves it at half of Nyquist.

    Args:
        y: bins last.
        spacing: between bins, pixels.
        hann: window or none.

    Source: Kak and Slaney 1988, section 3.3.
    """
    n = y.shape[-1]
    length = 1 << (2 * n - 1).bit_length()
    lag = torch.arange(length, device=y.device, dtype=torch.float64)
    lag = torch.minimum(lag, length - lag)
    kernel = torch.where(lag % 2 == 1, -1 / (math.pi * lag.clamp(min=1)) ** 2, torch.zeros_like(lag))
    kernel[0] = 0.25
    gain = torch.fft.rfft(kernel).real / spacing
    if hann:
        gain = gain * (0.5 + 0.5 * torch.cos(2 * math.pi * torch.fft.rfftfreq(length, device=y.device)))
    return torch.fft.irfft(torch.fft.rfft(y, length) * gain.to(y), length)[..., :n]


def angle_shares(angles: Float[Tensor, " n"], turn: float) -> Float[Tensor, " n"]:
    """How much of a turn each angle stands for: half of the gaps to its neighbours, equal ones sharing.

    A gap above twice the median one (the missing part of a limited scan) counts as the median (our choice).

    >>> angle_shares(torch.tensor([0.0, 1.0, 2.0]), 3.0).tolist()
    [1.0, 1.0, 1.0]
    """
    place = angles.double() % turn
    place = torch.where(turn - place < _SAME * turn, torch.zeros_like(place), place)
    ordered, order = place.sort()
    group = torch.cat([ordered.new_zeros(1), (ordered.diff() > _SAME * turn).double().cumsum(0)]).long()
    single = ordered[torch.cat([group.new_ones(1), group.diff()]) > 0]
    gap = torch.cat([single, single[:1] + turn]).diff()
    typical = gap.median()
    gap = torch.where(gap > 2 * typical, typical, gap)
    share = (gap + gap.roll(1)) / 2
    return torch.empty_like(place).scatter_(0, order, (share / group.bincount())[group]).to(angles.dtype)
