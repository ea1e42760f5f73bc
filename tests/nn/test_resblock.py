from __future__ import annotations

import pytest
import torch

from mezzotint.nn.resblock import Downsample, ResBlock, Upsample, group_norm


@pytest.mark.parametrize("channels", range(1, 200))
def test_groups_divide_the_channels_and_keep_four_of_them(channels: int) -> None:
    groups = group_norm(channels).num_groups
    assert channels % groups == 0 and groups <= 32
    assert channels // groups >= min(4, channels)


def test_a_fresh_block_is_the_identity_and_a_step_makes_the_embedding_act(draw) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = ResBlock(8, 8, 6).double()
    x, a, b = draw(1, 8, 4, 4), draw(1, 6), draw(1, 6)
    assert torch.equal(block(x, a), x)
    block(x, a).square().sum().backward()
    with torch.no_grad():
        for p in block.parameters():
            p -= 0.1 * p.grad
    assert (block(x, a) - block(x, b)).abs().max() > 1e-4


def test_resampling_keeps_a_constant_away_from_the_border() -> None:
    for layer, scale in ((Downsample(2), 0.5), (Upsample(2), 2)):
        torch.nn.init.constant_(layer.weight, 1 / 18)
        torch.nn.init.zeros_(layer.bias)
        out = layer(torch.full((1, 2, 8, 12), 3.0))
        assert out.shape == (1, 2, 8 * scale, 12 * scale)
        assert torch.allclose(out[:, :, 1:-1, 1:-1], torch.tensor(3.0))
