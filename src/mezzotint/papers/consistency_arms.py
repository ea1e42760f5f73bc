"""iCT and its improvements one by one, and a diffusion model of the same network, trained and measured alike."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mezzotint import objective as o
from mezzotint.core import VE, BoundaryDenoiser, Noise, at_sigmas, fold, karras
from mezzotint.data import indices
from mezzotint.nn import UNet, without_gains
from mezzotint.sample import Consistency, Heun, Sampler
from mezzotint.train import DenoisingTask, Single, fit

__all__ = ["Arm", "arms", "images_of", "trained"]

TWO, HEUN = [80.0, 1.0], 50


@dataclass(frozen=True)
class Arm:
    """What is trained: an objective, and whether the network's norms keep their gains."""

    objective: o.Objective | o.Scheduled
    gains: bool = True


def arms(steps: int, s1: int) -> dict[str, Arm]:
    """Each adds one part of arXiv 2502.01441 to the one before; `steps` is the length of the training."""
    huber = o.ConsistencyTraining(o.Doubling(steps, 10, s1))
    cauchy = replace(huber, loss=o.Cauchy())
    anchor = replace(cauchy, extra=(o.DiffusionAnchor(),))
    coupled = replace(anchor, coupling=o.OptimalTransport())
    adaptive = replace(coupled, scale=o.AdaptiveScale())
    diffusion = o.Denoise("x0", times=o.LogNormalSigma(), weight=o.EDMWeight(0.5), drop=0.0)
    named = {"Huber": huber, "Cauchy": cauchy, "+ anchor": anchor, "+ OT": coupled, "+ adaptive c": adaptive}
    made = {name: Arm(objective) for name, objective in named.items()}
    return {**made, "+ NsLN": Arm(adaptive, gains=False), "diffusion": Arm(diffusion)}


def trained(
    arm: Arm, z: Tensor, *, steps: int, batch: int, seed: int, seconds: float | None = None
) -> tuple[BoundaryDenoiser, float, int]:
    """Train a UNet of 0.7 million parameters on latents z, for `steps`, or for so many processor seconds.

    RAdam at 1e-3 with weight decay 1e-4, no clipping. Equal seeds have equal weights, order and noise.

    Returns:
        The averaged weights (decay 0.99) in eval mode, the processor seconds and the steps.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, "net"))
        net = UNet(z.shape[1], channels=32, mult=(1, 2), blocks=1)
        d = BoundaryDenoiser(net if arm.gains else without_gains(net), VE())
        task = DenoisingTask(d, arm.objective, clip=None, ema=0.99)
    task.optimisers["denoiser"] = torch.optim.RAdam(d.parameters(), lr=1e-3, weight_decay=1e-4, foreach=True)
    begun, most = time.process_time(), steps if seconds is None else 10**6
    with tempfile.TemporaryDirectory() as folder:
        report = fit(
            task,
            lambda step: o.Batch(z[indices(seed, step, batch, len(z))]),
            steps=most,
            seed=seed,
            out=folder,
            engine=Single("cpu"),
            save_every=most,
            stop=lambda: seconds is not None and time.process_time() > begun + seconds,
        )
    spent = time.process_time() - begun
    task.ema["denoiser"].copy_to_module()
    d.eval()
    return d, spent, report.step


@torch.no_grad()
def images_of(
    d: BoundaryDenoiser, nfe: int, decode: Callable[[Tensor], Tensor], shape: tuple[int, ...], count: int, seed: int
) -> Tensor:
    """Decoded samples: 1 or 2 evaluations of a consistency function (at 80, then at 1); more are 50 steps of Heun."""
    sampler: Sampler = Consistency() if nfe <= len(TWO) else Heun()
    steps, grid = (nfe, at_sigmas(TWO[:nfe])) if nfe <= len(TWO) else (HEUN, karras)
    made = []
    for start in range(0, count, 64):
        noise = Noise([fold(seed, "sample", i) for i in range(start, min(start + 64, count))])
        z = sampler(d, 80.0 * noise("x_T", 0, shape), steps=steps, grid=grid, noise=noise)
        made.append(decode(z).clamp(-1, 1))
    return torch.cat(made)
