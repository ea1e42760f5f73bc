"""The Radon transform: parallel-beam tomography."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.rays import RayTransform, angle_shares, ramp_filtered

__all__ = ["Radon", "need_angles", "need_size", "need_window"]


def need_size(size: int | Sequence[int], owner: str) -> tuple[int, int]:
    """(h, w) of a size given as one number or two."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in pair):
        raise ValueError(f"{owner} got size={size}; expected a whole number, or height and width, in pixels")
    return pair


def need_angles(angles: Tensor | Sequence[float], owner: str) -> Tensor:
    """Angles as a float64 vector."""
    angles = torch.as_tensor(angles, dtype=torch.float64).detach().cpu()
    if angles.ndim != 1 or not len(angles) or not bool(torch.isfinite(angles).all()):
        raise ValueError(
            f"{owner} got angles of shape {tuple(angles.shape)}; expected one or more finite angles in radians, as "
            f"{owner}.sparse(60, size) makes them"
        )
    return angles


class Radon(RayTransform):
    """y(theta, s) = integral of x along the line at distance s from the centre with normal (cos theta, sin theta).

    Units: y is density times pixels (a disc of density 1 and radius r gives 2 sqrt(r^2 - s^2)). Angle 0 integrates
    along columns; angles turn counterclockwise. Images (b, c, h, w) give (b, c, angles, bins), by Joseph's method
    with its exact adjoint (`RayTransform`, which says what memory it takes). The guess is `fbp`.

    Args:
        angles: radians; a half turn [0, pi) sees everything.
        size: of the images, pixels: one number, or (h, w).
        detector: how many bins; None takes what sees the whole image.
        spacing: between bins, pixels.

    Raises:
        ValueError: for no angles, or sizes that are not positive; when called, for images of another size.

    Source: arXiv 2211.07804, reconstruction (A = Radon); Kak and Slaney 1988, chapter 3.

    >>> a = Radon([0.0], 4)
    >>> a(torch.ones(1, 1, 4, 4))[0, 0, 0].tolist()
    [0.0, 4.0, 4.0, 4.0, 4.0, 0.0]
    """

    angles: Tensor

    def __init__(
        self,
        angles: Tensor | Sequence[float],
        size: int | Sequence[int],
        detector: int | None = None,
        *,
        spacing: float | int = 1.0,
    ) -> None:
        h, w = need_size(size, "Radon")
        theta = need_angles(angles, "Radon")
        if not 0 < spacing < math.inf or (detector is not None and detector < 1):
            raise ValueError(f"Radon got detector={detector}, spacing={spacing}; expected both positive")
        if detector is None:
            detector = math.ceil(math.hypot(h, w) / spacing)
            detector += (detector - w) % 2 if spacing == 1 else 0  # so that bins meet columns
        place = (torch.arange(detector, dtype=torch.float64) - (detector - 1) / 2) * spacing
        normal = torch.stack([theta.cos(), theta.sin()], 1)
        along = torch.stack([-theta.sin(), theta.cos()], 1)
        super().__init__(place[None, :, None] * normal[:, None], along[:, None].expand(len(theta), detector, 2), (h, w))
        self.spacing = spacing
        self.register_buffer("angles", theta, persistent=False)

    @classmethod
    def sparse(cls, count: int, size: int | Sequence[int], detector: int | None = None) -> Radon:
        """`count` angles, evenly over the half turn: sparse-view CT where they are few."""
        return cls(_even(count, 0.0, 180.0), size, detector)

    @classmethod
    def limited(
        cls, count: int, size: int | Sequence[int], start: float | int, span: float | int, detector: int | None = None
    ) -> Radon:
        """`count` angles, evenly over [start, start + span) degrees, span < 180: limited-angle CT."""
        if not 0 < span < 180:
            raise ValueError(f"Radon.limited got span={span}; expected degrees above 0 and below 180, which sees all")
        return cls(_even(count, start, span), size, detector)

    def fbp(
        self, y: Float[Tensor, "b c views bins"], window: Literal["ramp", "hann"] = "ramp"
    ) -> Float[Tensor, "b c h w"]:
        """Filtered back-projection: sum over angles of dtheta (ramp * y)(x cos + y sin), linear between bins.

        Args:
            y: (b, c, angles, bins).
            window: "ramp" (Ram-Lak), or "hann", smoother.
        """
        self._need_views(y)
        need_window(window)
        x, up = self._pixels()
        theta = self.angles.double()
        places = (theta.cos()[:, None] * x + theta.sin()[:, None] * up) / self.spacing + (self.bins - 1) / 2
        shares = angle_shares(theta, math.pi)[:, None].expand_as(places)
        return self._interpolated(ramp_filtered(y, self.spacing, window == "hann"), places, shares)

    def guess(self, y: Float[Tensor, "b c views bins"]) -> Float[Tensor, "b c h w"]:
        """Filtered back-projection."""
        return self.fbp(y)


def need_window(window: str) -> None:
    """Raise ValueError unless the window is known."""
    if window not in ("ramp", "hann"):
        raise ValueError(f"filtered back-projection got window={window!r}; choose ramp or hann")


def _even(count: int, start: float | int, span: float | int) -> Tensor:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"Radon got {count!r} angles; expected a whole number >= 1")
    return torch.deg2rad(start + span * torch.arange(count, dtype=torch.float64) / count)
