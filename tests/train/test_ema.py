from __future__ import annotations

import pytest
import torch
from torch import nn

from mezzotint.train import EMA


def _linear(dtype=torch.float64):
    net = nn.Linear(2, 1, bias=False, dtype=dtype)
    nn.init.zeros_(net.weight)
    return net


def test_closed_form_of_a_step_in_the_weights():
    net = _linear()
    ema = EMA(net, 0.5)
    nn.init.ones_(net.weight)
    left = 1.0
    for n in range(1, 40):
        ema.update()
        left *= min(0.5, (1 + n) / (10 + n))
        assert ema.averages["weight"].tolist() == [[pytest.approx(1 - left, abs=1e-12)] * 2]


def test_a_moving_weight_against_the_weighted_sum():
    net, decay = _linear(), 0.3
    ema = EMA(net, decay)
    values = torch.randn(20, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    decays = [min(decay, (1 + n) / (10 + n)) for n in range(1, 21)]
    for value in values:
        net.weight.data.copy_(value)
        ema.update()
    expected = torch.zeros(1, 2, dtype=torch.float64)
    for k, value in enumerate(values):
        expected += value * (1 - decays[k]) * torch.tensor(decays[k + 1 :], dtype=torch.float64).prod()
    assert torch.allclose(ema.averages["weight"], expected, atol=1e-13)


def test_averages_are_float32_over_a_bfloat16_network():
    net = _linear(torch.bfloat16)
    ema = EMA(net, 0.9999)
    nn.init.ones_(net.weight)
    for _ in range(200):
        ema.update()
    before = ema.averages["weight"].clone()
    nn.init.constant_(net.weight, before[0, 0].item() * 1.25)
    ema.update()
    assert before.dtype == torch.float32
    assert 0 < (ema.averages["weight"] - before).max() < 0.02  # a change that bfloat16 would round away


def test_what_is_not_trained_is_not_averaged():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net[0].bias.requires_grad_(False)
    ema = EMA(net, 0.9)
    net(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    net[0].bias.data.fill_(7.0)
    ema.update()
    state = ema.state_dict()
    assert state.keys() == net.state_dict().keys() and "0.bias" not in ema.averages
    assert state["0.bias"].tolist() == [7.0, 7.0]
    assert torch.equal(state["1.running_mean"], net[1].running_mean)


def test_applied_lends_the_average_and_gives_back_the_same_bits_even_after_an_error():
    net = _linear()
    ema = EMA(net, 0.9)
    net.weight.data.copy_(torch.tensor([[0.1, 0.3]]))
    ema.update()
    kept = net.weight.detach().clone()
    with pytest.raises(RuntimeError, match="inside"), ema.applied() as lent:
        assert torch.equal(lent.weight, ema.averages["weight"]) and not torch.equal(lent.weight, kept)
        raise RuntimeError("inside")
    assert torch.equal(net.weight, kept)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"EMA decay must be in \[0, 1\)"):
        EMA(_linear(), decay)
