from __future__ import annotations

import copy
import subprocess
import sys
import threading

import pytest
import torch
import torch.nn.functional as F

from mezzotint.nn import Attention, Call, Handler, UNet, attend, find_sites, handling, name_sites


class Explicit(Handler):
    explicit = True


class Seen(Handler):
    """Keep the calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def tokens(self, call, q, k, v):
        self.calls.append(call)
        return q, k, v


@pytest.fixture
def fused(monkeypatch) -> list[int]:
    """Count the calls of the fused kernel in `fused[0]`."""
    count, kernel = [0], F.scaled_dot_product_attention

    def counted(*args, **kwargs):
        count[0] += 1
        return kernel(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    return count


def _cross(alive) -> Attention:
    layer = alive(Attention(16, heads=4, context=6))
    name_sites(layer)
    return layer


def test_attention_is_the_formula_head_by_head(alive, draw) -> None:
    layer, x, y = _cross(alive), draw(2, 5, 16), draw(2, 3, 6)
    q, k, v = layer.to_q(x), layer.to_k(y), layer.to_v(y)
    heads = []
    for h in range(4):
        part = slice(4 * h, 4 * h + 4)
        weights = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) / 2.0, dim=-1)
        heads.append(weights @ v[..., part])
    assert torch.allclose(layer(x, y), layer.to_out(torch.cat(heads, -1)), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("masked", [False, True])
def test_the_explicit_path_equals_the_fused_one(alive, draw, dtype, tolerance, masked) -> None:
    layer, x, y = _cross(alive).to(dtype), draw(3, 5, 16).to(dtype), draw(3, 4, 6).to(dtype)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]]).bool() if masked else None
    plain = layer(x, y, mask)
    with handling(layer, Explicit()):
        assert torch.allclose(layer(x, y, mask), plain, atol=tolerance, rtol=0)


@pytest.mark.parametrize("explicit", [False, True])
def test_a_mask_hides_padding(alive, draw, explicit) -> None:
    layer, x, y = _cross(alive), draw(2, 5, 16), draw(2, 4, 6)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]]).bool()
    changed = torch.where(mask[..., None], y, 100 * draw(2, 4, 6))

    def run(*args):
        if not explicit:
            return layer(*args)
        with handling(layer, Explicit()):
            return layer(*args)

    assert torch.allclose(run(x, y, mask), run(x, changed, mask), atol=1e-12, rtol=0)
    assert torch.allclose(run(x, y, mask)[:1], run(x[:1], y[:1, :2]), atol=1e-12, rtol=0)
    assert not torch.allclose(run(x, y), run(x, changed), atol=1e-3)


@pytest.mark.parametrize("explicit", [False, True])
def test_a_sample_without_real_keys_mixes_nothing_and_stays_finite(alive, draw, explicit) -> None:
    layer, x, y = _cross(alive), draw(2, 5, 16), draw(2, 3, 6).requires_grad_()
    mask = torch.tensor([[0, 0, 0], [1, 1, 1]]).bool()
    if explicit:
        with handling(layer, Explicit()):
            out = layer(x, y, mask)
    else:
        out = layer(x, y, mask)
    assert torch.allclose(out[0], layer.to_out.bias.expand(5, 16), atol=1e-12, rtol=0)
    assert torch.allclose(out[1], layer(x, y)[1], atol=1e-12, rtol=0)
    (grad,) = torch.autograd.grad(out.square().sum(), y)
    assert grad.isfinite().all() and not grad[0].any() and grad[1].any()


def test_untapped_layers_stay_fused_while_another_is_tapped(alive, draw, fused) -> None:
    net = alive(UNet(2, channels=8, blocks=1, head_dim=8, context=4))
    inputs = (draw(1, 2, 4, 4), draw(1), {"text": draw(1, 3, 4)})
    sites = list(find_sites(net))
    net(*inputs)
    assert fused[0] == len(sites) == 8  # four transformers, self and cross
    for handler, kept in ((Explicit(), len(sites) - 1), (Handler(), len(sites))):
        fused[0] = 0
        with handling(net, handler, sites[3]) as names:
            assert names == (sites[3],)
            net(*inputs)
        assert fused[0] == kept
    fused[0] = 0
    net(*inputs)
    assert fused[0] == len(sites)


def test_a_handler_is_closed_also_on_error(fused) -> None:
    layer = Attention(4, heads=1)
    with pytest.raises(RuntimeError, match="stop"), handling(layer, Explicit()):
        raise RuntimeError("stop")
    layer(torch.zeros(1, 2, 4))
    assert fused[0] == 1


def test_blocks_may_close_in_any_order() -> None:
    layer, first, second = Attention(4, heads=1), Seen(), Seen()
    a, b = handling(layer, first), handling(layer, second)
    a.__enter__()
    b.__enter__()
    a.__exit__(None, None, None)
    layer(torch.zeros(1, 2, 4))
    b.__exit__(None, None, None)
    layer(torch.zeros(1, 2, 4))
    assert (len(first.calls), len(second.calls)) == (0, 1)


def test_handlers_act_in_the_order_in_which_they_were_opened(draw) -> None:
    class Set(Handler):
        def __init__(self, value: float) -> None:
            self.value = value

        def tokens(self, call, q, k, v):
            return q, k, torch.full_like(v, self.value)

    layer = Attention(4, heads=1).double()
    torch.nn.init.eye_(layer.to_out.weight)
    torch.nn.init.zeros_(layer.to_out.bias)
    with handling(layer, Set(1.0)), handling(layer, Set(2.0)):
        assert torch.allclose(layer(draw(1, 3, 4)), torch.tensor(2.0).double())


def test_a_handler_holds_for_its_own_thread_alone() -> None:
    layer, seen = Attention(4, heads=1), Seen()
    with handling(layer, seen):
        other = threading.Thread(target=layer, args=(torch.zeros(1, 2, 4),))
        other.start()
        other.join()
        assert not seen.calls
        layer(torch.zeros(1, 2, 4))
    assert len(seen.calls) == 1


def test_a_call_is_described(alive, draw) -> None:
    net, seen = alive(UNet(2, channels=8, blocks=1, head_dim=8, context=4)), Seen()
    with handling(net, seen, "mid.*"):
        for _ in range(2):
            net(draw(1, 2, 4, 8), draw(1), {"text": draw(1, 3, 4)})
    assert seen.calls == [
        Call("mid.1.block.self", False, (2, 4), 0),
        Call("mid.1.block.cross", True, (2, 4), 0),
        Call("mid.1.block.self", False, (2, 4), 1),
        Call("mid.1.block.cross", True, (2, 4), 1),
    ]


def test_sites_keep_their_names_inside_a_wrapper_and_in_a_copy() -> None:
    net = UNet(2, channels=8, blocks=1)
    with handling(net, Explicit()):
        copied = copy.deepcopy(net)
    assert list(find_sites(torch.nn.Sequential(copied))) == list(find_sites(net))


def test_unknown_and_ambiguous_sites_are_refused() -> None:
    net = UNet(2, channels=8, blocks=1)
    with pytest.raises(ValueError, match=r"no attention site matches 'nowhere'.*mid\.1\.attention"):
        find_sites(net, "nowhere")
    with (
        pytest.raises(ValueError, match="more than one backbone"),
        handling(torch.nn.ModuleList([net, UNet(2, channels=8, blocks=1)]), Explicit()),
    ):
        pass


def test_logits_of_half_precision_are_softmaxed_in_float32() -> None:
    kept = []

    class Look(Explicit):
        def maps(self, call, maps):
            kept.append(maps.dtype)
            return maps

    layer = Attention(4, heads=1).bfloat16()
    with handling(layer, Look()):
        assert layer(torch.ones(1, 2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert kept == [torch.float32]


def test_context_and_kind_must_agree() -> None:
    with pytest.raises(ValueError, match="cross-attention"):
        Attention(4, heads=1, context=3)(torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match="self-attention"):
        Attention(4, heads=1)(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))
    with pytest.raises(ValueError, match="3 heads do not divide"):
        Attention(4, heads=3)


def test_attend_takes_a_causal_mask(draw) -> None:
    q, k, v = draw(1, 2, 4, 3), draw(1, 2, 4, 3), draw(1, 2, 4, 3)
    causal = torch.ones(4, 4, dtype=torch.bool).tril()[None, None]
    assert torch.allclose(attend(q, k, v, causal)[:, :, :1], v[:, :, :1], atol=1e-12, rtol=0)


def test_an_untapped_network_compiles_in_one_graph() -> None:
    # In a process of its own: the type checks of the test run cannot be traced.
    program = """
import torch
from mezzotint.nn import UNet
net = UNet(2, channels=8, blocks=1, classes=3, context=4)
torch.nn.init.normal_(net.head.weight)
c = {"label": torch.tensor([2]), "text": torch.ones(1, 3, 4), "text_mask": torch.ones(1, 3).bool()}
inputs = (torch.ones(1, 2, 8, 8), torch.rand(1), c)
assert torch.allclose(torch.compile(net, backend="eager", fullgraph=True)(*inputs), net(*inputs), atol=1e-6)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
