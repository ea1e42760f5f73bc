"""Small encoders and the networks around them, pre-trained and fine-tuned on 16x16 scenes, for demonstrations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from mezzotint.core import Condition, DirectDenoiser, Noise, fold
from mezzotint.data import VIEWS, Scenes, indices
from mezzotint.metric.probe import linear_probe
from mezzotint.nn import EncoderDecoderViT, Projector, ViTEncoder
from mezzotint.objective import (
    Batch,
    CeilDoubling,
    Denoise,
    KarrasSpacing,
    Representation,
    ResolutionLevels,
    SnappedLogNormal,
    represent,
)
from mezzotint.sample import Heun
from mezzotint.train import Constant, CosineDecay, DenoisingTask, PretrainingTask, Single, fit

__all__ = ["Arms"]

_Made = TypeVar("_Made")
_BATCH, _RATE, _CLASSES, _MOST = 128, 1e-3, 6, 10**6


@dataclass(frozen=True)
class Arms:
    """Everything that the arms of one seed share: data, order, first weights, noise.

    Args:
        scenes: of 16 pixels.
        held: the last of them are kept for measuring.
        seed: of weights, order and noise.
    """

    scenes: Scenes
    held: int
    seed: int

    @property
    def levels(self) -> ResolutionLevels:
        """Noise levels of the scenes' height."""
        return ResolutionLevels(self.scenes.shape[1])

    def encoder(self) -> ViTEncoder:
        """The fresh encoder: patches of 4, width 96, four blocks."""
        return self._seeded("encoder", lambda: ViTEncoder(3, self.scenes.shape[1], 4, 96, 4, 4))

    def pretrained(self, steps: int, *, consistency: float) -> tuple[ViTEncoder, float]:
        """The encoder after so many steps of `Representation`, and the processor seconds they took."""
        begun = time.process_time()
        objective = Representation(
            self.levels, CeilDoubling(steps), VIEWS, consistency=consistency, seed=fold(self.seed, "levels")
        )
        projector = self._seeded("projector", lambda: Projector(96, 512, 128))
        task = PretrainingTask(self.encoder(), objective, projector=projector, lr=_RATE)
        with tempfile.TemporaryDirectory() as out:
            fit(task, self._batch, steps=steps, seed=self.seed, out=out, engine=Single("cpu"), save_every=_MOST,
                schedule=CosineDecay(steps, steps // 10))  # fmt: skip
        return task.encoder.eval(), time.process_time() - begun

    @torch.no_grad()
    def probed(self, encoder: ViTEncoder, sigma: float) -> float:
        """Accuracy of a linear probe for the shape in front, on noisy scenes."""
        labels = self.scenes.labels
        assert labels is not None
        found = []
        for start in range(0, len(self.scenes), 256):
            rows = range(start, min(start + 256, len(self.scenes)))
            x = self.scenes.batch(rows)[0]
            eps = Noise([fold(self.seed, "probe", i) for i in rows])("eps", 0, x.shape[1:])
            found.append(represent(encoder, x + sigma * eps, sigma))
        features, cut = torch.cat(found), len(self.scenes) - self.held
        return linear_probe(features[:cut], labels[:cut], features[cut:], labels[cut:])

    def tuned(self, encoder: ViTEncoder, checks: tuple[int, ...], more: float = 0.0) -> Iterator[DenoisingTask]:
        """The task of x-prediction from an encoder, at each number of steps; then after `more` processor seconds.

        The encoder itself is left as it is; the decoder is the same for all.
        """
        net = self._seeded("decoder", lambda: EncoderDecoderViT.from_encoder(deepcopy(encoder), classes=_CLASSES))
        objective = Denoise("x0", SnappedLogNormal(self.levels), KarrasSpacing(self.levels), drop=0.1)
        task = DenoisingTask(DirectDenoiser(net, self.levels.schedule), objective, lr=_RATE, clip=0.5, ema=0.99)

        def go(steps: int, stop: Callable[[], bool] | None = None) -> DenoisingTask:
            fit(task, self._batch, steps=steps, seed=self.seed, out=out, engine=Single("cpu"), save_every=_MOST,
                schedule=Constant(10), stop=stop)  # fmt: skip
            return task

        with tempfile.TemporaryDirectory() as out:
            for steps in checks:
                yield go(steps)
            if more > 0:
                end = time.process_time() + more
                yield go(_MOST, lambda: time.process_time() > end)

    @torch.no_grad()
    def made(self, task: DenoisingTask, count: int, steps: int) -> Tensor:
        """Scenes of the classes of the held-out ones, by Heun's method without guidance and the averaged weights."""
        denoiser, images = task.denoiser, []
        task.modules.eval()
        with task.ema["denoiser"].applied():
            for start in range(0, count, 64):
                rows = range(start, min(start + 64, count))
                noise = Noise([fold(self.seed, "sample", i) for i in rows])
                x_T = self.levels.maximum * noise("x_T", 0, self.scenes.shape)
                c = self._label(torch.tensor([len(self.scenes) - self.held + i for i in rows]))
                grid = self.levels.grid(denoiser.schedule, steps)
                images.append(Heun()(denoiser, x_T, grid=grid, c=c).clamp(-1, 1))
        return torch.cat(images)

    def real(self, count: int) -> Tensor:
        """Held-out scenes."""
        first = len(self.scenes) - self.held
        return self.scenes.batch(range(first, first + count))[0]

    def _batch(self, step: int) -> Batch:
        rows = indices(self.seed, step, _BATCH, len(self.scenes) - self.held)
        return Batch(self.scenes.batch(rows)[0], self._label(rows))

    def _label(self, rows: Tensor) -> Condition:
        assert self.scenes.labels is not None
        return Condition({"label": self.scenes.labels[rows]}, {"label": torch.tensor([_CLASSES])})

    def _seeded(self, part: str, make: Callable[[], _Made]) -> _Made:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(fold(self.seed, part))
            return make()
