"""arXiv 2304.03869, exact checks 9 and 10 of the sheet: the losses of the layout predictor; and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mezzotint.core import Noise
from mezzotint.nn import CentreMixture, LayoutPredictor
from mezzotint.nn.conditioner import train_vocabulary
from mezzotint.objective.layout import RELATIONS, layout_loss, relation_hinge
from mezzotint.train.layout import LayoutExample, fit_layout

OPPOSITE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}


def mixture(k: int, draw, rows: int = 1) -> CentreMixture:
    return CentreMixture(
        draw(rows, k), 0.5 + 0.1 * draw(rows, k, 2), 0.2 * draw(rows, k, 2) - 2.5, 0.9 * torch.tanh(draw(rows, k))
    )


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_hinge_is_satisfied_in_order_and_grows_out_of_it(relation) -> None:
    axis, sign = (1 if relation in ("above", "below") else 0), (1 if relation in ("above", "left of") else -1)
    first, second = torch.full((1, 3, 2), 0.5), torch.full((1, 3, 2), 0.5)
    second[..., axis] += 0.3 * sign
    first.requires_grad_()
    good = relation_hinge(first, second, relation)
    assert torch.allclose(good, torch.tensor(-0.2))
    assert not torch.autograd.grad(good.sum(), first)[0].any()
    bad = relation_hinge(first, second, OPPOSITE[relation])
    assert torch.allclose(bad, torch.tensor(0.3)) and torch.autograd.grad(bad.sum(), first)[0].any()


def test_the_worst_components_count() -> None:
    first, second = torch.tensor([[0.5, 0.1], [0.5, 0.6]]), torch.tensor([[0.5, 0.9], [0.5, 0.4]])
    assert math.isclose(float(relation_hinge(first, second, "above")), 0.2, abs_tol=1e-6)


def test_one_component_without_correlation_is_a_gaussian(draw) -> None:
    one = mixture(1, draw, 5)
    plain = CentreMixture(one.logits, one.means, one.log_scales, torch.zeros_like(one.rho))
    x = torch.rand(5, 2, dtype=torch.float64)
    wanted = torch.distributions.Normal(one.means[:, 0], one.log_scales[:, 0].exp()).log_prob(x).sum(-1)
    assert torch.allclose(plain.log_prob(x), wanted, atol=1e-12, rtol=0)


def test_a_correlated_component_is_torchs_gaussian(draw) -> None:
    one = mixture(1, draw)
    sx, sy = one.log_scales[0, 0].exp()
    cov = torch.stack([torch.stack([sx**2, one.rho[0, 0] * sx * sy]), torch.stack([one.rho[0, 0] * sx * sy, sy**2])])
    x = torch.rand(7, 2, dtype=torch.float64)
    wanted = torch.distributions.MultivariateNormal(one.means[0, 0], cov).log_prob(x)
    spread = CentreMixture(*(p.expand(7, *p.shape[1:]) for p in (one.logits, one.means, one.log_scales, one.rho)))
    assert torch.allclose(spread.log_prob(x), wanted, atol=1e-9, rtol=0)


def test_a_mixture_integrates_to_one(draw) -> None:
    some = mixture(3, draw)
    at = torch.linspace(-1, 2, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(at, at)
    parts = (p.expand(len(grid), *p.shape[1:]) for p in (some.logits, some.means, some.log_scales, some.rho))
    assert abs(float(CentreMixture(*parts).log_prob(grid).exp().sum()) * (3 / 600) ** 2 - 1) < 1e-2


def test_components_are_drawn_by_their_weights_and_seeds() -> None:
    n = 4000
    logits = torch.tensor([0.2, 0.5, 0.3]).log().expand(n, 3)
    means = torch.tensor([[0.1, 0.1], [0.5, 0.5], [0.9, 0.9]]).expand(n, 3, 2)
    some = CentreMixture(logits, means, torch.zeros(n, 3, 2), torch.zeros(n, 3))
    drawn = some.centres(Noise(range(n)))[:, 0]
    shares = torch.stack([(drawn == m).double().mean() for m in (0.1, 0.5, 0.9)])
    assert torch.allclose(shares, torch.tensor([0.2, 0.5, 0.3]).double(), atol=0.03)
    assert torch.equal(some.centres(Noise(range(n)))[7:8, 0], drawn[7:8])
    assert bool((some.centres() == 0.5).all())


def test_the_loss_is_the_hinge_and_a_tenth_of_the_likelihood(draw) -> None:
    some = mixture(3, draw, 8)
    pairs = CentreMixture(*(p.unflatten(0, (4, 2)) for p in (some.logits, some.means, some.log_scales, some.rho)))
    at = torch.rand(4, 2, 2, dtype=torch.float64)
    stated = [(0, "above", 1), None, (1, "left of", 0), (0, "above", 1)]
    hinges = [
        relation_hinge(pairs.means[0, 0], pairs.means[0, 1], "above"),
        relation_hinge(pairs.means[2, 1], pairs.means[2, 0], "left of"),
        relation_hinge(pairs.means[3, 0], pairs.means[3, 1], "above"),
    ]
    wanted = torch.stack(hinges).mean() - 0.1 * pairs.log_prob(at).mean()
    assert torch.allclose(layout_loss(pairs, at, stated), wanted, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="beyond the 2 of its caption"):
        layout_loss(pairs, at, [(0, "above", 2), None, None, None])
    with pytest.raises(ValueError, match="unknown relations"):
        layout_loss(pairs, at, [(0, "near", 1), None, None, None])


def captions(count: int, seed: int) -> list[LayoutExample]:
    u = Noise(range(1000 * seed, 1000 * seed + count)).uniform("layout", 0, (6,)).tolist()
    made = []
    for a, b, c, d, *animals in u:
        relation, one, two = RELATIONS[int(4 * a)], *((0.1 + 0.3 * b, 0.6 + 0.3 * c))
        near, far = ((d, one), (d, two)) if relation in ("above", "below") else ((one, d), (two, d))
        first, second = (near, far) if relation in ("above", "left of") else (far, near)
        names = ["a cat" if v < 0.5 else "a dog" for v in animals]
        made.append(LayoutExample(f"{names[0]} {relation} {names[1]}", tuple(names), (first, second), (0, relation, 1)))
    return made


def test_it_learns_relations_and_tells_the_same_word_at_two_places_apart() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = LayoutPredictor(train_vocabulary(["a cat above below left right of a dog"], size=90, whole=1), width=32)
    fit_layout(net, captions(640, 0), epochs=12, lr=3e-3, batch=32)
    right = 0
    for relation in RELATIONS:
        for caption in (f"a cat {relation} a dog", f"a cat {relation} a cat"):
            some = [phrase.strip() for phrase in caption.split(relation)]
            (_, one), (_, two) = net.places(caption, some)
            axis, sign = (1 if relation in ("above", "below") else 0), (1 if relation in ("above", "left of") else -1)
            right += sign * (two[axis] - one[axis]) > 0.2
            assert all(0 <= v <= 1 for v in (*one, *two))
    assert right >= 7


def test_captions_that_cannot_be_read() -> None:
    net = LayoutPredictor(train_vocabulary(["a cat above a dog"], size=80, whole=1), length=4)
    with pytest.raises(ValueError, match="'a bird' is not in the caption"):
        net.places("a cat", ["a bird"])
    with pytest.raises(ValueError, match="or not so often"):
        net.places("a cat", ["a cat", "cat"])
    with pytest.raises(ValueError, match="has 6 tokens; this predictor reads 4"):
        net.places("cat dog cat dog cat", ["cat"])
    with pytest.raises(ValueError, match="captions of other numbers apart"):
        net.prepare(["a cat", "a dog"], [["cat"], []])
    with pytest.raises(ValueError, match="no examples"):
        fit_layout(net, [])
    assert net.places("a cat", [], seed=0) == []


def test_examples_that_cannot_be_learnt_leave_the_predictor_as_it_was() -> None:
    net = LayoutPredictor(train_vocabulary(["a cat above a dog"], size=80, whole=1))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    good = LayoutExample("a cat above a dog", ("a cat", "a dog"), ((0.5, 0.2), (0.5, 0.8)), (0, "above", 1))
    for change, message in (
        ({"centres": ((0.5, 12.0), (0.5, 20.0))}, "expected shares of width and height"),
        ({"centres": ((0.5, float("nan")), (0.5, 0.8))}, "expected shares of width and height"),
        ({"relation": (0, "near", 1)}, "has the relation"),
        ({"relation": (0, "above", 2)}, "has the relation"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_layout(net, [good] * 8 + [replace(good, **change)], batch=1, epochs=1)
    for settings in ({"epochs": 0}, {"batch": 0}):
        with pytest.raises(ValueError, match="expected at least 1 of each"):
            fit_layout(net, [good], **settings)
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())
