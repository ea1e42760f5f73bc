from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mezzotint.nn.conditioner import SemanticMapConditioner


def _semantic(classes: int = 5, halvings: int = 2) -> SemanticMapConditioner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SemanticMapConditioner(classes, 3, halvings).double()


def _map(h: int = 8, w: int = 12, classes: int = 5) -> torch.Tensor:
    return torch.randint(classes, (h, w), generator=torch.Generator().manual_seed(1))


def test_equals_the_papers_order_one_hot_then_halve_then_mix() -> None:
    semantic, classmap = _semantic(), _map()
    onehot = F.one_hot(classmap, 5).permute(2, 0, 1)[None].double()
    for _ in range(2):
        onehot = F.interpolate(onehot, scale_factor=0.5, mode="bilinear")
    expected = semantic.mix(onehot)
    torch.testing.assert_close(semantic(semantic.prepare([classmap]))["concat"], expected, atol=1e-12, rtol=0)


def test_halving_by_two_bilinearly_is_the_mean_of_blocks() -> None:
    semantic, classmap = _semantic(), _map()
    share = F.one_hot(classmap, 5).double().reshape(2, 4, 3, 4, 5).mean((1, 3))  # shares of the classes in 4 x 4 blocks
    expected = torch.einsum("hwk,ck->chw", share, semantic.mix.weight[:, :, 0, 0])
    torch.testing.assert_close(semantic(semantic.prepare([classmap]))["concat"][0], expected, atol=1e-12, rtol=0)


def test_guidance_keeps_the_map_and_the_mix_learns() -> None:
    semantic = _semantic(halvings=0)
    c = semantic(semantic.prepare([torch.full((2, 2), 4)]))
    assert torch.equal(c.null()["concat"], c["concat"])
    c["concat"].sum().backward()
    grad = semantic.mix.weight.grad
    assert (
        grad is not None
        and grad[:, :4].abs().sum() == 0
        and torch.equal(grad[:, 4].flatten(), torch.full((3,), 4.0).double())
    )


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "at least one"),
        ([torch.zeros(8, 8)], "integer tensor"),
        ([[[0, 1]]], "integer tensor"),
        ([torch.zeros(1, 8, 8, dtype=torch.int64)], "one size"),
        ([torch.zeros(8, 8, dtype=torch.int64), torch.zeros(4, 8, dtype=torch.int64)], "one size"),
        ([torch.zeros(8, 6, dtype=torch.int64)], "multiples of 4"),
        ([torch.full((8, 8), 5)], "from 0 to 4"),
        ([torch.full((8, 8), -1)], "from 0 to 4"),
    ],
)
def test_wrong_maps_are_refused(inputs, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _semantic().prepare(inputs)
