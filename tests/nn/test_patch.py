"""A UNet that sees patches of pixels as one is the UNet of the rearranged image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import mezzotint as mz
from mezzotint.core import Flow, FlowDenoiser
from mezzotint.latent import Identity
from mezzotint.nn import UNet

SMALL = {"channels": 8, "mult": (1, 2), "blocks": 1, "attention": ()}


def filled(net: UNet) -> UNet:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.2 * torch.randn(p.shape, generator=generator))
    return net.eval()


def test_a_patch_is_a_rearrangement():
    net, plain = filled(UNet(3, concat=1, patch=2, **SMALL)), UNet(12, concat=4, **SMALL).eval()
    plain.load_state_dict(net.state_dict())
    x, y, time = torch.randn(2, 3, 8, 12), torch.randn(2, 1, 8, 12), torch.tensor([3.0, 700.0])
    both = F.pixel_unshuffle(torch.cat([x, y], 1), 2)
    expected = F.pixel_shuffle(plain(both[:, :12], time, {"concat": both[:, 12:]}), 2)
    assert torch.equal(net(x, time, {"concat": y}), expected)


def test_it_is_saved_and_its_sides_are_multiples(tmp_path):
    net = filled(UNet(3, patch=2, **SMALL))
    model = mz.Model(FlowDenoiser(net, Flow()), Identity(3), size=(8, 8))
    back = mz.load(model.save(tmp_path / "m"))
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(back.denoiser.net(x, torch.zeros(1)), net(x, torch.zeros(1)))
    assert back.multiple == net.multiple == 4
    with pytest.raises(ValueError, match="multiple"):
        net(torch.randn(1, 3, 6, 8), torch.zeros(1))
    with pytest.raises(ValueError, match="patch of at least 1"):
        UNet(3, patch=0, **SMALL)
