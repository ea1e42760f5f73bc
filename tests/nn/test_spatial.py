from __future__ import annotations

import torch

from mezzotint.nn.spatial import GEGLU, SelfAttention2d, SpatialTransformer


def test_a_fresh_transformer_is_the_identity_until_one_gradient_step(draw) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = SpatialTransformer(8, heads=2, context=6).double()
    x, y, z = draw(2, 8, 4, 4), draw(2, 3, 6), draw(2, 3, 6)
    assert torch.equal(block(x, y), x)
    assert torch.equal(block(x, y), block(x, z))
    (block(x, y) - draw(2, 8, 4, 4)).square().mean().backward()
    with torch.no_grad():
        for p in block.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
    assert (block(x, y) - x).abs().max() > 1e-4
    assert (block(x, y) - block(x, z)).abs().max() > 1e-6


def test_a_fresh_self_attention_is_the_identity(draw) -> None:
    x = draw(2, 8, 4, 4)
    assert torch.equal(SelfAttention2d(8, heads=2).double()(x), x)


def test_attention_over_places_commutes_with_their_permutation(alive, draw) -> None:
    # Attention and 1x1 convolutions know no places: moving the pixels moves the result.
    block, x, y = alive(SpatialTransformer(8, heads=2, context=6)), draw(1, 8, 3, 5), draw(1, 2, 6)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(3))

    def moved(a):
        return a.flatten(2)[:, :, order].unflatten(2, (3, 5))

    assert torch.allclose(block(moved(x), y), moved(block(x, y)), atol=1e-12, rtol=0)
    assert not torch.allclose(block(x, y), x, atol=1e-2)


def test_geglu_is_the_formula(alive, draw) -> None:
    layer, x = alive(GEGLU(3)), draw(1, 2, 3)
    both = x @ layer.inner.weight.T + layer.inner.bias
    a, b = both[..., :12], both[..., 12:]
    gelu = b * 0.5 * (1 + torch.erf(b / 2**0.5))
    assert torch.allclose(layer(x), (a * gelu) @ layer.outer.weight.T + layer.outer.bias, atol=1e-12, rtol=0)
