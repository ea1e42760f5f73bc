"""A radiance field made of lines of pixels: features of each view, where a point falls in it, and a small network."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mezzotint.core.condition import Condition
from mezzotint.nn.embed import sinusoidal
from mezzotint.restore.forward_model.render import VolumeRender2D

__all__ = ["FlatlandNet", "LineNet", "PixelField"]

_OCTAVES, _BASE = 6, 1.5  # of the positional code, as in the source


class LineNet(nn.Module):
    """Lines (b, c, w) and a time (b,) in [0, 1] to features (b, f, w): residual convolutions over the whole line.

    Args:
        channels: c.
        width: f.
        blocks: of two convolutions; each sees twice as far as the one before.
        out: channels of the result; None: f.
    """

    def __init__(self, channels: int, width: int = 48, blocks: int = 5, out: int | None = None) -> None:
        super().__init__()
        self.inner = nn.Conv1d(channels, width, 5, padding=2)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.first = nn.ModuleList([nn.Conv1d(width, width, 3, padding=2**i, dilation=2**i) for i in range(blocks)])
        self.second = nn.ModuleList([nn.Conv1d(width, width, 1) for _ in range(blocks)])
        self.scales = nn.ModuleList([nn.Linear(width, 2 * width) for _ in range(blocks)])
        self.outer = nn.Conv1d(width, out or width, 1)

    def forward(self, x: Float[Tensor, "b c w"], t: Float[Tensor, " b"]) -> Float[Tensor, "b f w"]:
        """The features."""
        h, told = self.inner(x), self.time(sinusoidal(1000 * t, self.inner.out_channels).to(x.dtype))
        for first, second, scales in zip(self.first, self.second, self.scales, strict=True):
            scale, shift = scales(told)[..., None].chunk(2, 1)
            normed = F.group_norm(h, 4) * (1 + scale) + shift
            h = h + second(F.silu(first(F.silu(normed))))
        return self.outer(F.silu(F.group_norm(h, 4)))


class PixelField(nn.Module):
    """points -> density and colour, from the features of one or several views.

    A point is projected into each view; the view's features there (linear between pixels, the border's beyond) and a
    code of the point in the camera's frame pass two layers, are averaged over the views, and pass two more. No view
    direction. Density by softplus (the source: ReLU, which may die in so small a network), colour by tanh.

    Args:
        camera: where views are taken.
        features: of a view.
        width: of the layers.

    Source: arXiv 2306.11719, section 4.1 and released code, in the plane and smaller.
    """

    def __init__(self, camera: VolumeRender2D, features: int, width: int = 64) -> None:
        super().__init__()
        self.camera = camera
        self.own = nn.Sequential(
            nn.Linear(features + 2 + 4 * _OCTAVES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.joint = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 4))

    def of(self, features: Float[Tensor, "b v f w"], phis: Float[Tensor, "b v"]) -> _Bound:
        """The field of these views."""
        return _Bound(self, features, phis)

    def forward(
        self, points: Float[Tensor, "b n 2"], features: Float[Tensor, "b v f w"], phis: Float[Tensor, "b v"]
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n 3"]]:
        """Density (per unit length) and colour in [-1, 1]."""
        b, v, f, w = features.shape
        n = points.shape[1]
        across, ahead = self.camera.project(points[:, None].expand(b, v, n, 2).reshape(b * v, n, 2), phis.reshape(-1))
        places = torch.stack([across.clamp(-1, 1), torch.zeros_like(across)], -1)[:, None]
        lines = features.reshape(b * v, f, 1, w)
        here = F.grid_sample(lines, places, padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)
        local = torch.stack([across, ahead - self.camera.radius], -1)
        rates = math.pi * _BASE ** torch.arange(_OCTAVES, device=points.device, dtype=points.dtype)
        angles = (local[..., None] * rates).flatten(-2)
        code = torch.cat([here, local, angles.sin(), angles.cos()], -1)
        out = self.joint(self.own(code).view(b, v, n, -1).mean(1))
        return F.softplus(out[..., 0]), out[..., 1:].tanh()


class _Bound:
    """A field with its features: what a forward model renders."""

    def __init__(self, net: PixelField, features: Tensor, phis: Tensor, conditioning: Tensor | None = None) -> None:
        self.net, self.features, self.phis, self.conditioning = net, features, phis, conditioning

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(points, self.features, self.phis)


class FlatlandNet(nn.Module):
    """The signal network of the plane: (y_t, t, c) -> a field that explains the context and the noisy target.

    One encoder reads the context (at time 0) and the target; each has its own first layer. The target's input is y_t
    and what a field of the context alone shows at its place, `conditioning`, which the objective also compares with y.

    Args:
        camera: where views are taken; c holds "context" (b, 3, w), "context_phi" (b,) and "phi" (b,).
        features: of a view.
        target: False leaves y_t out: a deterministic field of the context, the baseline.

    Source: arXiv 2306.11719, section 4.1 and released code; sizes are our choice.
    """

    def __init__(self, camera: VolumeRender2D, features: int = 48, target: bool = True) -> None:
        super().__init__()
        self.camera, self.target = camera, target
        self.context_in = nn.Conv1d(3, 16, 1)
        self.encoder = LineNet(16, features)
        self.first = PixelField(camera, features)
        if target:
            self.target_in = nn.Conv1d(6, 16, 1)
            self.second = PixelField(camera, features)

    def forward(self, y_t: Float[Tensor, "b 3 w"], t: Float[Tensor, " b"], c: Condition | None = None) -> _Bound:
        """The field, with its `conditioning`."""
        assert c is not None
        seen = self.encoder(self.context_in(c["context"]), torch.zeros_like(t))
        phis = c["context_phi"][:, None]
        alone = self.first.of(seen[:, None], phis)
        if not self.target:
            return alone
        conditioning = self.camera(alone, c["phi"])
        noisy = self.encoder(self.target_in(torch.cat([y_t, conditioning], 1)), t)
        both = torch.cat([phis, c["phi"][:, None]], 1)
        return _Bound(self.second, torch.stack([seen, noisy], 1), both, conditioning)
