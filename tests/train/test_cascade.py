"""Training all levels of a cascade in one run: resumed and divided runs are the same run, another pyramid is none."""

from __future__ import annotations

import pytest
import torch

from mezzotint.core import Flow, FlowDenoiser, MultiResDenoiser, Noise, ResolutionPyramid, fold
from mezzotint.nn import DiT, MultiResNetwork
from mezzotint.objective import Batch, CascadeObjective, Denoise, LogitNormalTime
from mezzotint.train import DenoisingTask, Single, fit


def task(low: float = 0.9) -> DenoisingTask:
    """A small DiT of 4x4 and 8x8 latents, in the flow form."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = MultiResNetwork(DiT(4, patch=1, width=16, depth=1, heads=2), (4, 8))
    d = MultiResDenoiser(FlowDenoiser(net, Flow()), ResolutionPyramid((4, 8), (low, 1.0)))
    return DenoisingTask(d, CascadeObjective((0.3, 0.7), Denoise("flow", LogitNormalTime())), lr=1e-3, ema=0.99)


def batches(step: int) -> Batch:
    return Batch(Noise([fold(step, i) for i in range(4)])("x", 0, (4, 8, 8)))


def run(out, steps: int, parts: int = 1, low: float = 0.9):
    trained = task(low)
    report = fit(trained, batches, steps=steps, seed=1, out=out, engine=Single("cpu"), parts=parts, log_every=1)
    return trained.denoiser.state_dict(), report


def test_a_resumed_run_is_the_same_run_and_another_pyramid_is_refused(tmp_path):
    whole, _ = run(tmp_path / "whole", 5)
    run(tmp_path / "halves", 3)
    resumed, report = run(tmp_path / "halves", 5)
    assert report.resumed == 3 and all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(ValueError, match="trained with another pyramid"):
        run(tmp_path / "halves", 6, low=0.5)


def test_micro_batches_are_of_one_level(tmp_path):
    """Parts of a step see the level of the step: the log names one, and the sum is that of the whole batch."""
    whole, one = run(tmp_path / "whole", 2)
    parts, two = run(tmp_path / "parts", 2, parts=2)
    assert sorted(one.metrics) == sorted(two.metrics) and sum(name.startswith("mse ") for name in two.metrics) == 1
    assert two.metrics["loss"] == pytest.approx(one.metrics["loss"], rel=1e-5)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in whole)
