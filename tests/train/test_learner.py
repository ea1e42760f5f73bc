from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import Condition, Cosine, Noise, VDenoiser
from mezzotint.objective import Batch, Denoise, Loss
from mezzotint.train import DenoisingTask, Single, fit, read_log
from mezzotint.train.learner import Learner
from mezzotint.train.meter import NonFiniteError


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 4)
        self.label = nn.Embedding(4, 2)

    def forward(self, x: Tensor, time: Tensor, c: Condition) -> Tensor:
        return self.last(torch.tanh(self.first(torch.cat([x, self.label(c["label"])], 1)) + time[:, None] / 1000))


def _task(dtype=torch.float64, **settings) -> DenoisingTask:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = VDenoiser(_Net(), Cosine()).to(dtype)
    return DenoisingTask(denoiser, Denoise("v", drop=0.4), lr=1e-2, **settings)


def _batch(count: int = 12, dtype=torch.float64) -> Batch:
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(1), dtype=dtype)
    return Batch(x, Condition({"label": torch.arange(count) % 3}, null={"label": torch.tensor([3])}))


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_accumulated_parts_give_the_gradient_and_the_step_of_the_large_batch(parts):
    noise, ends = Noise(range(12)), []
    for learn in (Learner(), Learner(parts=parts)):
        task = _task(clip=0.05)
        for step in range(3):
            metrics = task.step(_batch(), step, noise, learn)
        ends.append((dict(task.denoiser.named_parameters()), metrics))
    (whole, told), (accumulated, also) = ends
    for name, value in whole.items():
        assert (value.grad - accumulated[name].grad).abs().max() <= 1e-12  # promised: 1e-6
        assert (value - accumulated[name]).abs().max() <= 1e-12
    assert abs(told["loss"] - also["loss"]) <= 1e-12 and abs(told["mse"] - also["mse"]) <= 1e-12
    assert torch.allclose(told["gradient"].values, also["gradient"].values, rtol=1e-10)


def test_the_step_is_torchs_own_clipping_and_optimiser_to_the_bit():
    task, noise = _task(torch.float32, clip=0.1), Noise(range(12))
    reference = deepcopy(task.denoiser)
    adamw = torch.optim.AdamW(reference.parameters(), lr=1e-2, foreach=True)
    for step in range(3):
        task.step(_batch(dtype=torch.float32), step, noise)
        adamw.zero_grad()
        task.objective(reference, _batch(dtype=torch.float32), noise).total.backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
        adamw.step()
    assert all(torch.equal(a, b) for a, b in zip(task.denoiser.parameters(), reference.parameters(), strict=True))


def test_parts_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match="12 samples cannot be divided into 5 equal parts"):
        _task().step(_batch(), 0, Noise(range(12)), Learner(parts=5))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parts": 0}, "at least 1"),
        ({"precision": "float16"}, "expected float32 or bfloat16"),
        ({"nonfinite": "ignore"}, "expected stop or skip"),
    ],
)
def test_wrong_settings_are_told(unchecked, settings, message):
    with pytest.raises(ValueError, match=message):
        Learner(**settings)


def _spoilt(denoiser, batch, noise) -> Loss:
    loss = Denoise("v", drop=0.0)(denoiser, batch, noise)
    return Loss(loss.total + denoiser.net.last.bias.sum() * batch.x[0, 0].log())  # NaN where that number is negative


def _run(tmp_path, policy: str, bad: set[int]):
    task = DenoisingTask(_task(torch.float32).denoiser, _spoilt, lr=1e-2)

    def batches(step: int) -> Batch:
        batch = _batch(4, torch.float32)
        batch.x[0, 0] = -1.0 if step in bad else 1.0
        return batch

    weights = []
    report = fit(
        task, batches, steps=6, seed=0, out=tmp_path / "run", engine=Single("cpu"), log_every=3, nonfinite=policy,
        on_step=lambda _: weights.append(task.denoiser.net.last.bias.detach().clone()),
    )  # fmt: skip
    return report, weights


def test_stop_names_the_step_and_the_tensor(tmp_path):
    with pytest.raises(NonFiniteError, match=r"step 4: .*loss = nan.* gradient of denoiser\.net\.last\.bias"):
        _run(tmp_path, "stop", {4})


def test_skip_leaves_the_weights_of_that_step_alone_and_counts_it(tmp_path):
    report, weights = _run(tmp_path, "skip", {2, 4})
    moved = [not torch.equal(a, b) for a, b in zip(weights, weights[1:], strict=False)]
    assert moved == [True, False, True, False, True] and report.finished
    assert all(torch.isfinite(w).all() for w in weights)
    rows = read_log(tmp_path / "run" / "log.jsonl")
    assert [row["skipped"] for row in rows] == [1, 2] and all(row["loss"] < 100 for row in rows)


def test_bfloat16_is_used_inside_the_network_alone():
    seen = []
    task = _task(torch.float32)
    task.denoiser.net.last.register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    metrics = task.step(_batch(dtype=torch.float32), 0, Noise(range(12)), Learner(precision="bfloat16"))
    assert seen == [torch.bfloat16] and metrics["loss"].dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in task.denoiser.parameters() if p.grad is not None)


def test_names_are_asked_for_at_a_failure_alone(tmp_path, monkeypatch):
    asked, named = [], nn.ModuleDict.named_parameters

    def counted(self, *args, **kwargs):
        asked.append(self)
        return named(self, *args, **kwargs)

    def batches(step: int) -> Batch:
        batch = _batch()
        return Batch(batch.x * (float("nan") if step == 4 else 1.0), batch.c)

    task = _task(ema=None)

    def on_step(progress) -> None:
        if progress.step == 1:
            monkeypatch.setattr(nn.ModuleDict, "named_parameters", counted)
        elif progress.step == 4:
            assert not asked

    with pytest.raises(NonFiniteError, match=r"step 4: .*first in the gradient of denoiser\.net\.first\.weight"):
        fit(task, batches, steps=6, seed=0, out=tmp_path, log_every=1, engine=Single("cpu"), on_step=on_step)
    assert asked == [task.modules]
