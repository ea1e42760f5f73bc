"""The backbone of all levels: positions of a DiT, refusals. Its exact checks are in tests/exact/test_lowdiff.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mezzotint.nn import DiT, GuidedNetwork, MultiResNetwork, UNet, positions_2d, sinusoidal


@pytest.mark.parametrize("side", [4, 8, 16])
def test_tokens_of_a_lower_level_lie_where_they_cover_the_highest(side):
    net = MultiResNetwork(DiT(1, patch=2, width=16, depth=1, heads=2), (4, 8, 16))
    with torch.no_grad():
        nn.init.zeros_(net.base.stem.stem.weight)
        shift = net.base.stem(torch.zeros(1, 3, side, side))[0].flatten(1).T
    positions = positions_2d(side // 2, side // 2, 16) + shift
    factor = 16 // side
    centre = torch.arange(8, dtype=torch.float32).view(-1, factor).mean(1)  # of the tokens that one of them covers
    rows = sinusoidal(centre, 8)[:, None].expand(-1, side // 2, -1).flatten(0, 1)
    columns = sinusoidal(centre, 8)[None].expand(side // 2, -1, -1).flatten(0, 1)
    assert torch.allclose(positions, torch.cat([rows, columns], 1), atol=1e-5)
    assert side != 16 or float(shift.abs().max()) == 0.0


def test_the_same_weights_serve_every_level(alive, draw):
    net = alive(MultiResNetwork(UNet(2, channels=8, blocks=1), (4, 8)))
    x, low, time = draw(2, 2, 4, 4), draw(2, 2, 8, 8), draw(2)
    small, large = net(x, time), net(low, time, {"low": low})
    assert small.shape == x.shape and large.shape == low.shape
    with torch.no_grad():
        net.base.mid[0].conv_in.weight.mul_(1.5)
    assert not torch.allclose(net(x, time), small) and not torch.allclose(net(low, time, {"low": low}), large)


def test_refusals(unchecked):
    class Normed(UNet):
        def __init__(self) -> None:
            super().__init__(2, channels=8)
            self.norm = nn.BatchNorm2d(8)

    for make, words in (
        (lambda: MultiResNetwork(nn.Conv2d(1, 1, 1), (4, 8)), "expected a plain UNet or DiT"),
        (lambda: MultiResNetwork(MultiResNetwork(UNet(2, channels=8), (4, 8)), (4, 8)), "got a MultiResNetwork"),
        (lambda: MultiResNetwork(GuidedNetwork(UNet(2, channels=8), (1.0, 5.0)).base, (4, 8)), "plain UNet or DiT"),
        (lambda: MultiResNetwork(Normed(), (4, 8)), "batch normalisation"),
        (lambda: MultiResNetwork(UNet(2, channels=8, mult=(1, 2, 2)), (6, 12)), "multiples of 4 and no level of 6"),
        (lambda: MultiResNetwork(UNet(2, channels=8), (8, 8)), "rising"),
    ):
        with pytest.raises(ValueError, match=words):
            make()
    net, time = MultiResNetwork(UNet(2, channels=8), (4, 8)), torch.zeros(1)
    with pytest.raises(ValueError, match=r"trained for levels \[4, 8\]"):
        net(torch.zeros(1, 2, 16, 16), time)
    with pytest.raises(ValueError, match="enlarge it first"):
        net(torch.zeros(1, 2, 8, 8), time, {"low": torch.zeros(1, 2, 4, 4)})
