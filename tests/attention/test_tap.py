from __future__ import annotations

import pytest
import torch

from mezzotint.attention import explicit, tap
from mezzotint.nn import Attention, DiT, UNet, find_sites, name_sites

CONFIG = {"channels": 8, "blocks": 1, "head_dim": 8, "context": 6}


@pytest.fixture
def net(alive) -> UNet:
    return alive(UNet(2, **CONFIG))


def _inputs(draw, batch: int = 2):
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]]).bool()[:batch]
    return draw(batch, 2, 8, 8), draw(batch).abs() * 300, {"text": draw(batch, 3, 6), "text_mask": mask}


def test_the_recorded_map_is_the_softmax(alive, draw) -> None:
    layer = alive(Attention(8, heads=2, context=6))
    name_sites(torch.nn.ModuleDict({"a": layer}))
    x, y = draw(1, 4, 8), draw(1, 3, 6)
    q = layer.to_q(x).unflatten(-1, (2, 4)).transpose(1, 2)
    k = layer.to_k(y).unflatten(-1, (2, 4)).transpose(1, 2)
    maps = torch.softmax(q @ k.transpose(-1, -2) / 2.0, -1)
    with tap(layer, heads=True) as every, tap(layer) as mean:
        layer(x, y)
    assert torch.allclose(every["a"], maps, atol=1e-12, rtol=0)
    assert torch.allclose(mean["a"], maps.mean(1), atol=1e-12, rtol=0)


def test_maps_sum_to_one_and_leave_padding_out(net, draw) -> None:
    with tap(net) as record:
        net(*_inputs(draw))
    assert list(record) == list(record.sites) and set(record) == set(find_sites(net))
    for site in record:
        assert torch.allclose(record[site].sum(-1), torch.ones(()).double(), atol=1e-12, rtol=0)
        if site.endswith("cross"):
            assert not record[site][1, :, 2].any() and record[site][0, :, 2].all()


def test_a_tapped_network_returns_what_an_untapped_one_does(net, draw) -> None:
    inputs = _inputs(draw)
    wanted = net(*inputs)
    with tap(net, "up.*"):
        assert torch.allclose(net(*inputs), wanted, atol=1e-10, rtol=0)
    assert torch.equal(net(*inputs), wanted)


@pytest.mark.parametrize("heads", [False, True])
def test_the_streaming_average_is_the_mean_of_all_calls(net, draw, heads) -> None:
    site = "mid.1.block.self"
    with tap(net, site, heads=heads) as mean, tap(net, site, heads=heads, average=False) as every:
        for _ in range(5):
            net(*_inputs(draw))
    assert every[site].shape[0] == mean.calls[site] == 5
    assert torch.allclose(mean[site], every[site].mean(0), atol=1e-12, rtol=0)
    assert every[site].std(0).max() > 1e-3


def test_only_the_chosen_sites_are_recorded_and_only_inside_the_block(net, draw) -> None:
    with tap(net, "mid.*.cross|down.*.self") as record:
        net(*_inputs(draw))
    seen = dict(record.calls)
    net(*_inputs(draw))
    assert record.calls == seen == {"down.2.1.block.self": 1, "mid.1.block.cross": 1}


def test_an_error_in_the_block_closes_the_tap(net, draw) -> None:
    with pytest.raises(KeyError), tap(net) as record:
        raise KeyError("stop")
    net(*_inputs(draw))
    assert len(record) == 0


def test_gradients_reach_the_maps_only_on_request(net, draw) -> None:
    x, time, c = _inputs(draw)
    x.requires_grad_()
    with tap(net, "mid.*.cross", grad=True) as kept, tap(net, "mid.*.cross") as cut:
        net(x, time, c)
    (grad,) = torch.autograd.grad(kept["mid.1.block.cross"][..., 0].sum(), x)
    assert grad.abs().max() > 1e-9
    assert not cut["mid.1.block.cross"].requires_grad


def test_explicit_attention_can_be_differentiated_twice(net, draw) -> None:
    x, time, c = _inputs(draw, batch=1)
    direction = draw(1, 2, 8, 8)

    def slope(at: torch.Tensor) -> torch.Tensor:
        at = at.detach().requires_grad_()
        (grad,) = torch.autograd.grad(net(at, time, c).square().sum(), at, create_graph=True)
        return grad

    with explicit(net):
        at = x.detach().requires_grad_()
        (grad,) = torch.autograd.grad(net(at, time, c).square().sum(), at, create_graph=True)
        (second,) = torch.autograd.grad((grad * direction).sum(), at)
        h = 1e-5
        wanted = ((slope(x + h * direction) - slope(x - h * direction)) / (2 * h)).detach()
    assert torch.allclose(second, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))


def test_the_same_tap_serves_a_transformer(alive, draw) -> None:
    net = alive(DiT(2, patch=2, width=16, depth=2, heads=2, context=6))
    with tap(net, "*.cross") as record:
        net(*_inputs(draw))
    assert record.sites == ("blocks.0.cross", "blocks.1.cross") and record["blocks.0.cross"].shape == (2, 16, 3)


def test_wrong_use_is_refused(net, draw) -> None:
    with pytest.raises(ValueError, match="no attention site matches"), tap(net, "encoder.*"):
        pass
    with tap(net, "mid.*") as record:
        net(*_inputs(draw))
        with pytest.raises(ValueError, match="the tap averages over calls.*average=False"):
            net(*_inputs(draw, batch=1))
    with pytest.raises(ValueError, match=r"nothing was recorded at 'up'; recorded sites: mid\.1"):
        record["up"]
