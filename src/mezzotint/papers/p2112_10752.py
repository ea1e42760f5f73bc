"""2112.10752, High-Resolution Image Synthesis with Latent Diffusion Models: demonstrations A and B of the sheet.

The same UNet is trained for the same computing time in pixel space (f = 1) and in the latent spaces of autoencoders
of factor f = 2, 4, 8, on procedural 32x32 scenes; and once more at f = 4 with latents of standard deviation 5.
Budgets are processor seconds of one thread, so that another load on the machine cannot favour a side; f = 4 was named
as ours before any run. Our choices: the scenes, the sizes, the feature network (trained on the scenes' labels).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mezzotint.core import Discrete, EpsDenoiser, Noise, fold
from mezzotint.data import ArraySource, Scenes, indices
from mezzotint.latent import Autoencoder, AutoencoderKL, Identity
from mezzotint.metric import FeatureNet, frechet_distance
from mezzotint.metric.train_classifier import train as train_features
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise
from mezzotint.objective.autoencode import PlainAutoencode
from mezzotint.papers.interval import paired_interval
from mezzotint.papers.ledger import LedgerEntry, strongest_verdict
from mezzotint.papers.setting import hardware, one_thread, versions
from mezzotint.sample import DPMSolverPP
from mezzotint.train import AutoencodingTask, DenoisingTask, Single, Task, fit

PAPER, CHANNELS, SEEDS, NFE = "2112.10752", {2: 4, 4: 4, 8: 8}, 3, 10


@dataclass(frozen=True)
class Budget:
    """Scenes; steps of the feature network; processor seconds of an autoencoder and of a UNet; samples compared."""

    scenes: int
    feature_steps: int
    autoencoder: float
    unet: float
    samples: int


QUICK, FULL = Budget(1500, 60, 5.0, 4.0, 128), Budget(8000, 500, 40.0, 45.0, 800)


def demonstrate(
    *, quick: bool, seed: int, device: str, out: Path | None, say: Callable[[str], None]
) -> list[LedgerEntry]:
    """Run A and B and state what they showed."""
    if device not in ("cpu", "auto"):
        raise ValueError(f"this demonstration counts processor seconds and runs on the cpu, not on {device!r}")
    begun, budget = time.monotonic(), QUICK if quick else FULL
    with one_thread():
        scenes = Scenes(32, budget.scenes, seed=seed)
        features = train_features(scenes, scenes.attributes[:, 0], (6, 8, 3), steps=budget.feature_steps, size=32)
        spaces: dict[str, Autoencoder] = {"f=1": Identity(3)}
        for f in CHANNELS:
            spaces[f"f={f}"] = _autoencoder(f, scenes, budget, seed)
        coarse = spaces["f=4 unscaled"] = deepcopy(spaces["f=4"])
        coarse.spec = replace(coarse.spec, std=tuple(s / 5 for s in coarse.spec.std))  # latents of std 5
        real = _features(features, scenes, budget.samples)
        floor = {k: frechet_distance(_features(features, scenes, budget.samples, ae), real) for k, ae in spaces.items()}
        distance: dict[str, list[float]] = {k: [] for k in spaces}
        speed: dict[str, list[float]] = {k: [] for k in spaces}
        for trial in range(seed, seed + SEEDS):
            for name, autoencoder in spaces.items():
                made, rate = _train_and_sample(autoencoder, scenes, budget, trial)
                distance[name].append(frechet_distance(features.features(made), real))
                speed[name].append(rate)
                say(f"seed {trial} {name}: Frechet distance {distance[name][-1]:.4g}, {rate:.1f} samples/s")
    mean = {k: sum(v) / SEEDS for k, v in distance.items()}
    facts = "; ".join(f"{k}: FD {v:.4g}, of it reconstruction {floor[k]:.3g}" for k, v in mean.items())
    fd, rate = ("Frechet distance on features of a classifier", "1"), ("throughput", "samples/s")
    table = [
        ("A: at equal training compute f=4 beats pixels by at least 1.3x", fd, distance, "f=1", 1.3),
        ("A: at equal NFE f=4 samples at least 3x faster than pixels", rate, speed, "f=1", 3.0),
        ("A: at equal training compute f=4 beats f=8", fd, distance, "f=8", 1.0),
        ("B: latents of unit std beat latents of std 5 by at least 1.2x", fd, distance, "f=4 unscaled", 1.2),
    ]
    recipe, seconds = f"mezzotint reproduce {PAPER}{' --quick' if quick else ''}", time.monotonic() - begun
    seeds, entries = tuple(range(seed, seed + SEEDS)), []
    for claim, (measure, unit), values, other, factor in table:
        ours, baseline = values["f=4"], values[other]
        better = sum(baseline) / sum(ours) if values is distance else sum(ours) / sum(baseline)
        draft = LedgerEntry(
            paper=PAPER, claim=claim, measure=measure, unit=unit, baseline=sum(baseline) / SEEDS,
            ours=sum(ours) / SEEDS, direction="lower" if values is distance else "higher", seeds=seeds,
            interval=paired_interval(ours, baseline), holds=better >= factor, verdict="not shown",
            scale="cpu-small", hardware=hardware(device), seconds=round(seconds, 1), versions=versions(), recipe=recipe,
            notes=f"{better:.3g}x, {factor:g}x needed. {facts}. {budget}, {NFE} steps; one thread, "
            "autoencoders trained once, 32x32 scenes: far below the paper's scale.",
        )  # fmt: skip
        entries.append(replace(draft, verdict=strongest_verdict(draft)))
    return entries


def _fit(task: Task, batches: Callable[[int], Batch], seed: int, seconds: float) -> None:
    end, most = time.process_time() + seconds, 10**6
    with tempfile.TemporaryDirectory() as out:
        fit(task, batches, steps=most, seed=seed, out=out, engine=Single("cpu"), save_every=most,
            stop=lambda: time.process_time() > end)  # fmt: skip


def _autoencoder(f: int, scenes: ArraySource, budget: Budget, seed: int) -> Autoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, "autoencoder", f))
        mult = (1,) * (f.bit_length() - 1)
        net = AutoencoderKL(channels=32, mult=mult, blocks=1, latent=CHANNELS[f], patch=2)
        task = AutoencodingTask(net, PlainAutoencode(kl_weight=1e-3), lr=2e-3)
    _fit(task, lambda s: Batch(scenes.batch(indices(seed, s, 32, len(scenes)))[0]), seed, budget.autoencoder)
    net.eval().fit_statistics(scenes.batch(range(i, i + 256))[0] for i in range(0, 1024, 256))
    return net


@torch.no_grad()
def _features(net: FeatureNet, scenes: ArraySource, count: int, through: Autoencoder | None = None) -> Tensor:
    """Features of the last (plain) or first (reconstructed) `count` scenes: disjoint ones."""
    start = 0 if through else max(len(scenes) - count, 0)
    x = scenes.batch(range(start, min(start + count, len(scenes))))[0]
    return torch.cat([net.features(part if through is None else through(part).clamp(-1, 1)) for part in x.split(256)])


def _train_and_sample(autoencoder: Autoencoder, scenes: ArraySource, budget: Budget, seed: int) -> tuple[Tensor, float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(seed, "unet"))
        net = UNet(autoencoder.spec.channels, channels=32, mult=(1, 2), blocks=1)
        task = DenoisingTask(EpsDenoiser(net, Discrete.scaled_linear(1000, 0.0015, 0.0195)), Denoise("eps", drop=0.0),
                             lr=1e-3, ema=0.99)  # fmt: skip
    with torch.no_grad():
        chunks = [range(i, min(i + 256, len(scenes))) for i in range(0, len(scenes), 256)]
        z = torch.cat([autoencoder.encode(scenes.batch(rows)[0], Noise(rows)) for rows in chunks])
    _fit(task, lambda s: Batch(z[indices(seed, s, 64, len(z))]), seed, budget.unet)
    task.ema["denoiser"].copy_to_module()
    task.modules.eval()
    images, begun = [], time.process_time()
    with torch.no_grad():
        for start in range(0, budget.samples, 64):
            seeds = [fold(seed, "sample", i) for i in range(start, min(start + 64, budget.samples))]
            x_T = Noise(seeds)("x_T", 0, z.shape[1:])
            images.append(autoencoder.decode(DPMSolverPP(order=2)(task.denoiser, x_T, steps=NFE)).clamp(-1, 1))
    return torch.cat(images), budget.samples / (time.process_time() - begun)
