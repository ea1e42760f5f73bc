"""Fan-beam tomography: all rays of a view leave one source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mezzotint.restore.operators.radon import need_angles, need_size, need_window
from mezzotint.restore.operators.rays import RayTransform, angle_shares, ramp_filtered

__all__ = ["FanBeam"]


class FanBeam(RayTransform):
    """y(beta, s) = integral of x along the ray from the source through the point s (cos beta, sin beta).

    The source stands at distance D from the centre, at -D (-sin beta, cos beta); the detector is flat and its bins
    are counted where it is drawn through the centre (a real one at a distance L from the source has bins L / D times
    as wide). As D grows it becomes `Radon`. Units, images and adjoint are those of `Radon`; the guess is `fbp`.

    Args:
        angles: radians; a full turn [0, 2 pi) sees everything.
        size: of the images, pixels: one number, or (h, w).
        source: D in pixels, above half the image's diagonal; None takes twice the diagonal.
        detector: how many bins; None takes what sees the whole image.
        spacing: between bins at the centre, pixels.

    Raises:
        ValueError: for no angles, sizes that are not positive or a source inside the image; when called, for images
            of another size.

    Source: arXiv 2211.07804, reconstruction (A = fan); Kak and Slaney 1988, section 3.4.2 (equispaced detectors).

    >>> FanBeam([0.0], 4, source=1e6)(torch.ones(1, 1, 4, 4))[0, 0, 0].round(decimals=3).tolist()
    [0.0, 4.0, 4.0, 4.0, 4.0, 0.0]
    """

    angles: Tensor

    def __init__(
        self,
        angles: Tensor | Sequence[float],
        size: int | Sequence[int],
        source: float | int | None = None,
        detector: int | None = None,
        *,
        spacing: float | int = 1.0,
    ) -> None:
        h, w = need_size(size, "FanBeam")
        beta = need_angles(angles, "FanBeam")
        reach = math.hypot(h, w) / 2
        source = 4 * reach if source is None else float(source)
        if not reach < source < math.inf:
            raise ValueError(
                f"FanBeam got source={source:g}; expected pixels, above half the image's diagonal, {reach:.1f}"
            )
        if not 0 < spacing < math.inf or (detector is not None and detector < 1):
            raise ValueError(f"FanBeam got detector={detector}, spacing={spacing}; expected both positive")
        if detector is None:
            half = source * reach / math.sqrt(source**2 - reach**2)
            detector = math.ceil(2 * half / spacing - 1e-6)
            detector += (detector - w) % 2 if spacing == 1 else 0
        place = (torch.arange(detector, dtype=torch.float64) - (detector - 1) / 2) * spacing
        normal = torch.stack([beta.cos(), beta.sin()], 1)[:, None]
        along = torch.stack([-beta.sin(), beta.cos()], 1)[:, None]
        points = place[None, :, None] * normal
        rays = points + source * along
        super().__init__(points, rays / rays.norm(dim=-1, keepdim=True), (h, w))
        self.source, self.spacing = source, spacing
        self.register_buffer("angles", beta, persistent=False)

    @classmethod
    def sparse(cls, count: int, size: int | Sequence[int], source: float | int | None = None) -> FanBeam:
        """`count` angles, evenly over the full turn."""
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ValueError(f"FanBeam got {count!r} angles; expected a whole number >= 1")
        return cls(2 * math.pi * torch.arange(count, dtype=torch.float64) / count, size, source)

    def fbp(
        self, y: Float[Tensor, "b c views bins"], window: Literal["ramp", "hann"] = "ramp"
    ) -> Float[Tensor, "b c h w"]:
        """Filtered back-projection for flat equispaced bins over a full turn.

            x(p) = 1/2 sum dbeta U^-2 (ramp * (D / sqrt(D^2 + s^2) y))(p . n / U),   U = 1 + p . d / D

        n = (cos beta, sin beta), d = (-sin beta, cos beta). Over less than a turn it is only a first guess (rays that
        are seen twice are not weighted).

        Args:
            y: (b, c, angles, bins).
            window: "ramp" (Ram-Lak), or "hann", smoother.
        """
        self._need_views(y)
        need_window(window)
        place = (torch.arange(self.bins, device=y.device, dtype=torch.float64) - (self.bins - 1) / 2) * self.spacing
        slant = self.source / (self.source**2 + place**2).sqrt()
        q = ramp_filtered(y * slant.to(y), self.spacing, window == "hann")
        x, up = self._pixels()
        beta = self.angles.double()
        c, s = beta.cos()[:, None], beta.sin()[:, None]
        u = 1 + (c * up - s * x) / self.source
        places = (c * x + s * up) / u / self.spacing + (self.bins - 1) / 2
        shares = angle_shares(beta, 2 * math.pi)[:, None] / (2 * u**2)
        return self._interpolated(q, places, shares)

    def guess(self, y: Float[Tensor, "b c views bins"]) -> Float[Tensor, "b c h w"]:
        """Filtered back-projection."""
        return self.fbp(y)
