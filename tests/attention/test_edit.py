from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mezzotint.attention import add_mask, rescale, reweight, save, swap, tap
from mezzotint.nn import Attention, UNet

CONFIG = {"channels": 8, "blocks": 1, "head_dim": 8, "context": 6}


@pytest.fixture
def net(alive) -> UNet:
    return alive(UNet(2, **CONFIG))


@pytest.fixture
def inputs(draw):
    x, time = draw(2, 2, 8, 8), torch.tensor([20.0, 700.0]).double()
    text = draw(2, 3, 6)

    def make(text=text, mask=None):
        return x, time, {"text": text} | ({} if mask is None else {"text_mask": mask})

    return make


def _close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> bool:
    return torch.allclose(a, b, atol=tolerance, rtol=0)


EDITS = {
    "reweight": lambda net: reweight(net, torch.tensor([2.0, 1.0, 0.5])),
    "rescale": lambda net: rescale(net, 2.0),
    "add_mask": lambda net: add_mask(net, torch.tensor([[0.0, 1.0, -1.0]]), "*cross"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_acts_and_undoes_itself_also_on_error(net, inputs, edit) -> None:
    plain = net(*inputs())
    with edit(net):
        assert not _close(net(*inputs()), plain, 1e-4)
    assert torch.equal(net(*inputs()), plain)
    with pytest.raises(RuntimeError, match="stop"), edit(net):
        raise RuntimeError("stop")
    assert torch.equal(net(*inputs()), plain)


def test_neutral_edits_change_nothing(net, inputs) -> None:
    plain = net(*inputs())
    with rescale(net, 1.0):
        assert torch.equal(net(*inputs()), plain)
    with reweight(net, {0: 1.0}):
        assert _close(net(*inputs()), plain)
    with add_mask(net, torch.zeros(1, 1)):
        assert _close(net(*inputs()), plain)


def test_three_ways_to_hide_a_word_agree(net, inputs) -> None:
    hidden = net(*inputs(mask=torch.tensor([[1, 1, 0]] * 2).bool()))
    with reweight(net, {2: 0.0}, renormalise=True):
        assert _close(net(*inputs()), hidden)
    with add_mask(net, torch.tensor([[0.0, 0.0, -torch.inf]]), "*cross"):
        assert _close(net(*inputs()), hidden)
    assert not _close(net(*inputs()), hidden, 1e-4)


def test_no_edit_brings_padding_back(net, inputs, draw) -> None:
    mask = torch.tensor([[1, 1, 0]] * 2).bool()
    plain = net(*inputs(mask=mask))
    with reweight(net, {2: 100.0}), add_mask(net, torch.tensor([[0.0, 0.0, 50.0]]), "*cross"):
        assert _close(net(*inputs(mask=mask)), plain)


def test_reweighting_multiplies_the_share_of_a_key(alive, draw) -> None:
    layer, x, y = alive(Attention(8, heads=2, context=6)), draw(2, 4, 8), draw(2, 3, 6)
    with tap(layer, "*", heads=True) as before, reweight(layer, {1: 3.0}, "*"), tap(layer, heads=True) as after:
        layer(x, y)
    (b,), (a,) = (tuple(r[s] for s in r) for r in (before, after))
    assert _close(a, b * torch.tensor([1.0, 3.0, 1.0]).double(), 1e-12)


def test_rescaling_sharpens_and_flattens_and_stays_fused(alive, draw, monkeypatch) -> None:
    layer, x = alive(Attention(8, heads=1)), draw(1, 5, 8)
    q, k, v = layer.to_q(x), layer.to_k(x), layer.to_v(x)
    with rescale(layer, 0.0):
        assert _close(layer(x), layer.to_out(v.mean(1, keepdim=True).expand_as(v)))
    with rescale(layer, 1e6):
        assert _close(layer(x), layer.to_out(v[0, (q @ k.transpose(1, 2)).argmax(-1)]))
    seen = []
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, attn_mask: seen.append(q) or v)
    with rescale(layer, lambda call, q, k: k.shape[-2] * 1.0):
        layer(x)
    assert _close(seen[0][:, 0], 5 * q)


def test_a_weight_a_sample(net, inputs) -> None:
    plain = net(*inputs())
    with reweight(net, torch.tensor([[1.0, 1.0, 1.0], [1.0, 4.0, 1.0]])):
        edited = net(*inputs())
    assert _close(edited[0], plain[0]) and not _close(edited[1], plain[1], 1e-4)


def test_when_chooses_the_evaluations(net, inputs) -> None:
    plain = net(*inputs())
    with rescale(net, 3.0, when=lambda call: call.index == 1):
        runs = [net(*inputs()) for _ in range(3)]
    assert [torch.equal(run, plain) for run in runs] == [True, False, True]


def test_swapping_all_of_the_text_is_running_with_that_text(net, inputs, draw) -> None:
    other = inputs(text=draw(2, 3, 6))
    plain, wanted = net(*inputs()), net(*other)
    # The text comes in through the keys and values of the cross-attention alone.
    with save(net, "*cross") as saved:
        net(*other)
    with swap(net, saved, "*cross"):
        assert _close(net(*inputs()), wanted, 1e-12)
    with swap(net, saved, "*cross", keys=False):
        half = net(*inputs())
    assert not _close(half, wanted, 1e-4) and not _close(half, plain, 1e-4)
    with swap(net, saved, "*cross", when=lambda call: False):
        assert torch.equal(net(*inputs()), plain)


def test_keys_and_values_saved_from_one_sample_serve_a_batch(net, inputs) -> None:
    x, time, c = inputs()
    with save(net, "mid.*") as saved:
        net(x[:1], time[:1], {"text": c["text"][:1]})
    with swap(net, saved, "mid.*"):
        swapped = net(x, time, c)
    plain = net(x, time, c)
    assert _close(swapped[0], plain[0]) and not _close(swapped[1], plain[1], 1e-4)


def test_edits_compose(net, inputs) -> None:
    with rescale(net, 2.0), rescale(net, 3.0):
        both = net(*inputs())
    with rescale(net, 6.0):
        assert _close(net(*inputs()), both)


def test_gradients_flow_through_an_edit(net, inputs) -> None:
    weights = torch.ones(3, dtype=torch.float64, requires_grad=True)
    with reweight(net, weights):
        net(*inputs()).square().sum().backward()
    assert weights.grad is not None and weights.grad.abs().min() > 1e-9


def test_edits_that_do_not_fit_are_refused_and_undone(net, inputs) -> None:
    plain = net(*inputs())
    cases = [
        (lambda: reweight(net, torch.ones(4)), r"weights \(4,\) do not fit 'down.*has 3 keys"),
        (lambda: reweight(net, torch.ones(3, 3)), "a batch of 2"),
        (lambda: reweight(net, {7: 2.0}), "a weight was given for key 7, but .* has 3 keys"),
        (lambda: reweight(net, {-1: 2.0}), "all 0 or more"),
        (lambda: reweight(net, torch.ones(1, 1, 3)), r"\(keys,\) or \(batch, keys\)"),
        (lambda: add_mask(net, torch.zeros(5, 5)), "does not fit the logits.*narrow `sites`"),
        (lambda: add_mask(net, torch.zeros(4, 1, 1, 1, 1)), "does not fit the logits"),
        (lambda: add_mask(net, torch.ones(3, 3).bool()), "float tensor"),
        (lambda: rescale(net, 2.0, "nowhere"), "no attention site matches"),
    ]
    for edit, message in cases:
        with pytest.raises(ValueError, match=message), edit():
            net(*inputs())
        assert torch.equal(net(*inputs()), plain)


def test_swaps_that_do_not_fit_are_refused(net, inputs, draw) -> None:
    with save(net, "mid.*") as saved:
        net(*inputs())
    with pytest.raises(ValueError, match="no keys and values were saved at 'down"), swap(net, saved):
        net(*inputs())
    with pytest.raises(ValueError, match="for its call 1"), swap(net, saved, "mid.*"):
        net(*inputs())
        net(*inputs())
    with pytest.raises(ValueError, match="same size"), swap(net, saved, "mid.*"):
        net(draw(2, 2, 4, 4), torch.zeros(2).double(), inputs()[2])
