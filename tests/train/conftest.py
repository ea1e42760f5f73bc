"""Two tiny tasks: one denoiser, and a generator with its opponent (two optimisers, buffers, dropout)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mezzotint.core import Cosine
from mezzotint.core.denoiser import VDenoiser
from mezzotint.core.noise import Noise
from mezzotint.objective.batch import Batch, Loss
from mezzotint.train import EMA, DenoisingTask


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.time, self.drop = nn.Linear(1, 8), nn.Dropout(0.2)

    def forward(self, x: Tensor, time: Tensor, c: object = None) -> Tensor:
        h = self.first(x) + self.time(time[:, None] / 1000)[:, :, None, None]
        return self.last(self.drop(F.silu(h)))


def _objective(denoiser: nn.Module, batch: Batch, noise: Noise) -> Loss:
    shape = tuple(batch.x.shape[1:])
    t = noise.uniform("time", 0, ())
    eps = noise("noise", 0, shape)
    alpha, sigma = denoiser.schedule.alpha(t)[:, None, None, None], denoiser.schedule.sigma(t)[:, None, None, None]
    error = (denoiser(alpha * batch.x + sigma * eps, t, batch.c).v - (alpha * eps - sigma * batch.x)).square()
    return Loss(error.mean(), {"v": error.mean()})


def _seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


class _Pair:
    """A generator and its opponent; batch norm has buffers, dropout has randomness of its own."""

    def __init__(self) -> None:
        def make() -> nn.ModuleDict:
            g = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout(0.3), nn.Conv2d(8, 3, 1))
            return nn.ModuleDict({"g": g, "d": nn.Conv2d(3, 1, 4)})

        self.modules = _seeded(make)
        self.frozen = nn.ModuleDict()
        self.optimisers = {
            "g": torch.optim.Adam(self.modules["g"].parameters(), lr=1e-2, amsgrad=True),
            "d": torch.optim.SGD(self.modules["d"].parameters(), lr=1e-2, momentum=0.9),
        }
        self.ema = {"g": EMA(self.modules["g"], 0.9)}
        self.seeds: list[list[int]] = []

    def step(self, batch: Tensor, step: int, noise: Noise, learn: object = None) -> dict[str, Tensor]:
        self.seeds.append(list(noise.seeds))
        g, d = self.modules["g"], self.modules["d"]
        fake = g(batch + noise("input", 0, tuple(batch.shape[1:])))
        for o in self.optimisers.values():
            o.zero_grad()
        fool = -d(fake).mean() + (fake - batch).abs().mean()
        fool.backward()
        self.optimisers["g"].step()
        self.optimisers["d"].zero_grad()
        tell = F.relu(1 - d(batch)).mean() + F.relu(1 + d(fake.detach())).mean()
        tell.backward()
        self.optimisers["d"].step()
        return {"g": fool, "d": tell}


def _images(step: int) -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step)).clamp(-1, 1)


@pytest.fixture
def denoising():
    """() -> (task, batches)."""
    return lambda: (
        _seeded(lambda: DenoisingTask(VDenoiser(_Net(), Cosine()), _objective, lr=1e-2, ema=0.99)),
        lambda step: Batch(_images(step)),
    )


@pytest.fixture
def pair():
    """() -> (task, batches)."""
    return lambda: (_Pair(), _images)


@pytest.fixture
def everything():
    """task -> name -> a copy of each tensor and number that a step depends on."""

    def gather(task) -> dict[str, Tensor]:
        state = {f"module/{k}": v for k, v in task.modules.state_dict().items()}
        for name, ema in task.ema.items():
            state |= {f"ema/{name}/{k}": v for k, v in ema.averages.items()}
            state[f"ema/{name}"] = torch.tensor(ema.updates)
        for name, optimiser in task.optimisers.items():
            for i, entries in optimiser.state_dict()["state"].items():
                state |= {f"optimiser/{name}/{i}/{k}": torch.as_tensor(v) for k, v in entries.items()}
        return {k: v.clone() for k, v in state.items()}

    return gather
