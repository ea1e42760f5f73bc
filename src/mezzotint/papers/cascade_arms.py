"""One model, one model of two resolutions, and two models: trained for equal processor seconds, sampled alike."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mezzotint.core import (
    VE,
    AveragePool,
    Denoiser,
    EDMDenoiser,
    LevelDenoisers,
    MultiResDenoiser,
    Noise,
    ResolutionPyramid,
    fold,
)
from mezzotint.data import indices
from mezzotint.nn import MultiResNetwork, UNet
from mezzotint.objective import Batch, CascadeObjective, Corruption
from mezzotint.sample import CascadeSampler
from mezzotint.sample.cascade import level_noise
from mezzotint.train import DenoisingTask, Single, fit

__all__ = ["CascadeArms", "Made", "between"]

_MOST, _BATCH = 10**6, 64


@dataclass(frozen=True)
class Made:
    """Samples, what the lowest level was (in data units), and images a processor second."""

    x: Tensor
    low: Tensor
    rate: float

    def consistency(self) -> float:
        """Root mean square of pool(x) - low, before clamping to [-1, 1]; 0 where there is one level."""
        pooled = AveragePool(self.x.shape[2] // self.low.shape[2])(self.x)
        return float((pooled - self.low).square().mean().sqrt())


@dataclass(frozen=True)
class CascadeArms:
    """What the models of one seed share: data, order, noise, seconds.

    Args:
        x: clean images of the higher level, (n, 3, h, h).
        seed: of weights, order and noise.
        seconds: processor seconds of training, of an arm.
        channels: of the UNet; the two networks of the classic cascade have 0.7 times as many, half the parameters.
    """

    x: Tensor
    seed: int
    seconds: float
    channels: int = 24

    def single(self) -> MultiResDenoiser:
        """One level."""
        return self._trained(self._pyramid(1), (1.0,), self.seconds, self.channels)

    def unified(self, *, corrupted: bool = True) -> MultiResDenoiser:
        """Both levels in one network, with or without corruption of the condition."""
        corruption = Corruption() if corrupted else None
        return self._trained(self._pyramid(2), (0.3, 0.7), self.seconds, self.channels, corruption)

    def separate(self) -> LevelDenoisers:
        """A network of half the size for each level, with 0.3 and 0.7 of the seconds."""
        half, pyramid = round(0.7 * self.channels / 2) * 2, self._pyramid(2)
        shares: list[tuple[tuple[float, float], float]] = [((1.0, 0.0), 0.3), ((0.0, 1.0), 0.7)]
        return LevelDenoisers([self._trained(pyramid, q, part * self.seconds, half) for q, part in shares])

    @torch.no_grad()
    def made(self, d: Denoiser, sampler: CascadeSampler, count: int) -> Made:
        """`count` samples, 64 at a time, by equal seeds for every model and sampler."""
        begun, parts = time.process_time(), []
        for noise in self._noises(count):
            out = sampler(d, self.x.shape[1:], noise)
            parts.append((out.x, out.previews[0]))
        rate = count / (time.process_time() - begun)
        x, low = (torch.cat(list(values)) for values in zip(*parts))
        return Made(x, low, rate)

    @torch.no_grad()
    def upper(self, d: MultiResDenoiser, sampler: CascadeSampler, low: Tensor | None, count: int) -> Made:
        """The higher level alone, told of other low images (in data units), or of none."""
        begun, parts = time.process_time(), []
        for start, noise in zip(range(0, count, _BATCH), self._noises(count)):
            drawn, told, extra = level_noise(noise, 1), None, None
            if low is not None:
                told = low[start : start + _BATCH] / d.pyramid.scales[0]
                extra = drawn("aug", 0, told.shape[1:])
            x = sampler.level(d, 1, drawn("x_T", 0, self.x.shape[1:]), low=told, extra=extra, noise=drawn)
            parts.append(d.pyramid.data(x, 1))
        x = torch.cat(parts)
        return Made(x, x if low is None else low, count / (time.process_time() - begun))

    def _noises(self, count: int) -> list[Noise]:
        rows = (range(start, min(start + _BATCH, count)) for start in range(0, count, _BATCH))
        return [Noise([fold(self.seed, "sample", i) for i in part]) for part in rows]

    def _pyramid(self, levels: int) -> ResolutionPyramid:
        side = self.x.shape[2]
        return ResolutionPyramid.measured(self.x.split(512), (side // 2, side)[-levels:])

    def _trained(
        self,
        pyramid: ResolutionPyramid,
        q: tuple[float, ...],
        seconds: float,
        channels: int,
        corruption: Corruption | None = Corruption(),  # noqa: B008 (frozen)
    ) -> MultiResDenoiser:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold(self.seed, "net"))
            net = MultiResNetwork(UNet(3, channels=channels, mult=(1, 2), blocks=1), pyramid.levels)
        d = MultiResDenoiser(EDMDenoiser(net, VE()), pyramid)
        task = DenoisingTask(d, CascadeObjective(q, corruption=corruption), lr=1e-3, ema=0.99)
        end = time.process_time() + seconds
        with tempfile.TemporaryDirectory() as out:
            fit(task, self._batch, steps=_MOST, seed=self.seed, out=out, engine=Single("cpu"), save_every=_MOST,
                stop=lambda: time.process_time() > end)  # fmt: skip
        task.ema["denoiser"].copy_to_module()
        return d.eval()

    def _batch(self, step: int) -> Batch:
        return Batch(self.x[indices(self.seed, step, _BATCH, len(self.x))])


def between(places: Sequence[float], values: Sequence[float], at: float) -> float:
    """A curve of positive numbers read at a place: lines in the logarithms, its ends held beyond them.

    >>> between([1.0, 4.0], [1.0, 4.0], 2.0)
    2.0
    """
    pairs = sorted(zip(places, values))
    if at <= pairs[0][0]:
        return pairs[0][1]
    for (a, p), (b, q) in zip(pairs, pairs[1:]):
        if at <= b:
            share = math.log(at / a) / math.log(b / a)
            return math.exp((1 - share) * math.log(p) + share * math.log(q))
    return pairs[-1][1]
