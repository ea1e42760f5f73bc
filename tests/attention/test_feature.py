"""Feature taps: which modules are a decoder, and what they put out."""

from __future__ import annotations

import threading

import pytest
import torch

from mezzotint.attention import as_map, decoder_places, decoder_sites, explicit, features, rescale, self_sites
from mezzotint.nn import DiT, UNet, find_sites

CONFIG = {"channels": 8, "blocks": 1, "head_dim": 8, "context": 6}


@pytest.fixture
def net(alive) -> UNet:
    return alive(UNet(2, **CONFIG))


@pytest.fixture
def inputs(draw):
    return draw(2, 2, 8, 8), torch.tensor([20.0, 700.0]).double(), {"text": draw(2, 3, 6)}


def test_the_last_activation_is_what_the_head_reads(net, inputs) -> None:
    with features(net) as seen:
        out = net(*inputs)
    places = list(decoder_places(net))
    assert list(seen) == places == ["up.0.1", "up.1.2", "up.2.0", "up.3.0"]
    assert [tuple(seen[name].shape[2:]) for name in places] == [(4, 4), (8, 8), (8, 8), (8, 8)]
    made = net.head(torch.nn.functional.silu(net.norm(seen[places[-1]])))
    assert torch.allclose(made, out, atol=1e-12, rtol=0)


def test_a_transformer_gives_tokens_that_are_laid_out_row_by_row(alive, inputs, draw) -> None:
    net = alive(DiT(2, patch=2, width=16, depth=4, heads=2, context=6))
    x = draw(2, 2, 8, 12)
    with features(net) as seen:
        net(x, inputs[1], inputs[2])
    assert list(seen) == ["blocks.2", "blocks.3"] == [s.removesuffix(".self") for s in decoder_sites(net)]
    tokens = seen["blocks.3"]
    maps = as_map(tokens, 8, 12)
    assert maps.shape == (2, 16, 4, 6) and torch.equal(maps[:, :, 1, 2], tokens[:, 1 * 6 + 2])
    assert torch.equal(as_map(maps, 8, 12), maps)
    for tokens_, size in ((23, (8, 12)), (24, (8, 8)), (12, (8, 8)), (15, (8, 32)), (7, (8, 8))):
        with pytest.raises(ValueError, match=f"{tokens_} tokens are no image"):
            as_map(torch.zeros(1, tokens_, 4), *size)
    assert as_map(torch.zeros(1, 6, 4), 5, 9).shape == (1, 4, 2, 3)  # halved twice, rounding up


def test_decoder_sites_are_those_on_the_way_up(net) -> None:
    own = decoder_sites(net)
    assert own and set(own) == {s for s in find_sites(net) if s.startswith("up.") and s.endswith("self")}
    assert set(own) < set(self_sites(net))
    with rescale(net, 2.0, "|".join(own)) as edit:
        assert edit.factor == 2.0


def test_what_checkpointing_computes_again_is_no_call(alive, inputs) -> None:
    net = alive(UNet(2, **CONFIG, checkpoint=True))
    x = inputs[0].clone().requires_grad_()
    with features(net, "mid.1.block", keep="every", grad=True) as seen:
        out = net(x, *inputs[1:])
        out.sum().backward()
        assert seen.calls == {"mid.1.block": 1} and len(seen["mid.1.block"]) == 1
        net(x, *inputs[1:])
    assert seen.calls == {"mid.1.block": 2}


def test_last_mean_and_every_call(net, inputs, draw) -> None:
    _, time, c = inputs
    runs = [draw(2, 2, 8, 8) for _ in range(3)]
    with (
        features(net, "up.3.0") as last,
        features(net, "up.3.0", keep="mean") as mean,
        features(net, "up.3.0", keep="every") as every,
        features(net, "up.3.0", rows=[1], reduce=lambda name, f: f.mean((2, 3))) as part,
    ):
        for run in runs:
            net(run, time, c)
    f = every["up.3.0"]
    assert f.shape[0] == last.calls["up.3.0"] == 3 and f.std(0).max() > 1e-3
    assert torch.equal(last["up.3.0"], f[-1])
    assert torch.allclose(mean["up.3.0"], f.mean(0), atol=1e-12, rtol=0)
    assert torch.allclose(part["up.3.0"], f[-1, 1:].mean((2, 3)), atol=1e-12, rtol=0)


def test_nothing_changes_and_nothing_stays_also_after_an_error(net, inputs) -> None:
    plain = net(*inputs)
    with pytest.raises(KeyError), features(net) as seen:
        assert torch.equal(net(*inputs), plain)
        raise KeyError("stop")
    calls = dict(seen.calls)
    net(*inputs)
    assert seen.calls == calls and not any(m._forward_hooks for m in net.modules())


def test_another_thread_is_not_tapped(net, inputs) -> None:
    with features(net) as seen:
        other = threading.Thread(target=lambda: net(*inputs))
        other.start()
        other.join()
        assert len(seen) == 0
        net(*inputs)
    assert len(seen) == 4


def test_gradients_of_activations_once_and_twice(net, inputs) -> None:
    x, time, c = inputs[0][:1], inputs[1][:1], {"text": inputs[2]["text"][:1]}
    direction = torch.ones_like(x)

    def slope(at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        at = at.detach().requires_grad_()
        with features(net, "up.1.2", grad=True) as seen, explicit(net):
            net(at, time, c)
        return torch.autograd.grad(seen["up.1.2"].square().sum(), at, create_graph=True)[0], at

    grad, at = slope(x)
    (second,) = torch.autograd.grad((grad * direction).sum(), at)
    h = 1e-5
    wanted = ((slope(x + h * direction)[0] - slope(x - h * direction)[0]) / (2 * h)).detach()
    assert wanted.abs().max() > 1e-6
    assert torch.allclose(second, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    with features(net, "up.1.2") as cut:
        net(at, time, c)
    assert not cut["up.1.2"].requires_grad


def test_wrong_use_is_refused(net, inputs, unchecked) -> None:
    with pytest.raises(ValueError, match="no module called 'up.9.0' to tap; there are: embed"), features(net, "up.9.0"):
        pass
    with pytest.raises(ValueError, match=r"'up\.0'.*only holds others and puts out nothing"), features(net, ["up.0"]):
        pass
    with pytest.raises(ValueError, match="expected 'last', 'mean' or 'every'"), features(net, keep="all"):  # type: ignore[arg-type]
        pass
    with pytest.raises(ValueError, match="decoder of Linear is not known"), features(torch.nn.Linear(1, 1)):
        pass
    with features(net, "up.3.0", keep="mean") as seen:
        with pytest.raises(ValueError, match="no activation was seen at 'up.3.0'; seen: none"):
            seen["up.3.0"]
        net(*inputs)
        with pytest.raises(ValueError, match="averages over calls.*keep='every'"):
            net(inputs[0][:1], inputs[1][:1], {"text": inputs[2]["text"][:1]})
