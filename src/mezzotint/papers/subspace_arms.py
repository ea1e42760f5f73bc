"""What the demonstration of subspaces trains and draws: a union of subspaces, and discs whose factors are known."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mezzotint.core import VE, VP, Condition, EDMDenoiser, LowRankMixture, Noise, VDenoiser, fold, karras
from mezzotint.core.denoiser import NetworkDenoiser
from mezzotint.data import indices
from mezzotint.interpret import balanced, novelty
from mezzotint.nn import UNet, sinusoidal
from mezzotint.objective import Batch, Denoise, EDMWeight, LogNormalSigma
from mezzotint.papers.trained import trained
from mezzotint.sample import DPMSolverPP

__all__ = ["FACTORS", "drawn_discs", "explained", "factors", "judged_union", "train_discs"]

SIDE = 16
FACTORS = {"colour": (0, 3), "size": (3, 4), "position": (4, 6)}  # columns of each group
_LOW, _HIGH = (0.0, 0.0, 0.0, 2.5, 5.0, 5.0), (1.0, 1.0, 1.0, 5.0, 10.0, 10.0)
_GROUND, _EDGE = -0.6, 0.7  # of the picture; of the disc's edge, pixels


class _MLP(nn.Module):
    """Residual blocks over n numbers, told the time; 0.3 million parameters at n = 48."""

    def __init__(self, n: int, width: int = 256, depth: int = 3) -> None:
        super().__init__()
        self.width = width
        self.enter, self.leave = nn.Linear(n, width), nn.Linear(width, n)
        self.told = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])

    def forward(self, x: Tensor, time: Tensor, c: Condition | None = None) -> Tensor:
        h = self.enter(x) + self.told(sinusoidal(100 * time, 64))
        for block in self.blocks:
            h = h + block(nn.functional.silu(h))
        return self.leave(nn.functional.silu(h))


def judged_union(seed: int, d: int, ratio: int, seconds: float, count: int) -> tuple[float, float]:
    """Train on two subspaces of d dimensions, `ratio` d samples of each; what the net makes.

    Returns:
        the share of new samples (`novelty`), and their mean distance from the union over their length: far from it
        "new" means nothing.
    """
    mix = LowRankMixture.orthogonal(48, d, 2, seed=fold(seed, "union", d))
    x, fresh = (balanced(mix, n, fold(seed, name, d)) for name, n in (("samples", d * ratio), ("fresh", count // 2)))
    made = _generated(_train_union(x, seconds, seed), 48, count, seed).double()
    off = torch.stack([(made - made @ u @ u.T).norm(dim=1) for u in mix.bases]).amin(0)
    return novelty(made, x, fresh), float((off / made.norm(dim=1)).mean())


def _train_union(x: Tensor, seconds: float, seed: int) -> EDMDenoiser:
    """EDM's preconditioning and loss on samples (N, n), without augmentation, for processor seconds."""
    objective = Denoise("x0", LogNormalSigma(-1.2, 1.2), EDMWeight(0.5), drop=0.0)
    data = x.float()
    return trained(lambda: EDMDenoiser(_MLP(x.shape[1]), VE(0.002, 80.0)), objective,
                   lambda k: Batch(data[indices(seed, k, 128, len(data))]), seconds=seconds, seed=seed,
                   lr=1e-3)  # fmt: skip


@torch.no_grad()
def _generated(d: NetworkDenoiser, n: int, count: int, seed: int, steps: int = 18) -> Tensor:
    """Samples, (count, n)."""
    start = 80.0 * Noise([fold(seed, "start", i) for i in range(count)])("x_T", 0, (n,))
    return DPMSolverPP(order=2)(d, start, steps=steps, grid=karras)


def factors(seed: int, count: int, split: str) -> Tensor:
    """Colour (3), radius, column, row of a disc, uniform; (count, 6) float64."""
    u = Noise([fold(seed, split, i) for i in range(count)]).uniform("factors", 0, (6,), dtype=torch.float64)
    low, high = (torch.tensor(v, dtype=torch.float64) for v in (_LOW, _HIGH))
    return low + (high - low) * u


def drawn_discs(f: Tensor) -> Tensor:
    """A disc with a soft edge on a plain ground, (count, 3, 16, 16) in [-1, 1], differentiable in f (count, 6)."""
    place = torch.arange(SIDE, dtype=f.dtype)
    dx, dy = place - f[:, 4, None, None], place[:, None] - f[:, 5, None, None]
    inside = ((f[:, 3, None, None] - (dx**2 + dy**2 + 1e-6).sqrt()) / _EDGE).sigmoid()[:, None]
    return _GROUND + inside * (f[:, :3, None, None] - _GROUND)


def train_discs(seconds: float, seed: int) -> VDenoiser:
    """A small UNet on 4096 discs, for processor seconds."""
    data = drawn_discs(factors(seed, 4096, "train")).float()
    return trained(lambda: VDenoiser(UNet(3, channels=32, mult=(1, 2), blocks=1, attention=(2,)), VP()),
                   Denoise("v", drop=0.0), lambda k: Batch(data[indices(seed, k, 32, len(data))]),
                   seconds=seconds, seed=seed, lr=1e-3)  # fmt: skip


def explained(change: Tensor, f: Tensor) -> Tensor:
    """R^2 of each picture's change by the best single factor: its share in the span of the factor's derivatives.

    Args:
        change: (b, 3, 16, 16).
        f: (b, 6) of the pictures.

    Returns:
        (b,) in [0, 1].
    """
    rows = []
    for one, moved in zip(f, change.double().flatten(1), strict=True):
        slope = cast(Tensor, torch.autograd.functional.jacobian(lambda q: drawn_discs(q[None])[0].flatten(), one))
        spans = [torch.linalg.qr(slope[:, a:b])[0] for a, b in FACTORS.values()]
        rows.append(torch.stack([(q.T @ moved).square().sum() for q in spans]).max() / moved.square().sum())
    return torch.stack(rows)
