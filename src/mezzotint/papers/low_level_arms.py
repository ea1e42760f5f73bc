"""Drawn digits for a survey's demonstration: how they are degraded, what is trained on them, how results are judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mezzotint.core import VP, Denoiser, EpsDenoiser, Flow, Noise, VDenoiser, X0Denoiser, fold
from mezzotint.data import indices
from mezzotint.metric import consistency, frechet_distance, psnr
from mezzotint.nn import UNet
from mezzotint.objective import Batch, Denoise, Objective
from mezzotint.objective.bridge import Bridge
from mezzotint.objective.degraded import Degraded, Regress
from mezzotint.papers.trained import trained
from mezzotint.restore.bridge import BridgeDenoiser, ResShift
from mezzotint.restore.measure import GaussianNoise, MeasurementNoise
from mezzotint.restore.operators import AveragePool, Blur, LinearOperator, Mask, random_pixels

__all__ = ["BLUR", "SIDE", "STD", "DigitArms", "EitherNoise", "Judge", "Seen", "digits", "operator"]

SIDE, STD, BLUR, _BATCH, _MOST, _REAL = 16, 0.05, 1.0, 32, 10**6, 1000
_ROWS = (  # ten digits, five columns and seven rows of dots
    "01110 10001 10011 10101 11001 10001 01110", "00100 01100 00100 00100 00100 00100 01110",
    "01110 10001 00001 00010 00100 01000 11111", "11111 00010 00100 00010 00001 10001 01110",
    "00010 00110 01010 10010 11111 00010 00010", "11111 10000 11110 00001 00001 10001 01110",
    "00110 01000 10000 11110 10001 10001 01110", "11111 00001 00010 00100 01000 01000 01000",
    "01110 10001 10001 01110 10001 10001 01110", "01110 10001 10001 01111 00001 00010 01100",
)  # fmt: skip
D = TypeVar("D", bound=Denoiser)


def digits(seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Dotted digits, turned, sheared, scaled and moved, in [-1, 1]: (n, 1, 16, 16), and which ones: (n,) int64."""
    dots = torch.tensor([[[float(q) for q in row] for row in rows.split()] for rows in _ROWS])
    shapes = F.pad(dots, (1, 1, 1, 1))[:, None].repeat_interleave(4, 2).repeat_interleave(4, 3)
    u = Noise(seeds).uniform("digit", 0, (7,))
    label = (10 * u[:, 0]).long()
    turn, wide, high = 0.7 * (u[:, 1] - 0.5), 1.0 + 0.5 * u[:, 2], 1.0 + 0.3 * u[:, 3]
    lean = 0.6 * (u[:, 4] - 0.5)
    cos, sin = turn.cos(), turn.sin()
    move = 0.3 * (u[:, 5:7] - 0.5)
    matrix = torch.stack([wide * cos, wide * (lean * cos - sin), move[:, 0], high * sin,
                          high * (lean * sin + cos), move[:, 1]], 1).view(-1, 2, 3)  # fmt: skip
    fine = F.affine_grid(matrix, [len(u), 1, 4 * SIDE, 4 * SIDE], align_corners=False)
    drawn = F.grid_sample(shapes[label], fine, align_corners=False)
    return 2 * F.avg_pool2d(drawn, 4) - 1, label


def operator(task: str, noise: Noise, wrong: float = 1.0) -> LinearOperator:
    """Of a batch: "sr2" (means of 2x2), "inpaint" (half of the pixels, others in each row), "blur" (Gaussian).

    Args:
        task: the name.
        noise: one seed a row.
        wrong: factor on the blur's width.
    """
    if task == "inpaint":
        return Mask(random_pixels(noise, SIDE, SIDE, 0.5))
    return AveragePool(2) if task == "sr2" else Blur.gaussian(BLUR * wrong, 9)


@dataclass(frozen=True, eq=False)
class EitherNoise(MeasurementNoise):
    """Gaussian noise on every other measurement, by its seed: what a network for both levels is trained on."""

    std: float = STD

    def __call__(self, y: Float[Tensor, "b *m"], noise: Noise) -> Float[Tensor, "b *m"]:
        """See MeasurementNoise."""
        noisy = noise.uniform("measure at all", 0, ()) < 0.5
        return torch.where(noisy.view(-1, *[1] * (y.ndim - 1)), GaussianNoise(self.std)(y, noise), y)

    def spread(self, y: Float[Tensor, "b *m"]) -> Float[Tensor, "b *m"]:
        """The root of the mean square."""
        return torch.full_like(y, self.std / math.sqrt(2))


@dataclass(frozen=True, eq=False)
class Seen:
    """Digits with their labels, and what is measured of them."""

    x: Tensor
    label: Tensor
    a: LinearOperator
    y: Tensor
    noise: Noise


@dataclass(frozen=True)
class DigitArms:
    """What the networks of one seed share: digits, order, processor seconds, and the size of the network.

    Args:
        seed: of digits, weights, order and noise.
        seconds: processor seconds of training, of an arm.
        pool: digits in the training set.
    """

    seed: int
    seconds: float
    pool: int

    def pictures(self, split: str, count: int) -> tuple[Tensor, Tensor]:
        """Digits of a split and their labels."""
        return digits([fold(self.seed, split, i) for i in range(count)])

    def seen(self, task: str, std: float, count: int) -> Seen:
        """Test digits, measured; the same digits, masks and draws for every task and noise."""
        noise = Noise([fold(self.seed, "noise", i) for i in range(count)])
        x, label = self.pictures("test", count)
        a = operator(task, noise)
        y = GaussianNoise(std)(a(x), noise)
        return Seen(x, label, a, a(y) if task == "inpaint" else y, noise)  # no noise where nothing is measured

    @cached_property
    def _train(self) -> tuple[Tensor, Tensor]:
        return self.pictures("train", self.pool)

    @property
    def data_std(self) -> float:
        """Of digits around their mean."""
        x = self._train[0]
        return float((x - x.mean(0)).square().mean().sqrt())

    def prior(self) -> VDenoiser:
        """Of digits, told nothing."""
        return self._trained(lambda: VDenoiser(_net(0), VP()), Denoise("v", drop=0.0))

    def sr3(self) -> EpsDenoiser:
        """Diffusion told the measurement, for "sr2"."""
        return self._trained(lambda: EpsDenoiser(_net(1), VP()), self._told("sr2", Denoise("eps", drop=0.0)))

    def resshift(self) -> BridgeDenoiser:
        """The process, for "sr2"."""
        return self._trained(lambda: BridgeDenoiser(_net(1), ResShift()), self._told("sr2", Bridge()))

    def regressor(self, task: str) -> X0Denoiser:
        """The mean in one call."""
        return self._trained(lambda: X0Denoiser(_net(1), Flow()), self._told(task, Regress()))

    def judge(self, steps: int) -> Judge:
        """The classifier whose features measure; the same training for every method."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold(self.seed, "judge"))
            net = Judge()
        net.learn(*self._train, steps, self.seed)
        return net.know(self.pictures("real", _REAL)[0])

    def _told(self, task: str, objective: Objective) -> Degraded:
        return Degraded(lambda noise: operator(task, noise), EitherNoise(), objective)

    def _trained(self, build: Callable[[], D], objective: Objective) -> D:
        x = self._train[0]  # made before the clock starts
        batch = lambda k: Batch(x[indices(self.seed, k, _BATCH, self.pool)])  # noqa: E731
        return trained(build, objective, batch, seconds=self.seconds, seed=self.seed)


class Judge(nn.Module):
    """A small classifier of digits; the distance of its features to those of digits that nothing else sees."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * (SIDE // 4) ** 2, 16), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(16, 10)
        self.register_buffer("real", torch.zeros(0, 16))

    def learn(self, x: Tensor, label: Tensor, steps: int, seed: int) -> None:
        """AdamW on the cross-entropy."""
        optimiser = torch.optim.AdamW(self.parameters(), lr=3e-3)
        for step in range(steps):
            rows = indices(fold(seed, "judge order"), step, 64, len(x))
            loss = F.cross_entropy(self.head(self.trunk(x[rows])), label[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        self.eval().requires_grad_(False)

    def know(self, real: Tensor) -> Judge:
        """Keep the features of real digits."""
        self.real = self.trunk(real)
        return self

    def scores(self, made: Tensor, seen: Seen) -> dict[str, float]:
        """PSNR (dB), share of digits that are read right, Frechet distance of features, all clamped to [-1, 1]; and
        |y - A x| / |y| as it came."""
        x = made.clamp(-1, 1)
        features = self.trunk(x)
        return {
            "psnr": float(psnr(x, seen.x).mean()),
            "accuracy": float((self.head(features).argmax(1) == seen.label).float().mean()),
            "frechet": frechet_distance(features, self.real),
            "consistency": float(consistency(seen.a, made, seen.y).mean()),
        }


def _net(concat: int) -> UNet:
    return UNet(1, channels=16, mult=(1, 2, 2), blocks=1, attention=(4,), concat=concat)
