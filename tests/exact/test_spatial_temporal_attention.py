"""arXiv 2304.03869, exact checks 1 to 8 of the sheet: the guide on networks of random weights, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.attention import mix_contexts, save_contexts
from mezzotint.core import VP, Condition, VDenoiser, uniform_t
from mezzotint.guide import CFG, Box, Disc, SpaceTime
from mezzotint.guide.spacetime import mixed
from mezzotint.nn import Attention, DiT, UNet
from mezzotint.sample import DDIM, DPMSolverPP, Heun

WHOLE = Box(0, 0, 1, 1)
GRID = uniform_t(VP(), 4)


def told(draw_: Tensor) -> Condition:
    return Condition({"text": draw_}, {"text": torch.full((1, *draw_.shape[1:]), 0.1, dtype=torch.float64)})


@pytest.fixture(params=["unet", "dit"])
def d(request, alive):
    unet = {"channels": 8, "blocks": 1, "head_dim": 8, "context": 6}
    net = UNet(2, **unet) if request.param == "unet" else DiT(2, patch=2, width=16, depth=2, heads=2, context=6)
    return VDenoiser(alive(net), VP())


@pytest.fixture
def x(draw):
    return draw(3, 2, 8, 12)


@pytest.fixture
def c(draw):
    return told(draw(3, 3, 6))


@pytest.fixture
def objects(draw):
    return [told(draw(1, 3, 6)), told(draw(3, 4, 6))]


def table(value: float, objects: int = 2) -> Tensor:
    return torch.full((objects, 4), value, dtype=torch.float64)


@pytest.mark.parametrize("mode", ["convex", "boost"])
@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(), Heun()])
def test_weights_of_zero_are_plain_guidance_bit_for_bit(d, x, c, objects, mode, sampler) -> None:
    guide = SpaceTime(objects, [Disc(0.3, 0.5), WHOLE], table(0.0), GRID, w=3.0, mode=mode)
    plain = sampler(CFG(3.0)(d), x, grid=GRID, c=c)
    assert torch.equal(sampler(guide(d), x, grid=GRID, c=c), plain)
    touched = SpaceTime(objects, [Disc(0.3, 0.5), WHOLE], table(0.5), GRID, w=3.0, mode=mode)
    assert not torch.allclose(sampler(touched(d), x, grid=GRID, c=c), plain, atol=1e-4)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in d.modules())


def test_the_whole_image_with_weight_one_is_the_objects_caption_alone(d, x, c, objects) -> None:
    guide = SpaceTime(objects[1:], [WHOLE], table(1.0, 1), GRID, w=3.0)
    alone = DDIM()(CFG(3.0)(d), x, grid=GRID, c=objects[1])
    assert torch.allclose(DDIM()(guide(d), x, grid=GRID, c=c), alone, atol=1e-10, rtol=0)


def test_the_same_caption_in_convex_mode_changes_nothing(d, x, c) -> None:
    guide = SpaceTime([c, c], [Disc(0.3, 0.5), Disc(0.4, 0.5)], table(0.8), GRID, w=3.0)
    plain = DDIM()(CFG(3.0)(d), x, grid=GRID, c=c)
    assert torch.allclose(DDIM()(guide(d), x, grid=GRID, c=c), plain, atol=1e-10, rtol=0)


def test_the_same_caption_in_boost_mode_scales_the_layers_guidance_inside_the_mask(alive, draw) -> None:
    layer, h, text = alive(Attention(8, heads=2, context=6)), draw(1, 12, 8), draw(1, 3, 6)
    null = torch.zeros_like(text)
    layer.site = "a.cross"
    with save_contexts(layer) as saved:
        layer(h, text)
    mask = Disc(0.5, 0.5, 0.3).mask(3, 4).flatten().view(1, 1, 12, 1)

    def mix(call, own: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        empty, mine = own.chunk(2)
        return torch.cat([empty, mixed("boost", mine, empty, others, 1.7 * mask)])

    with mix_contexts(layer, [saved], mix, rows=slice(1, None)):
        out = layer(torch.cat([h, h]), torch.cat([null, text]), None, (3, 4))
    g, empty = layer(h, text), layer(h, null)
    inside = mask.bool().flatten()
    assert 0 < inside.sum() < 12
    assert torch.allclose(out[1:, inside] - empty[:, inside], 2.7 * (g - empty)[:, inside], atol=1e-12, rtol=0)
    assert torch.equal(out[1:, ~inside], g[:, ~inside]) and torch.equal(out[:1], empty)


@pytest.mark.parametrize("mode", ["convex", "boost"])
def test_outside_the_masks_a_layer_keeps_every_bit(draw, mode) -> None:
    own, null, others = draw(2, 12, 8), draw(2, 12, 8), [draw(2, 12, 8), draw(2, 12, 8)]
    masks = torch.stack([Disc(0.2, 0.2, 0.3).mask(3, 4), Disc(0.3, 0.3, 0.3).mask(3, 4)]).view(2, 1, 12, 1)
    made = mixed(mode, own, null, others, 0.9 * masks)
    outside = (masks.sum(0) == 0).flatten()
    assert 0 < outside.sum() < 12 and (masks.sum(0) == 2).any()
    assert torch.equal(made[:, outside], own[:, outside])
    assert not torch.isclose(made[:, ~outside], own[:, ~outside]).any(dim=2).all()


def test_convex_coefficients_sum_to_one_where_regions_overlap() -> None:
    amounts = torch.stack([Disc(0.3, 0.5, 0.3).mask(16, 16), Disc(0.5, 0.5, 0.3, 0.1).mask(16, 16)]).view(2, 1, 256, 1)
    amounts = torch.tensor([0.9, 0.7], dtype=torch.float64).view(2, 1, 1, 1) * amounts
    one = torch.ones(1, 256, 1, dtype=torch.float64)
    parts = [mixed("convex", own, None, rest, amounts) for own, rest in (
        (one, [0 * one, 0 * one]), (0 * one, [one, 0 * one]), (0 * one, [0 * one, one]))]  # fmt: skip
    assert (amounts.sum(0) > 1).any()
    assert torch.allclose(torch.stack(parts).sum(0), one, atol=1e-12, rtol=0)
    assert all(bool(((p >= -1e-12) & (p <= 1)).all()) for p in parts)


def test_a_disc_has_its_area_and_its_place() -> None:
    assert abs(float(Disc(0.5, 0.5).mask(32, 32).mean()) - torch.pi * 0.04) < 0.02
    right = Disc(0.8, 0.4, 0.15).mask(10, 40)  # a wide image: x counts columns
    rows, columns = right.nonzero().double().mean(0).tolist()
    assert abs((rows + 0.5) / 10 - 0.4) < 0.02 and abs((columns + 0.5) / 40 - 0.8) < 0.02
    soft = Disc(0.5, 0.5, 0.2, 0.1).mask(64, 64)
    assert bool((soft >= Disc(0.5, 0.5).mask(64, 64)).all()) and 0 < soft.min() < 1e-4


@pytest.mark.parametrize("mode", ["convex", "boost"])
def test_the_gradient_to_the_weights_is_that_of_finite_differences(d, x, c, objects, mode, draw) -> None:
    pull, grid = draw(*x.shape), uniform_t(VP(), 3)
    regions = [[Disc(0.3, 0.5), Disc(0.6, 0.2), Disc(0.5, 0.5)], Disc(0.7, 0.5)]

    def loss(weights: Tensor, steps: int = 3) -> Tensor:
        guide = SpaceTime(objects, regions, weights, grid, w=2.0, mode=mode)
        return (pull * DDIM()(guide(d), x, grid=grid[: steps + 1], c=c)).sum()

    weights = (0.2 + 0.05 * draw(3, 2, 3)).requires_grad_()
    (made,) = torch.autograd.grad(loss(weights), weights)
    for place in ((0, 0, 0), (1, 1, 1), (2, 0, 2)):
        step = torch.zeros_like(weights)
        step[place] = 1e-5
        with torch.no_grad():
            wanted = (loss(weights + step) - loss(weights - step)) / 2e-5
        assert abs(float(made[place] / wanted) - 1) < 1e-3
    (early,) = torch.autograd.grad(loss(weights, 2), weights)
    assert bool((early[..., :2] != 0).all()) and bool((early[..., 2] == 0).all())


def test_an_empty_region_has_no_gradient(d, x, c, objects) -> None:
    weights = table(0.5).requires_grad_()
    guide = SpaceTime(objects, [Disc(0.0, 0.0, 0.001), Disc(0.7, 0.5)], weights, GRID, w=2.0)
    (made,) = torch.autograd.grad(DDIM()(guide(d), x, grid=GRID, c=c).square().sum(), weights)
    assert bool((made[0] == 0).all()) and bool((made[1] != 0).all())


@pytest.mark.parametrize("mode", ["convex", "boost"])
def test_the_null_half_is_untouched(d, x, c, objects, mode) -> None:
    t = torch.full((3,), 0.6, dtype=torch.float64)
    guide = SpaceTime(objects, [Disc(0.3, 0.5), WHOLE], table(0.5), GRID, w=3.0, mode=mode)
    guided, cond = guide(d).pair(x, t, c)
    null = (guided.x0 - 3.0 * cond.x0) / (1 - 3.0)
    assert torch.allclose(null, d(x, t, c.null()).x0, atol=1e-12, rtol=0)
    assert not torch.allclose(cond.x0, d(x, t, c).x0, atol=1e-4)


def test_one_sample_of_a_batch_is_as_if_alone(d, x, c, objects) -> None:
    regions = [[Disc(0.3, 0.5), Disc(0.6, 0.2), Disc(0.5, 0.5)], Disc(0.7, 0.5)]
    weights = torch.linspace(0, 1, 24, dtype=torch.float64).view(3, 2, 4)
    whole = DDIM()(SpaceTime(objects, regions, weights, GRID, w=2.0)(d), x, grid=GRID, c=c)
    one = SpaceTime([objects[0], objects[1].rows([1])], [Disc(0.6, 0.2), Disc(0.7, 0.5)], weights[1], GRID, w=2.0)
    alone = DDIM()(one(d), x[1:2], grid=GRID, c=c.rows([1]))
    assert torch.allclose(whole[1:2], alone, atol=1e-12, rtol=0)


def test_each_step_has_its_own_weight_and_a_stage_that_of_its_step(d, x, c, objects) -> None:
    """Weights in the last step only leave the state before it; Heun's second stage is of the next node's step."""
    weights = table(0.0)
    weights[:, 3] = 0.9
    run = SpaceTime(objects, [WHOLE, WHOLE], weights, GRID, w=2.0)(d)
    plain = list(DDIM().trajectory(CFG(2.0)(d), x, grid=GRID, c=c))
    made = list(DDIM().trajectory(run, x, grid=GRID, c=c))
    assert [torch.equal(a.x, b.x) for a, b in zip(plain, made, strict=True)] == [True, True, True, False]
    for t, j in ((1.0, 0), (0.9, 1 - 1), (0.75, 1), (0.3, 2), (0.25, 3), (0.0, 3)):
        assert run._step(torch.full((3,), t)) == j
