"""Check 10 of the sheet of 2406.11138: the mean over patches is the full result where pixels are apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.core import VP, Condition, Flow, FlowDenoiser, Noise, VDenoiser, X0Denoiser
from mezzotint.core.window import EvenWindows
from mezzotint.guide import PatchMean
from mezzotint.restore.bridge import BridgeDenoiser, ResShift, TrainedRestorer
from mezzotint.sample import DDIM

T = torch.tensor([0.3, 0.8], dtype=torch.float64)


def per_pixel(x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
    out = torch.tanh(1.3 * x) + 0.1 * time.view(-1, 1, 1, 1) / 1000
    return out if c is None else out + c["concat"]


@pytest.mark.parametrize("stride", range(1, 7))
@pytest.mark.parametrize("size", [(6, 6), (7, 12), (13, 8), (5, 9)])
def test_a_pointwise_denoiser_gives_the_full_result_at_every_stride(size, stride):
    x, y = (Noise([0, 1])(name, 0, (1, *size), dtype=torch.float64) for name in ("x", "y"))
    for kind, schedule in ((X0Denoiser, VP()), (VDenoiser, VP()), (FlowDenoiser, Flow())):
        plain = kind(per_pixel, schedule)
        patched = PatchMean(window=6, stride=stride, batch=5)(plain)
        for c in (None, Condition({"concat": y})):
            torch.testing.assert_close(patched(x, T, c).x0, plain(x, T, c).x0, atol=1e-10, rtol=0)


def test_in_float32_too():
    x = Noise([0, 1])("x", 0, (3, 11, 10))
    plain, t = X0Denoiser(per_pixel, VP()), T.float()
    for stride in range(1, 5):
        torch.testing.assert_close(PatchMean(4, stride)(plain)(x, t).x0, plain(x, t).x0, atol=1e-6, rtol=0)


def test_every_patch_counts_once():
    """A network that answers its patch's number: each pixel is the mean of the patches over it."""
    layout = EvenWindows((1, 8), (1, 4), (1, 3))
    assert layout.corners() == [(0, 0), (0, 3), (0, 4)]

    def number(x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        return torch.arange(len(x), dtype=x.dtype).view(-1, 1, 1, 1).expand_as(x)

    row = PatchMean(4, 3)(X0Denoiser(number, VP()))(torch.zeros(1, 1, 4, 8, dtype=torch.float64), T[:1]).x0[0, 0, 0]
    assert row.tolist() == [0, 0, 0, 0.5, 1.5, 1.5, 1.5, 2]


def test_it_goes_with_samplers_and_with_processes():
    """A picture larger than the patches, restored by a process and by DDIM, as if it were one."""
    y = Noise([7])("y", 0, (1, 9, 10), dtype=torch.float64)
    for d, sampler in (
        (BridgeDenoiser(per_pixel, ResShift()), TrainedRestorer()),
        (X0Denoiser(per_pixel, VP()), TrainedRestorer(DDIM(1.0))),
    ):
        whole, patched = (sampler(model, y, Noise([1, 2]), steps=4) for model in (d, PatchMean(4, 3)(d)))
        torch.testing.assert_close(patched, whole, atol=1e-10, rtol=0)
        assert not torch.allclose(whole[0], whole[1])
