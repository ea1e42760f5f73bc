"""What taps and edits share: evaluations, rows of the batch, the fused kernel of the rest, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mezzotint.attention import (
    OnRows,
    add_mask,
    attention_scaling,
    explicit,
    features,
    rescale,
    reweight,
    save,
    swap,
    tap,
    token_maps,
)
from mezzotint.core import VP, Condition, EpsDenoiser
from mezzotint.guide import CFG
from mezzotint.nn import DiT, UNet, find_sites
from mezzotint.nn.site import Handler, handling

CONFIG = {"channels": 8, "blocks": 1, "head_dim": 8, "context": 6}
MID = "mid.1.block.cross"


@pytest.fixture
def net(alive) -> UNet:
    return alive(UNet(2, **CONFIG))


@pytest.fixture
def inputs(draw):
    return draw(2, 2, 8, 8), torch.tensor([20.0, 700.0]).double(), {"text": draw(2, 3, 6)}


@pytest.fixture
def fused(monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of the queries that the fused kernel was given."""
    seen, kernel = [], F.scaled_dot_product_attention

    def counted(q, *args, **kwargs):
        seen.append(tuple(q.shape))
        return kernel(q, *args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    return seen


def _close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-12) -> bool:
    return torch.allclose(a, b, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("open_", "plain"),
    [
        (lambda net: tap(net, MID), 1),
        (lambda net: tap(net, "mid.*"), 2),
        (lambda net: reweight(net, torch.ones(3), MID), 1),
        (lambda net: add_mask(net, torch.zeros(1, 1), MID), 1),
        (lambda net: explicit(net, "mid.*"), 2),
        (lambda net: rescale(net, 2.0), 0),
        (lambda net: save(net), 0),
        (lambda net: features(net), 0),
        (lambda net: tap(net, MID, when=lambda call: False), 0),
        (lambda net: reweight(net, torch.ones(3), MID, when=lambda call: False), 0),
        (lambda net: add_mask(net, torch.zeros(1, 1), MID, when=lambda call: False, rows=[0]), 0),
    ],
)
def test_only_layers_that_are_looked_into_leave_the_fused_kernel(net, inputs, fused, open_, plain) -> None:
    net(*inputs)
    layers = len(fused)
    assert layers == len(find_sites(net))
    fused.clear()
    with open_(net):
        net(*inputs)
    assert len(fused) == layers - plain
    fused.clear()
    net(*inputs)
    assert len(fused) == layers


def test_a_tap_that_skips_evaluations_stays_fused_there(net, inputs, fused) -> None:
    layers = len(find_sites(net))
    counts = []
    with tap(net, MID, when=lambda call: call.index in (1, 2), average=False) as record:
        for _ in range(4):
            fused.clear()
            net(*inputs)
            counts.append(len(fused))
    assert counts == [layers, layers - 1, layers - 1, layers]
    assert record.calls == {MID: 2} and len(record[MID]) == 2


def test_an_edit_on_some_rows_is_that_edit_of_those_samples_alone(net, inputs) -> None:
    plain = net(*inputs)
    edits = {
        "reweight": lambda rows: reweight(net, torch.tensor([[2.0, 0.5, 1.0]]), rows=rows),
        "rescale": lambda rows: rescale(net, 3.0, rows=rows),
        "mask": lambda rows: add_mask(net, torch.tensor([[0.0, 2.0, -torch.inf]]), "*cross", rows=rows),
    }
    for edit in edits.values():
        with edit(None):
            whole = net(*inputs)
        for rows in (slice(1, None), [1], [-1]):
            with edit(rows):
                half = net(*inputs)
            assert _close(half[0], plain[0]) and _close(half[1], whole[1], 1e-10)
            assert not _close(half[1], plain[1], 1e-4)


def test_a_tap_on_some_rows_records_those(net, inputs) -> None:
    with tap(net, MID) as whole, tap(net, MID, rows=[1]) as part, tap(net, MID, rows=slice(0, 1), heads=True) as first:
        net(*inputs)
    assert _close(part[MID], whole[MID][1:]) and _close(first[MID].mean(1), whole[MID][:1])


def test_the_conditional_half_of_a_guided_run_is_a_slice_of_rows(net, inputs) -> None:
    x, _, c = inputs
    text, null = c["text"].float(), torch.zeros(1, 3, 6)
    d = EpsDenoiser(net.float(), VP())
    told, t = Condition({"text": text}, null={"text": null}), torch.full((2,), 0.5)
    guided = CFG(3.0)(d)
    plain = guided(x.float(), t, told).eps
    # per-sample weights of the two conditional rows; the null rows stay
    weights = torch.tensor([[1.0, 4.0, 1.0], [1.0, 1.0, 0.0]])
    with reweight(d, weights, rows=slice(2, None)):
        edited = guided(x.float(), t, told).eps
    with reweight(d, weights):
        cond = d(x.float(), t, told).eps
    unconditional = CFG(0.0)(d)(x.float(), t, told).eps
    assert torch.allclose(edited, unconditional + 3 * (cond - unconditional), atol=1e-4)
    assert (edited - plain).abs().max() > 1e-3
    with pytest.raises(ValueError, match="a batch of 4"), reweight(d, weights):
        guided(x.float(), t, told)
    with (
        pytest.raises(ValueError, match=r"rows=slice\(4, None, None\) of a batch of 4.*\[null, condition\]"),
        tap(d, rows=slice(4, None)),
    ):
        guided(x.float(), t, told)


def test_keys_and_values_of_some_rows_are_saved_and_swapped(net, inputs) -> None:
    plain = net(*inputs)
    with save(net, "*self", rows=[0]) as saved:
        net(*inputs)
    with swap(net, saved, "*self", rows=[1]):
        one = net(*inputs)
    with swap(net, saved, "*self"):
        both = net(*inputs)
    assert _close(one[0], plain[0]) and _close(one[1], both[1]) and not _close(one[1], plain[1], 1e-4)
    with save(net, "*self", when=lambda call: call.index == 1) as late:
        net(*inputs)
        assert not late.values
        net(*inputs)
    assert {index for _, index in late.values} == {1}


def test_memory_of_a_streaming_tap_does_not_grow_with_calls(net, inputs) -> None:
    def held(record) -> int:
        tensors = [*record._mean.values(), *(x for kept in record._every.values() for x in kept)]
        return sum(x.untyped_storage().nbytes() for x in tensors)

    sizes = []
    with tap(net, "*", heads=True) as record:
        for _ in range(4):
            net(*inputs)
            sizes.append(held(record))
    assert sizes[0] > 0 and len(set(sizes)) == 1
    with tap(net, MID, average=False, heads=True, reduce=lambda call, maps: maps[..., 1]) as record:
        net(*inputs)
    assert held(record) == record[MID].numel() * 8 and record[MID].shape == (1, 2, 2, 16)


def test_what_a_tap_keeps_is_what_reduce_says(net, inputs) -> None:
    with tap(net, MID) as whole, tap(net, MID, reduce=lambda call, maps: maps[..., 1] * call.grid[0]) as word:
        net(*inputs)
    assert _close(word[MID], 4 * whole[MID][..., 1])


def test_the_maps_of_words_add_up_to_one_and_see_the_hidden_word(net, inputs, draw) -> None:
    x, time, c = inputs
    with tap(net, "*cross") as record:
        net(x, time, {**c, "text_mask": torch.tensor([[1, 1, 0], [1, 1, 1]]).bool()})
    maps = token_maps(record, (8, 8))
    assert maps.shape == (2, 3, 8, 8) and not maps[0, 2].any()
    assert torch.allclose(maps.sum(1), torch.ones(()).double(), atol=1e-12)
    # at the size of every site it is their mean
    at = token_maps(record, (4, 4))
    assert {record.grids[site] for site in record} == {(4, 4)}
    mean = sum(record[site] for site in record) / len(record)
    assert _close(at, mean.transpose(1, 2).unflatten(2, (4, 4)))
    assert at.std() > 1e-3


def test_maps_of_words_carry_gradients(net, inputs) -> None:
    x, time, c = inputs
    x.requires_grad_()
    with tap(net, "*cross", grad=True) as record:
        net(x, time, c)
        (grad,) = torch.autograd.grad(token_maps(record, (8, 8))[:, 1].sum(), x)
    assert grad.abs().max() > 1e-9


def test_maps_of_words_need_maps_of_words(net, inputs) -> None:
    with tap(net, "*cross") as record:
        with pytest.raises(ValueError, match="recorded nothing yet"):
            token_maps(record, (8, 8))
    with tap(net) as every, tap(net, "*cross", heads=True) as heads, tap(net, MID, reduce=lambda _, m: m[:, :2]) as cut:
        net(*inputs)
    with pytest.raises(ValueError, match=r"are of 3 tokens.*those before of 16.*'\*cross'"):
        token_maps(every, (8, 8))
    with pytest.raises(ValueError, match="averages over heads"):
        token_maps(heads, (8, 8))
    with pytest.raises(ValueError, match="not over the places"):
        token_maps(cut, (8, 8))


@pytest.mark.parametrize("make", [lambda: UNet(2, channels=8, blocks=1), lambda: DiT(2, width=8, depth=1, heads=1)])
def test_a_model_without_cross_attention_is_told_so(make) -> None:
    net = make()
    for open_ in (
        lambda: tap(net, "*cross"),
        lambda: reweight(net, {1: 2.0}),
        lambda: save(net, "*.cross"),
        lambda: add_mask(net, torch.zeros(1, 1), "mid.*cross"),
    ):
        with (
            pytest.raises(ValueError, match="this model has no cross-attention .* its attention sites are: [bd]"),
            open_(),
        ):
            pass
    assert not _anything_open(net)


def test_sites_that_do_not_exist_are_refused_before_anything_is_open(net) -> None:
    with pytest.raises(ValueError, match=r"no attention site matches 'up\.9\.\*'; the sites of this module are: down"):
        with tap(net, "up.9.*"):
            pass
    with (
        pytest.raises(ValueError, match="two attention layers are both called"),
        tap(torch.nn.ModuleList([net, UNet(2, **CONFIG)])),
    ):
        pass
    assert not _anything_open(net)


def test_two_swaps_that_collide_are_refused_and_nothing_is_left_open(net, inputs) -> None:
    plain = net(*inputs)
    with save(net, "mid.*") as saved:
        net(*inputs)
    first, second = lambda call: call.index == 0, lambda call: call.index == 1
    with swap(net, saved, "mid.*self"):
        with pytest.raises(
            ValueError, match="two swaps collide at 'mid.1.block.self': both replace its keys and values"
        ):
            with swap(net, saved, "mid.*"):
                pass
        with (
            pytest.raises(ValueError, match="both replace its values"),
            swap(net, saved, "mid.*", keys=False, rows=[0]),
        ):
            pass
        with swap(net, saved, MID):  # another site
            assert _close(net(*inputs), plain)
    with swap(net, saved, "mid.*", keys=False), swap(net, saved, "mid.*", values=False):
        assert _close(net(*inputs), plain)
    with swap(net, saved, "mid.*", when=first), swap(net, saved, "mid.*", when=second):
        net(*inputs)
    with swap(net, saved, "mid.*", rows=[0]), swap(net, saved, "mid.*", rows=[1]):
        pass
    for one, other in (([0], [1, 0]), (slice(1, None), slice(1, None))):
        with swap(net, saved, "mid.*", rows=one), pytest.raises(ValueError, match="two swaps collide"):
            with swap(net, saved, "mid.*", rows=other):
                pass
    with pytest.raises(ValueError, match="neither keys nor values"), swap(net, saved, keys=False, values=False):
        pass
    assert torch.equal(net(*inputs), plain)


def test_rows_that_are_none_are_refused(net) -> None:
    for rows in ([], [0, 0]):
        with pytest.raises(ValueError, match="each once"):
            OnRows(Handler(), rows)
    with pytest.raises(ValueError, match=r"rows=\[2\] of a batch of 2"), tap(net, rows=[2]):
        net(torch.zeros(2, 2, 8, 8).double(), torch.zeros(2).double(), {"text": torch.zeros(2, 3, 6).double()})
    assert not _anything_open(net)


def test_edits_and_scaling_compose_inside_one_block(net, inputs) -> None:
    counts = {site: 4 for site in find_sites(net) if site.endswith("self")}
    with attention_scaling(net, counts), tap(net, "*self") as record:
        both = net(*inputs)
    with attention_scaling(net, counts):
        assert _close(net(*inputs), both, 1e-10)
    assert len(record) == len(counts) and not _close(net(*inputs), both, 1e-4)


def test_scaling_twice_is_refused_and_one_after_the_other_is_not(net, inputs) -> None:
    counts = {site: 4 for site in find_sites(net) if site.endswith("self")}
    with attention_scaling(net, counts):
        once = net(*inputs)
        with pytest.raises(ValueError, match="scaled already at .* twice would square"), attention_scaling(net, counts):
            pass
        assert torch.equal(net(*inputs), once)
    with attention_scaling(net, counts, sites="mid.*"), attention_scaling(net, counts, sites="up.*|down.*"):
        assert torch.equal(net(*inputs), once)


def test_what_is_kept_of_some_rows_holds_those_rows_alone(net, inputs) -> None:
    with save(net, "mid.*", rows=slice(1, None)) as saved, features(net, "mid.1", rows=slice(1, None)) as seen:
        with torch.no_grad():
            net(*inputs)
    for x in (*next(iter(saved.values.values())), seen["mid.1"]):
        assert len(x) == 1 and x.untyped_storage().nbytes() == x.numel() * x.element_size()


def test_double_backward_goes_through_a_tap_that_keeps_gradients(net, inputs) -> None:
    x, time, c = (inputs[0][:1], inputs[1][:1], {"text": inputs[2]["text"][:1]})

    def slope(at: torch.Tensor) -> torch.Tensor:
        at = at.detach().requires_grad_()
        with tap(net, "*cross", grad=True) as record, explicit(net):
            net(at, time, c)
            energy = token_maps(record, (4, 4))[:, 0].square().sum()
        return torch.autograd.grad(energy, at, create_graph=True)[0], at

    grad, at = slope(x)
    direction = torch.ones_like(x)
    (second,) = torch.autograd.grad((grad * direction).sum(), at)
    h = 1e-4
    wanted = ((slope(x + h * direction)[0] - slope(x - h * direction)[0]) / (2 * h)).detach()
    assert torch.allclose(second, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert wanted.abs().max() > 1e-9


def _anything_open(net: torch.nn.Module) -> bool:
    from mezzotint.nn.site import opened

    return any(opened(door) for door in find_sites(net).values())


def test_a_handler_of_ones_own_on_rows_sees_those_rows(net, inputs) -> None:
    seen = []

    class Look(Handler):
        explicit = True

        def tokens(self, call, q, k, v):
            seen.append(len(q))
            return q, k, v

        def maps(self, call, maps):
            seen.append(len(maps))
            return maps

    plain = net(*inputs)
    with handling(net, OnRows(Look(), [0]), MID):
        assert _close(net(*inputs), plain)
    assert seen == [1, 1]
