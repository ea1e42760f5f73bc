"""Replacing a network's norms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mezzotint.nn import DiT, NonScalingGroupNorm, UNet, without_gains


def test_the_output_norm_alone():
    net = UNet(4, channels=16, mult=(1,), blocks=1, attention=())
    groups = sum(isinstance(m, nn.GroupNorm) for m in net.modules())
    without_gains(net, "output")
    assert isinstance(net.norm, NonScalingGroupNorm)
    assert sum(isinstance(m, nn.GroupNorm) for m in net.modules()) == groups - 1


def test_of_one_group_it_changes_nothing_before_training():
    """A UNet whose norms are given one group, with gains of 1, is the same function."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = UNet(2, channels=8, mult=(1,), blocks=1, attention=())
        for p in net.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.2)
        for m in net.modules():
            if isinstance(m, nn.GroupNorm):
                m.num_groups = 1
                nn.init.uniform_(m.bias)
    x, time = torch.linspace(-1, 1, 64).view(2, 2, 4, 4), torch.tensor([3.0, 500.0])
    before = net(x, time).detach()
    torch.testing.assert_close(without_gains(net)(x, time), before, rtol=1e-5, atol=1e-5)
    assert float(before.std()) > 0.01


def test_what_has_nothing_to_replace_is_refused():
    with pytest.raises(ValueError, match="nothing to replace"):
        without_gains(DiT(4, width=16, depth=1, heads=2))  # its norms are modulated: no gains of their own
    without_gains(DiT(4, width=16, depth=1, heads=2, context=8))
    with pytest.raises(ValueError, match="norm before its output"):
        without_gains(nn.Sequential(nn.GroupNorm(1, 4)), "output")


def test_a_state_without_gains_does_not_load_into_a_plain_network():
    net = UNet(4, channels=16, mult=(1,), blocks=1, attention=())
    state = without_gains(UNet(4, channels=16, mult=(1,), blocks=1, attention=())).state_dict()
    with pytest.raises(RuntimeError, match="norm.weight"):
        net.load_state_dict(state)
