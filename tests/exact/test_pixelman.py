"""PixelMan (2412.14283): the checks of the method that need no trained network."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from mezzotint.attention import save, swap
from mezzotint.core import VP, Condition, Cosine, Denoiser, EpsDenoiser, Flow, GaussianMixture, Noise, Prediction
from mezzotint.edit import EditEnergy, PixelMan, paste_object, place, plan_move, plan_paste
from mezzotint.edit.pixelman_branches import blurred
from mezzotint.edit.pixelman_leak import LeakProof, Similar
from mezzotint.nn import DiT, UNet
from mezzotint.nn.site import Call, Handler, handling

PLAIN = {"kv_from": "none", "leak_proof": "none", "update": "none"}


def square(h: int = 16, w: int = 16, top: int = 3, left: int = 2, size: int = 5) -> Tensor:
    mask = torch.zeros(h, w, dtype=torch.bool)
    mask[top : top + size, left : left + size] = True
    return mask


@pytest.fixture
def plan(draw):
    return plan_move(draw(3, 16, 16).tanh(), square(), (7, 4))


@pytest.fixture
def unet(alive) -> EpsDenoiser:
    return EpsDenoiser(alive(UNet(3, channels=8, mult=(1, 2), blocks=1, attention=(1, 2), head_dim=4)), VP())


def pair(plan) -> tuple[Tensor, Tensor]:
    return plan.source[None], plan.image[None]


class Random(Denoiser):
    """A network that says anything, other things at every call."""

    def __init__(self) -> None:
        super().__init__(VP())
        self.calls, self.seen = 0, []

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.calls += 1
        self.seen.append(x_t)
        value = Noise(range(len(x_t)))("says", self.calls, x_t.shape[1:], dtype=x_t.dtype)
        return Prediction("x0", value, x_t, t, self.schedule)


# 1. identity without attention tricks


@pytest.mark.parametrize("schedule", [VP(), Cosine(), Flow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("steps", [1, 2, 5, 16])
def test_without_attention_and_energy_the_pasted_picture_stays_bit_for_bit(plan, schedule, steps) -> None:
    means = torch.stack([plan.source, -plan.source]).float()
    exact = GaussianMixture(means, torch.tensor([0.3, 0.5])).denoiser(schedule)
    z_src, z_man = (z.float() for z in pair(plan))
    out, trace = PixelMan(steps=steps, **PLAIN).sample(exact, plan, z_src, z_man, Noise([0, 7]))
    assert torch.equal(out, z_man.expand_as(out))
    assert all(bool((d == 0).all()) for d in trace.deltas) and trace.nfe == 2 * steps


# 2. evaluations


class Rows(nn.Module):
    """A network that counts the samples that pass."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.rows = net, 0

    def forward(self, x: Tensor, time: Tensor, c: Condition | None = None) -> Tensor:
        self.rows += len(x)
        return self.net(x, time, c)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps": 16}, 64),
        ({"steps": 8}, 28),
        ({"steps": 50}, 206),
        ({"steps": 16, "update": "none"}, 48),
        ({"steps": 16, "update": "noise"}, 70),
        ({"steps": 16, "kv_from": "anchor"}, 48),
        ({"steps": 16, "kv_from": "none"}, 48),
        ({"steps": 16, "leak_proof": "none"}, 64),
    ],
)
def test_evaluations_declared_told_and_seen_by_the_network(settings, expected) -> None:
    torch.manual_seed(0)
    net = Rows(DiT(1, patch=2, width=8, depth=2, heads=2))
    plan = plan_move(torch.linspace(-1, 1, 64).view(1, 8, 8), square(8, 8, 1, 1, 3), (3, 2))
    method = PixelMan(**settings)
    assert method.nfe() == expected
    _, trace = method.sample(EpsDenoiser(net, VP()), plan, *pair(plan), Noise([0]))
    assert trace.nfe == expected and net.rows == expected


def test_guidance_doubles_the_branches_and_not_the_energy(alive, plan) -> None:
    net = Rows(alive(UNet(3, channels=4, mult=(1,), blocks=1, attention=(1,), head_dim=4, classes=3)))
    c = Condition({"label": torch.tensor([1])}, null={"label": torch.tensor([3])})
    method = PixelMan(steps=4)
    _, trace = method.sample(EpsDenoiser(net, VP()), plan, *pair(plan), Noise([0]), c, w=4.0)
    assert trace.nfe == net.rows == method.nfe(guided=True) == 4 * 6 + 2 * sum(map(method.updates, range(4)))


# 3. anchoring


def test_inside_the_object_the_result_is_the_anchor_until_the_tail(draw) -> None:
    plan = plan_move(draw(3, 32, 32).tanh(), square(32, 32, 2, 2, 14), (15, 14))
    inside = blurred(plan.gen, (32, 32)) == 1
    assert 20 < int(inside.sum()) < int(plan.gen.sum())
    states: list[Tensor] = []
    out, _ = PixelMan(steps=6, **PLAIN).sample(
        Random(), plan, *pair(plan), Noise([0]), on_step=lambda i, z: states.append(z)
    )
    drift = [(z - plan.image)[:, :, inside].abs().max() for z in states]
    assert all(d == 0 for d in drift[:4]) and all(d > 0.1 for d in drift[4:])
    assert all((z - plan.image)[:, :, ~inside].abs().max() > 0.1 for z in states)
    assert torch.equal(out, states[-1])


# 4. leak-proof rows


def blocked_keys(plan, grid, similar) -> Tensor:
    keys = plan.at("gen", grid) | plan.at("gud", grid)
    return (keys | similar).flatten()


class Maps(Handler):
    explicit = True

    def __init__(self) -> None:
        self.seen: dict[str, Tensor] = {}
        self.grids: dict[str, tuple[int, int] | None] = {}

    def maps(self, call: Call, maps: Tensor) -> Tensor:
        self.seen[call.site], self.grids[call.site] = maps.clone(), call.grid
        return maps


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_hole_does_not_look_at_the_object_and_other_rows_stay(alive, draw, plan, dtype) -> None:
    net = alive(UNet(3, channels=8, mult=(1,), blocks=1, attention=(), head_dim=4)).to(dtype)
    x, time = draw(2, 3, 16, 16).to(dtype), torch.tensor([10.0, 500.0], dtype=dtype)
    similar = torch.zeros(2, 16, 16, dtype=torch.bool)
    similar[1, 12:, 12:] = True
    plain, leak = Maps(), Maps()
    with handling(net, plain):
        net(x, time)
    with handling(net, LeakProof(plan, "gen|sim|gud", similar)), handling(net, leak):
        net(x, time)
    (site,) = plain.seen
    assert plain.grids[site] == (16, 16)
    before, after = plain.seen[site], leak.seen[site]
    hole = plan.ipt.flatten()
    for sample in range(2):
        keys = blocked_keys(plan, (16, 16), similar[sample])
        assert before[sample][:, hole][:, :, keys].sum() > 0.1 and int(hole.sum()) == 25
        assert after[sample][:, hole][:, :, keys].max() < 1e-6
        assert torch.equal(after[sample][:, ~hole], before[sample][:, ~hole])
    torch.testing.assert_close(after.sum(-1), torch.ones_like(after.sum(-1)), rtol=0, atol=1e-6)


def test_which_keys_the_code_blocks(alive, draw, plan) -> None:
    net = alive(UNet(3, channels=8, mult=(1,), blocks=1, attention=(), head_dim=4))
    none = torch.zeros(1, 16, 16, dtype=torch.bool)
    seen = Maps()
    with handling(net, LeakProof(plan, "gen|sim", none)), handling(net, seen):
        net(draw(1, 3, 16, 16), torch.zeros(1).double())
    (maps,) = seen.seen.values()
    rows = maps[0][:, plan.ipt.flatten()]
    assert rows[:, :, plan.gen.flatten()].max() < 1e-6 and rows[:, :, plan.ipt.flatten()].max() > 1e-3


def test_a_layer_whose_every_key_would_be_hidden_is_refused(alive, draw) -> None:
    # of 2 x 2 tokens each is covered for more than a half, though background is left in the picture
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, :3] = True
    plan = plan_move(draw(3, 8, 8).tanh(), mask, (3, 0))
    net = alive(DiT(3, patch=4, width=8, depth=2, heads=2))
    assert bool(plan.share.any())
    with (
        handling(net, LeakProof(plan, "gen|sim|gud", plan.gud[None])),
        pytest.raises(ValueError, match="covers every key"),
    ):
        net(draw(1, 3, 8, 8), torch.zeros(1).double())


def test_a_similar_set_of_every_key_is_left_out(alive, draw, plan) -> None:
    net = alive(UNet(3, channels=8, mult=(1,), blocks=1, attention=(), head_dim=4))
    x, time, results = draw(1, 3, 16, 16), torch.zeros(1).double(), []
    for similar in (torch.ones(1, 16, 16), torch.zeros(1, 16, 16)):
        with handling(net, LeakProof(plan, "gen|sim|gud", similar.bool())):
            results.append(net(x, time))
    assert torch.equal(results[0], results[1])


def test_what_is_similar_is_where_the_objects_queries_look(alive, draw, plan) -> None:
    """Maps that are made by hand: queries of m_gen look at one corner, all others at another."""

    class Look(Handler):
        explicit = True

        def maps(self, call: Call, maps: Tensor) -> Tensor:
            made = torch.zeros_like(maps).view(*maps.shape[:3], 16, 16)
            gen = plan.gen.flatten()
            made[:, :, gen, :4, 12:] = 1 / 16
            made[:, :, ~gen, 12:, :4] = 1 / 16
            return made.flatten(3)

    net = alive(UNet(3, channels=8, mult=(1,), blocks=1, attention=(1,), head_dim=4))
    similar = Similar(plan, (16, 16), 2)
    with handling(net, Look()), handling(net, similar, "up.*"):
        net(draw(4, 3, 16, 16), torch.zeros(4).double())  # guided: each sample twice
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 3] = True
    found = similar.mask()
    assert found is not None and torch.equal(found, expected.expand(2, 4, 4))


# 5. keys and values


def test_replacing_keys_and_values_by_ones_own_changes_nothing_and_queries_are_never_replaced(unet, draw) -> None:
    x, y, t = draw(1, 3, 16, 16), draw(1, 3, 16, 16), torch.tensor([0.4]).double()
    queries: dict[str, list[Tensor]] = {"plain": [], "swapped": []}

    class Queries(Handler):
        def __init__(self, into: list[Tensor]) -> None:
            self.into = into

        def tokens(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            self.into.append(q)
            return q, k, v

    with save(unet, "up.*") as own:
        plain = unet(x, t).eps
    with save(unet, "up.*") as other, handling(unet, Queries(queries["plain"]), "up.0.*"):
        unet(y, t)
    with swap(unet, own, "up.*"):
        torch.testing.assert_close(unet(x, t).eps, plain, rtol=0, atol=1e-6)
    with swap(unet, other, "up.*"):
        assert (unet(x, t).eps - plain).abs().max() > 1e-4
    # the first site of the decoder: its queries come from the same features, whichever keys it is given
    with swap(unet, own, "up.0.*"), handling(unet, Queries(queries["swapped"]), "up.0.*"):
        unet(y, t)
    assert torch.equal(queries["plain"][0], queries["swapped"][0])


# 6. energies


def maps_of(draw, grid: int = 16) -> list[Tensor]:
    return [draw(1, 6, grid // 2, grid // 2), draw(1, 4, grid, grid)]


def test_the_energy_of_what_is_as_it_was_is_a_fifth_and_flat(draw) -> None:
    plan = plan_paste(draw(3, 16, 16).tanh(), draw(3, 16, 16).tanh(), square())
    same = [f.requires_grad_() for f in maps_of(draw)]
    still = [f.detach() for f in same]
    energy = EditEnergy()
    for e, expected in (
        (energy.of_object(same, still, plan, (16, 16)), 4 / 5),
        (energy.of_rest(same, still, plan, (16, 16)), 6 / 5),
    ):
        assert abs(float(e.detach().sum()) - expected) < 1e-12
        for gradient in torch.autograd.grad(e.sum(), same):
            assert gradient.abs().max() < 1e-6


def test_constant_features_have_every_term_by_hand(draw, plan) -> None:
    """cos = 1 everywhere: the object and the background cost a fifth of their weight, the hole's contrast all of it."""
    f = [torch.ones(1, 3, 16, 16, dtype=torch.float64), 2 * torch.ones(1, 5, 8, 8, dtype=torch.float64)]
    energy = EditEnergy()
    assert abs(float(energy.of_object(f, f, plan, (16, 16)).sum()) - 4 / 5) < 1e-12
    rest = 6 / 5 + 2 * (0.5 * 0.2 + 0.8 / 5)
    assert abs(float(energy.of_rest(f, f, plan, (16, 16)).sum()) - rest) < 1e-12


def test_moved_features_are_what_the_object_is_compared_with(draw, plan) -> None:
    """Features that move with the object: E_edit is least, w/5; it is not for those that stay."""
    still = [draw(1, 6, 16, 16)]
    moved = [still[0].roll((4, 7), (2, 3))]
    assert abs(float(EditEnergy().of_object(moved, still, plan, (16, 16)).sum()) - 4 / 2 / 5) < 1e-12
    assert float(EditEnergy().of_object(still, still, plan, (16, 16)).sum()) > 0.6


def test_the_gradient_keeps_to_its_masks_and_to_finite_differences(draw, plan) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(3, 6, 3, padding=1).double()
    second = nn.Sequential(nn.Tanh(), nn.Conv2d(6, 5, 3, stride=2, padding=1)).double()

    def features(z: Tensor) -> list[Tensor]:
        a = first(z)
        return [second(a), a]

    z, still = draw(1, 3, 16, 16), [f.detach() for f in features(draw(1, 3, 16, 16))]
    energy = EditEnergy(scale=1.0)
    x = z.clone().requires_grad_()
    found = energy.gradient(x, features(x), still, plan, (16, 16))
    only_object = EditEnergy(content=0.0, contrast=0.0, inpaint=0.0, scale=1.0).gradient(
        x, features(x), still, plan, (16, 16)
    )
    only_rest = EditEnergy(edit=0.0, scale=1.0).gradient(x, features(x), still, plan, (16, 16))
    assert only_object[:, :, ~plan.gen].abs().max() == 0 < only_object[:, :, plan.gen].abs().max()
    assert only_rest[:, :, plan.gen].abs().max() == 0 < only_rest[:, :, ~plan.gen].abs().max()
    torch.testing.assert_close(found, only_object + only_rest, rtol=0, atol=1e-14)

    def energies(z: Tensor) -> tuple[float, float]:
        f = features(z)
        of = (energy.of_object, energy.of_rest)
        return float(of[0](f, still, plan, (16, 16))), float(of[1](f, still, plan, (16, 16)))

    for mask, which in ((plan.gen, 0), (~plan.gen, 1)):
        along = draw(1, 3, 16, 16) * mask
        h = 1e-5
        with torch.no_grad():
            slope = (energies(z + h * along)[which] - energies(z - h * along)[which]) / (2 * h)
        assert abs(float((found * along).sum()) - slope) < 1e-3 * abs(slope)


def test_opposite_features_have_a_finite_energy_that_falls(draw, plan) -> None:
    """The paper's 1 / (1 + 4 cos) has its pole at -1/4."""
    still = [torch.ones(1, 2, 16, 16, dtype=torch.float64)]
    values = []
    for angle in torch.linspace(0, torch.pi, 50, dtype=torch.float64):
        turned = torch.stack([angle.cos() - angle.sin(), angle.cos() + angle.sin()]).view(1, 2, 1, 1)
        values.append(float(EditEnergy().of_object([turned.expand(1, 2, 16, 16)], still, plan, (16, 16))))
    assert all(a < b for a, b in zip(values, values[1:], strict=False)) and abs(values[-1] - 2 * 5) < 1e-9


# 7. the paste operator


@pytest.mark.parametrize("shift", [(3, 4), (-2, 0), (7, -1)])
def test_there_and_back_gives_the_object_and_keeps_its_area(draw, shift) -> None:
    x, mask = draw(3, 16, 16), square()
    there = paste_object(x, x, mask, place(mask, shift))
    back = paste_object(torch.zeros_like(x), there.image, there.mask, place(there.mask, (-shift[0], -shift[1])))
    assert torch.equal(back.mask, mask) and torch.equal(back.image[:, mask], x[:, mask])
    assert int(there.mask.sum()) == int(mask.sum()) and there.lost == 0 and torch.equal(there.kept, mask)
    assert torch.equal(there.mask, mask.roll((shift[1], shift[0]), (0, 1)))


def test_what_leaves_the_frame_is_told_and_not_wrapped(draw) -> None:
    x, mask = draw(3, 16, 16), square()  # columns 2 to 6
    plan = plan_move(x.tanh(), mask, (-4, 0))
    assert plan.lost == pytest.approx(2 / 5) and int(plan.gen.sum()) == 15
    assert not bool(plan.gen[:, 8:].any()) and int(plan.tar.sum()) == 15
    assert not bool(plan.tar[:, :4].any()) and torch.equal(plan.image[:, ~plan.gen], plan.source[:, ~plan.gen])


def test_no_shift_and_no_scale_is_the_picture(draw) -> None:
    x, mask = draw(3, 16, 16).tanh(), square()
    plan = plan_move(x, mask)
    assert torch.equal(plan.image, x) and not bool(plan.ipt.any()) and torch.equal(plan.gen, mask)
    assert torch.equal(plan.tar, mask) and torch.equal(plan.share, ~mask)


def test_resizing_keeps_the_centre_and_scales_the_area(draw) -> None:
    x, mask = draw(3, 48, 48).tanh(), square(48, 48, 15, 20, 10)
    for scale in (0.5, 1.5, 2.0):
        plan = plan_move(x, mask, scale=scale)
        centre = plan.gen.nonzero().double().mean(0)
        assert abs(float(centre[0]) - 19.5) <= 0.5 and abs(float(centre[1]) - 24.5) <= 0.5
        assert abs(int(plan.gen.sum()) - 100 * scale**2) <= 0.15 * 100 * scale**2
    about_picture = plan_move(x, mask, (4, 0), 0.5, about="centre")
    centre = about_picture.gen.nonzero().double().mean(0)  # 23.5 + (24.5 - 23.5) / 2 + 4 / 2, as the code has it
    expected = (23.5 + (19.5 - 23.5) * 0.5, 23.5 + (24.5 - 23.5) * 0.5 + 2)
    assert abs(float(centre[0]) - expected[0]) <= 0.75 and abs(float(centre[1]) - expected[1]) <= 0.75


# 8. shared noise


def test_the_three_branches_share_their_noise(draw, plan) -> None:
    network = Random()
    method = PixelMan(steps=5, **PLAIN)
    states = [plan.image[None].expand(3, -1, -1, -1)]
    method.sample(network, plan, *pair(plan), Noise([0, 1, 2]), on_step=lambda i, z: states.append(z))
    times = method.times(VP())
    noises = []
    for i, time in enumerate(times):
        anchor, target = network.seen[2 * i : 2 * i + 2]
        alpha = float(VP().alpha(torch.tensor(time, dtype=torch.float64)))
        torch.testing.assert_close(target - anchor, alpha * (states[i] - plan.image), rtol=0, atol=1e-13)
        noises.append(anchor - alpha * plan.image)
    assert Counter(bool((a - b).abs().max() > 0.1) for a in noises for b in noises if a is not b) == {True: 20}


def test_times_are_those_of_stable_diffusion() -> None:
    from mezzotint.core import Discrete, leading

    found = PixelMan().times(Discrete.scaled_linear())
    assert [round(1000 * t) - 1 for t in (found[0], found[1], found[-1])] == [931, 869, 1]
    torch.testing.assert_close(
        torch.tensor(found).double(), leading(Discrete.scaled_linear(), 16, offset=1)[:-1].float().double()
    )
