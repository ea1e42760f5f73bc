"""Cross-attention to several contexts in one run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.attention import mix_contexts, save_contexts, tap
from mezzotint.nn import Attention, DiT, UNet

CONFIG = {"channels": 8, "blocks": 1, "head_dim": 8, "context": 6}


@pytest.fixture(params=["unet", "dit"])
def net(request, alive):
    return alive(
        UNet(2, **CONFIG) if request.param == "unet" else DiT(2, patch=2, width=16, depth=2, heads=2, context=6)
    )


@pytest.fixture
def inputs(draw):
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()
    return draw(2, 2, 8, 8), torch.tensor([20.0, 700.0]).double(), {"text": draw(2, 3, 6), "text_mask": mask}


@pytest.fixture
def other(draw):
    return {"text": draw(2, 4, 6), "text_mask": torch.tensor([[1, 0, 0, 0], [1, 1, 1, 0]]).bool()}


def test_nothing_of_the_others_is_nothing_and_all_of_one_is_that_prompt(net, inputs, other) -> None:
    x, time, _ = inputs
    plain, wanted = net(*inputs), net(x, time, other)
    with save_contexts(net) as saved:
        net(x, time, other)
    with mix_contexts(net, [saved], lambda call, own, others: own):
        assert torch.equal(net(*inputs), plain)
    with mix_contexts(net, [saved], lambda call, own, others: others[0]):
        assert torch.allclose(net(*inputs), wanted, atol=1e-12, rtol=0)
    assert not torch.allclose(plain, wanted, atol=1e-4)
    assert torch.equal(net(*inputs), plain)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_a_region_of_one_layer_is_mixed_and_the_rest_stays(alive, draw) -> None:
    layer, x, own, other = alive(Attention(8, heads=2, context=6)), draw(1, 12, 8), draw(1, 3, 6), draw(1, 3, 6)
    layer.site = "a.cross"
    with save_contexts(layer) as saved:
        layer(x, other)
    region = torch.zeros(12, 1, dtype=torch.float64)
    region[5:7] = 0.25
    seen = []

    def mix(call, mine: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        seen.append((call.site, call.cross, call.grid, call.index))
        return torch.where(region > 0, mine + region * (others[0] - mine), mine)

    with mix_contexts(layer, [saved], mix):
        out = layer(x, own, None, (3, 4))
    a, b = layer(x, own), layer(x, other)
    assert torch.equal(out[:, :5], a[:, :5]) and torch.equal(out[:, 7:], a[:, 7:])
    assert torch.allclose(out[:, 5:7], 0.75 * a[:, 5:7] + 0.25 * b[:, 5:7], atol=1e-12, rtol=0)
    assert seen == [("a.cross", True, (3, 4), 0)]


def test_the_conditional_rows_alone_are_run_for_the_others(net, inputs, other) -> None:
    x, time, _ = inputs
    plain = net(*inputs)
    with save_contexts(net) as saved:
        net(x[1:], time[1:], {key: value[1:] for key, value in other.items()})

    def mix(call, own: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        assert others[0].shape == own[1:].shape
        return torch.cat([own[:1], others[0]])

    with mix_contexts(net, [saved], mix, rows=slice(1, None)), tap(net, "*cross") as record:
        mixed = net(*inputs)
    assert torch.allclose(mixed[0], plain[0], atol=1e-12, rtol=0)
    assert torch.allclose(mixed[1], net(x, time, other)[1], atol=1e-12, rtol=0)
    assert set(record.calls.values()) == {1}  # taps see the layer's own context alone
    assert all(record[site].shape[-1] == 3 for site in record)


def test_weights_of_a_mix_are_optimised_through_it(net, inputs, other) -> None:
    x, time, _ = inputs
    with save_contexts(net) as saved:
        net(x, time, other)
    weights = torch.full((2,), 0.3, dtype=torch.float64, requires_grad=True)

    def loss(w: Tensor) -> Tensor:
        with mix_contexts(net, [saved], lambda call, own, others: own + w[call.index] * (others[0] - own)):
            return sum(net(*inputs).square().sum() for _ in range(2))

    (grad,) = torch.autograd.grad(loss(weights), weights)
    for i in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[i] = 1e-6
        with torch.no_grad():
            slope = (loss(weights + step) - loss(weights - step)) / 2e-6
        assert abs(float(slope - grad[i])) < 1e-4 * abs(float(slope)) + 1e-7
    assert grad.abs().min() > 1e-6


def test_what_does_not_fit_is_refused(net, inputs, other) -> None:
    x, time, _ = inputs
    plain = net(*inputs)
    with save_contexts(net) as saved:
        net(x, time, other)
    first = next(iter(saved.given))
    with pytest.raises(ValueError, match="is self-attention and has no context"), save_contexts(net, "*self"):
        net(*inputs)
    with pytest.raises(ValueError, match="got no contexts"), mix_contexts(net, [], lambda call, own, others: own):
        pass
    del saved.given[first]
    with pytest.raises(ValueError, match=f"contexts 0 has nothing for '{first}'"):
        with mix_contexts(net, [saved], lambda call, own, others: own):
            pass
    with save_contexts(net) as saved:
        net(x, time, other)
    with pytest.raises(ValueError, match="mix gave"), mix_contexts(net, [saved], lambda call, own, others: own[:1]):
        net(*inputs)
    with pytest.raises(ValueError, match=r"rows=slice\(2, None, None\) of a batch of 2 .* rows that it has"):
        with mix_contexts(net, [saved], lambda call, own, others: own, rows=slice(2, None)):
            net(*inputs)
    with pytest.raises(ValueError, match="contexts of 2 rows .* mixed into 1 rows"):
        with mix_contexts(net, [saved], lambda call, own, others: own, rows=[0]):
            net(*inputs)
    with pytest.raises(ValueError, match="no cross-attention"), save_contexts(UNet(2, channels=8, blocks=1)):
        pass
    assert torch.equal(net(*inputs), plain)
