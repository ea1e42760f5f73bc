"""Held-out emoji degraded in four ways, restored by the methods that are compared, and scored."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor

from mezzotint.core import Condition, Denoiser, Noise, fold
from mezzotint.data import Emoji
from mezzotint.metric import PerceptualDistance, load_features, psnr, ssim
from mezzotint.model import Model
from mezzotint.restore import Restorer
from mezzotint.restore.operators import AveragePool, Blur, Clip, Mask, Operator, free_form_mask

__all__ = ["Bench"]

_BATCH = 16
STD = {"blur": 0.05}  # without noise nothing but rounding would keep a blur from being undone
Scores = dict[str, list[float]]


@lru_cache(maxsize=4)  # decoded once
def _emoji(side: int, split: str) -> Emoji:
    return Emoji(side, split)


@dataclass(frozen=True)
class Bench:
    """A pixel-space model, asked for nothing in particular, and held-out images of its size.

    Args:
        model: the shipped one.
        seed: of the choice of images, of masks and of the methods' noise.
        steps: of every method: equal network calls.
        images: of the splits that training has not seen: "test" to compare, "val" to choose a parameter on.
    """

    model: Model
    seed: int
    steps: int
    images: dict[str, int]
    _features: PerceptualDistance = field(default_factory=lambda: PerceptualDistance(load_features()), repr=False)

    def pictures(self, split: str) -> Tensor:
        """(n, 3, h, w), chosen by the seed."""
        source = _emoji(self.model.size[0], split)
        place = Noise([fold(self.seed, split)]).uniform("order", 0, (len(source),), dtype=torch.float64)[0].argsort()
        return torch.stack([source[i].image for i in place[: self.images[split]].tolist()])

    def seeds(self, split: str) -> tuple[int, ...]:
        """One an image."""
        return tuple(fold(self.seed, split, i) for i in range(self.images[split]))

    def operator(self, task: str, seeds: Sequence[int]) -> Operator:
        """Of a batch: "inpaint" (strokes hide 30 to 70 %), "sr4" (means of 4x4), "blur" (Gaussian), "hdr" (clip)."""
        side = self.model.size[0]
        if task == "inpaint":
            return Mask(free_form_mask(Noise(seeds), side, side, (0.3, 0.7)))
        return {"sr4": lambda: AveragePool(4), "blur": lambda: Blur.gaussian(1.5), "hdr": lambda: Clip(2.0)}[task]()

    @property
    def denoiser(self) -> Denoiser:
        """The model's."""
        return self.model.denoiser

    def condition(self, count: int) -> Condition | None:
        """Nothing in particular, so many times."""
        conditioner = self.model.conditioner
        if conditioner is None:
            return None
        return conditioner(conditioner.prepare(["emoji"])).null().rows([0] * count)

    def scores(self, method: Restorer, task: str, split: str = "test") -> Scores:
        """PSNR (dB), SSIM and perceptual distance of each image, clamped to [-1, 1]; of each batch its processor
        seconds a step and image."""
        told: Scores = {"psnr": [], "ssim": [], "features": [], "seconds": []}
        pictures, seeds = self.pictures(split), self.seeds(split)
        for start in range(0, len(pictures), _BATCH):
            x, own = pictures[start : start + _BATCH], seeds[start : start + _BATCH]
            operator = self.operator(task, own)
            begun = time.process_time()
            with torch.no_grad():
                y, std = operator(x), STD.get(task, 0.0)
                y = y + std * Noise(own)("measured", 0, tuple(y.shape[1:]))
                made = method(
                    self.denoiser, operator, y, Noise(own), std=std, steps=self.steps, c=self.condition(len(x))
                ).clamp(-1, 1)
            seconds = (time.process_time() - begun) / self.steps / len(x)
            told["psnr"] += psnr(made, x).tolist()
            told["ssim"] += ssim(made, x).tolist()
            told["features"] += self._features.distances(made, x).tolist()
            told["seconds"].append(seconds)
        return told
