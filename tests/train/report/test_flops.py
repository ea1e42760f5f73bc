"""Operations of a step against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mezzotint.core import Condition, Cosine
from mezzotint.core.denoiser import VDenoiser
from mezzotint.objective import Denoise
from mezzotint.objective.batch import Batch
from mezzotint.train import EMA, DenoisingTask
from mezzotint.train.report import flops_per_sample


class _Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Conv2d(8, 3, 1)

    def forward(self, x, time, c=None):
        return self.last(F.silu(self.norm(self.first(x))))


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(4, 12), nn.Linear(4, 4)

    def forward(self, x, time, c=None):
        q, k, v = self.into(x).chunk(3, -1)
        return self.out(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0])


def _task(net: nn.Module) -> DenoisingTask:
    return DenoisingTask(VDenoiser(net, Cosine()), Denoise("v", drop=0.0), ema=0.9)


def test_convolutions_by_hand():
    first = 2 * 8 * 3 * 9 * 64  # 2 (multiply-add) x out x in x kernel x pixels
    last = 2 * 3 * 8 * 1 * 64
    # backward: a gradient by the weights each, and one by the input where that depends on weights
    assert flops_per_sample(_task(_Convolutions()), Batch(torch.zeros(4, 3, 8, 8))) == 2 * first + 3 * last


def test_attention_by_hand():
    n, d = 10, 4
    into, out, scores = 2 * n * d * 12, 2 * n * d * d, 2 * n * n * d
    expected = 2 * into + 3 * out + 3 * (2 * scores)  # q k^T and the sum over v, each with two gradients
    assert flops_per_sample(_task(_Attention()), Batch(torch.zeros(3, n, d))) == expected


def test_the_number_of_samples_does_not_matter_and_conditions_come_along():
    c = Condition({"label": torch.tensor([1, 2, 3])}, null={"label": torch.tensor([0])})
    counts = {
        flops_per_sample(_task(_Convolutions()), batch)
        for batch in (Batch(torch.zeros(1, 3, 8, 8)), Batch(torch.zeros(3, 3, 8, 8), c))
    }
    assert len(counts) == 1


def test_an_objective_that_mixes_noise_on_the_cpu(denoising):
    task, batches = denoising()  # its objective names no device
    first, last, time = 2 * 8 * 3 * 9 * 64, 2 * 3 * 8 * 9 * 64, 2 * 8
    assert flops_per_sample(task, batches(0)) == 2 * first + 3 * last + 2 * time


def test_the_task_and_the_generators_stay_as_they_are():
    task = _task(_Convolutions())
    x = torch.randn(4, 3, 8, 8)
    task.step(Batch(x), 0, _noise(4))  # optimiser and buffers have a state
    before = {k: v.clone() for k, v in task.modules.state_dict().items()}
    state = task.optimisers["denoiser"].state_dict()["state"]
    moments = [v.clone() for entries in state.values() for v in entries.values()]
    gradients = [p.grad.clone() for p in task.modules.parameters()]
    generator, updates = torch.get_rng_state(), task.ema["denoiser"].updates
    flops_per_sample(task, Batch(x))
    assert all(torch.equal(v, before[k]) for k, v in task.modules.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(moments, (v for e in state.values() for v in e.values()), strict=True))
    assert all(torch.equal(p.grad, g) for p, g in zip(task.modules.parameters(), gradients, strict=True))
    assert torch.equal(torch.get_rng_state(), generator) and task.ema["denoiser"].updates == updates
    assert isinstance(task.ema["denoiser"], EMA) and task.modules.training


def test_weights_that_are_not_made_yet():
    with torch.device("meta"):
        net = _Attention()
    batch = Batch(torch.zeros(3, 10, 4))
    assert flops_per_sample(_task(net), batch) == flops_per_sample(_task(_Attention()), batch)


class _Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, time, c=None):
        return self.layer(x) if float(x.square().sum()) >= 0 else x


def test_a_step_that_looks_at_numbers_is_run_on_a_copy():
    task = _task(_Reads())
    weights = {k: v.clone() for k, v in task.modules.state_dict().items()}
    assert flops_per_sample(task, Batch(torch.zeros(2, 4))) == 2 * (2 * 4 * 4)
    assert all(p.grad is None for p in task.modules.parameters())
    assert all(torch.equal(v, weights[k]) for k, v in task.modules.state_dict().items())


def test_what_cannot_be_counted_is_refused_in_words(monkeypatch, pair):
    monkeypatch.setattr("mezzotint.train.report.flops._SMALL", 0)
    with pytest.raises(ValueError, match="cannot be counted: DataDependent"):
        flops_per_sample(_task(_Reads()), Batch(torch.zeros(2, 4)))
    monkeypatch.undo()
    task, batches = pair()  # a task that goes round `learn`
    with pytest.raises(ValueError, match="cannot be counted: KeyError"):
        flops_per_sample(task, batches(0))


def _noise(count):
    from mezzotint.core.noise import Noise

    return Noise(range(count))
