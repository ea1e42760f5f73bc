from __future__ import annotations

import pytest
import torch
from torch import nn

from mezzotint.core import Flow
from mezzotint.core.denoiser import FlowDenoiser
from mezzotint.core.noise import Noise
from mezzotint.objective.batch import Batch, Loss
from mezzotint.train import DenoisingTask


class _Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([3.0, 4.0]))

    def forward(self, x, time, c=None):
        return x * self.weight[:, None, None]


def _pull(denoiser, batch, noise):
    total = 100 * denoiser.net.weight.square().sum() / 2  # its gradient is 100 weight, of norm 500
    return Loss(total, {"half": total / 2})


def test_one_step_is_clipped_adamw_by_the_formula():
    task = DenoisingTask(FlowDenoiser(_Scale(), Flow()), _pull, lr=0.1, betas=(0.9, 0.99), weight_decay=0.5, clip=2.0)
    metrics = task.step(Batch(torch.zeros(1, 2, 2, 2)), 0, Noise([0]))
    assert metrics["gradient"].values.tolist() == pytest.approx([500.0])
    assert metrics["gradient"].names() == ["denoiser.net.weight"]
    assert (metrics["loss"].item(), metrics["half"].item()) == (1250.0, 625.0)
    (weight,) = task.denoiser.parameters()
    state = task.optimisers["denoiser"].state[weight]
    assert state["exp_avg"].tolist() == pytest.approx([0.1 * 2 * 0.6, 0.1 * 2 * 0.8], rel=1e-5)  # of the clipped one
    # the first step of Adam is lr sign(g); decay is apart from it: w (1 - lr decay)
    assert weight.tolist() == pytest.approx([3 * 0.95 - 0.1, 4 * 0.95 - 0.1], rel=1e-5)


@pytest.mark.parametrize("clip", [None, 1e9])
def test_without_a_reached_clip_the_gradient_is_kept(clip):
    task = DenoisingTask(FlowDenoiser(_Scale(), Flow()), _pull, clip=clip)
    task.step(Batch(torch.zeros(1, 2, 2, 2)), 0, Noise([0]))
    (weight,) = task.denoiser.parameters()
    assert weight.grad.tolist() == [300.0, 400.0]


def test_frozen_parameters_are_left_alone_and_nothing_to_train_is_told():
    denoiser = FlowDenoiser(_Scale(), Flow())
    denoiser.net.bias = nn.Parameter(torch.ones(1), requires_grad=False)
    task = DenoisingTask(denoiser, _pull)
    task.step(Batch(torch.zeros(1, 2, 2, 2)), 0, Noise([0]))
    assert denoiser.net.bias.item() == 1.0 and "net.bias" not in task.ema["denoiser"].averages
    with pytest.raises(ValueError, match="nothing to train"):
        DenoisingTask(denoiser.requires_grad_(False), _pull)
