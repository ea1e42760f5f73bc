"""Consistency training and its latent improvements (arXiv 2310.14189, 2502.01441) against known answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import VE, BoundaryDenoiser, Condition, Denoiser, Flow, Noise, Prediction
from mezzotint.latent import Identity, statistics_hash, with_spread
from mezzotint.nn import NonScalingGroupNorm, NonScalingLayerNorm, UNet, without_gains
from mezzotint.objective import (
    AdaptiveScale,
    Batch,
    Cauchy,
    ConsistencyStage,
    ConstantScale,
    DiffusionAnchor,
    Doubling,
    GemanMcClure,
    KarrasLevels,
    LogNormalIndex,
    OptimalTransport,
    Pairs,
    PseudoHuber,
    Squared,
    UniformIndex,
)

F64 = torch.float64
MIN = 0.002


class Scripted(Noise):
    """Given numbers in place of draws, by purpose."""

    def __init__(self, batch: int, z: dict[str, Tensor]) -> None:
        super().__init__(range(batch))
        self.z = z

    def __call__(self, purpose: str, k: int, shape: Sequence[int], **options: Any) -> Tensor:
        return self.z[purpose].reshape(len(self), *shape)

    def uniform(self, purpose: str, k: int, shape: Sequence[int] = (), **options: Any) -> Tensor:
        return self.z[purpose].reshape(len(self), *shape)


class Line(Denoiser):
    """f(x, s) = mean + slope(s) (x - mean), times a learned factor that is one number a level."""

    def __init__(self, slope: Callable[[Tensor], Tensor], levels: Tensor, mean: float = 0.0) -> None:
        super().__init__(VE())
        self.slope, self.levels, self.mean = slope, levels, mean
        self.shift = nn.Parameter(torch.zeros(len(levels), dtype=F64))

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        sigma = self.schedule.sigma(t.double())
        place = (self.levels - sigma[:, None]).abs().argmin(1)
        a = (self.slope(sigma) + self.shift[place]).view(-1, *[1] * (x_t.ndim - 1))
        return Prediction.from_x0(self.mean + a * (x_t - self.mean), x_t, t, self.schedule)


def moments_of(spread: float) -> tuple[Tensor, Tensor]:
    """Four samples and noises whose second moments are those of N(0, spread^2) and N(0, 1), independent."""
    root = math.sqrt(2)
    x = torch.tensor([[root * spread], [-root * spread], [0.0], [0.0]], dtype=F64)
    return x, torch.tensor([[0.0], [0.0], [root], [-root]], dtype=F64)


def stage_of(high: float, low: float, **options: Any) -> ConsistencyStage:
    levels = torch.tensor([high, low], dtype=F64)
    return ConsistencyStage(levels, index=UniformIndex(), loss=Squared(), scale=ConstantScale(1.0), **options)


# 1


@pytest.mark.parametrize("schedule", [VE(), Flow()])
def test_1_the_boundary_holds_for_any_weights(alive, schedule) -> None:
    net = alive(UNet(2, channels=16, mult=(1,), blocks=1, attention=())).float()
    f = BoundaryDenoiser(net, schedule)
    x = Noise([0, 1])("x_T", 0, (2, 4, 4))
    t = schedule.t_of(-torch.tensor([MIN, MIN], dtype=F64).log())
    alpha = schedule.alpha(t).float().view(-1, 1, 1, 1)
    with torch.no_grad():
        at_it, away = f(x, t).x0, f(x, torch.full((2,), 0.7)).x0
    assert float((at_it - x / alpha).abs().max()) <= 1e-7 * float(x.abs().max()) + 1e-7
    assert float((away - x).abs().max()) > 0.1  # the weights do speak elsewhere


# 2


def test_2_the_curriculum_and_its_scale() -> None:
    curriculum = Doubling(1400, 10, 640)
    seen = [curriculum(k) for k in range(2000)]
    assert list(dict.fromkeys(seen)) == [11, 21, 41, 81, 161, 321, 641]
    assert [k for k in range(1, 2000) if seen[k] != seen[k - 1]] == [200 * i for i in range(1, 7)]
    assert curriculum.stage == 1400 // 7 and seen[-1] == 641
    scale = AdaptiveScale()
    assert scale(11, 11, 4096) == pytest.approx(0.00054 * 64, rel=1e-12)
    table = {21: ".0136", 41: ".0061", 81: ".0028", 161: ".0012", 321: ".00056", 641: ".00025"}
    for n, told in table.items():
        c = scale(n, 11, 4096)
        assert c == pytest.approx(math.exp(-1.15 * math.log(n - 1) - 0.85), rel=1e-4)
        assert round(c, len(told) - 1) == float(told)
        printed = math.exp(-1.18 * math.log(n - 1) - 0.72)
        assert c == pytest.approx(printed, rel=0.07)
        assert scale(n, 11, 1024) == pytest.approx(c / 2, rel=1e-12)  # ratios to the first stage are kept


# 3


def test_3_the_index_law() -> None:
    law, levels = LogNormalIndex(), KarrasLevels()(11)
    p = law.probabilities(levels)
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    phi = lambda s: 0.5 * (1 + math.erf((math.log(s) + 1.1) / (2 * math.sqrt(2))))  # noqa: E731
    inside = phi(80.0) - phi(MIN)
    for i in range(10):
        assert float(p[i]) == pytest.approx((phi(float(levels[i])) - phi(float(levels[i + 1]))) / inside, rel=1e-9)
    n = 100_000
    u = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=F64)

    class Many(Noise):
        def uniform(self, *args: Any, **options: Any) -> Tensor:
            return u

    pairs = law(Many([0]), levels)
    count = pairs.place.bincount(minlength=10).double()
    assert bool(((count - n * p).abs() < 3 * (n * p * (1 - p)).sqrt()).all())
    assert torch.equal(pairs.high, levels[pairs.place]) and torch.equal(pairs.low, levels[pairs.place + 1])
    fine = KarrasLevels()(641)
    first = DiffusionAnchor().first(641)
    assert first == 480 and float(fine[first]) == pytest.approx(0.170, abs=5e-4)
    assert float(law.probabilities(fine)[first:].sum()) == pytest.approx(0.366, abs=5e-4)
    coarse = DiffusionAnchor().first(11)
    assert float(levels[coarse]) == pytest.approx(0.085, abs=5e-4)


# 4

C = 0.03
CLOSED = {
    "squared": (Squared("sum"), lambda r: 2 * r),
    "huber": (PseudoHuber("sum"), lambda r: r / math.sqrt(r * r + C * C)),
    "cauchy": (Cauchy("sum"), lambda r: r / (r * r / 2 + C * C)),
    "geman": (GemanMcClure("sum"), lambda r: 16 * C * C * r / (r * r + 4 * C * C) ** 2),
}


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("r", [1e-4, 0.03, 1.0, 1e3])
def test_4_gradients_are_the_closed_forms(name: str, r: float) -> None:
    loss, slope = CLOSED[name]
    direction = torch.tensor([[0.6, 0.0, -0.8]], dtype=F64)
    error = (r * direction).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(error, C).sum(), error)
    torch.testing.assert_close(gradient, slope(r) * direction, rtol=1e-6, atol=0)


def test_4_limits_of_the_losses() -> None:
    small = torch.full((1, 16), 1e-6, dtype=F64)
    q = 1e-12
    assert float(Cauchy()(small, C)) == pytest.approx(q / (2 * C * C), rel=1e-6)
    assert float(PseudoHuber("mean")(small, C)) == pytest.approx(q / (2 * C), rel=1e-6)
    assert float(PseudoHuber()(small, C)) == pytest.approx(16 * q / (2 * C), rel=1e-6)  # the sum: iCT's
    assert float(GemanMcClure()(small, C)) == pytest.approx(q / (2 * C * C), rel=1e-6)
    # the sheet's c at the finest stage, in float32: ln(q / 2 + c^2) - 2 ln c would keep two digits
    c = AdaptiveScale()(641, 11, 4096)
    assert float(Cauchy()(small.float(), c)) == pytest.approx(q / (2 * c * c), rel=1e-4)


def test_4_the_pull_of_an_outlier() -> None:
    r = torch.linspace(0.2, 5, 4801, dtype=F64) * C
    error = r[:, None].clone().requires_grad_()
    (pull,) = torch.autograd.grad(Cauchy()(error, C).sum(), error)
    best = int(pull.argmax())
    assert float(r[best]) == pytest.approx(math.sqrt(2) * C, rel=1e-3)
    assert float(pull.max()) == pytest.approx(1 / (math.sqrt(2) * C), rel=1e-6)
    base = Noise(range(4))("error", 0, (64,), dtype=F64)
    grown = base * torch.tensor([1.0, 1e3, 1.0, 1.0], dtype=F64)[:, None]
    for loss, change in ((Cauchy("sum"), 1e-3), (PseudoHuber("sum"), 1.0), (GemanMcClure("sum"), 1e-9)):
        pulls = []
        for values in (base, grown):
            error = values.clone().requires_grad_()
            pulls.append(torch.autograd.grad(loss(error, C).sum(), error)[0].norm(dim=1))
        torch.testing.assert_close((pulls[1] / pulls[0])[1], torch.tensor(change, dtype=F64), rtol=0.01, atol=0)
        torch.testing.assert_close(pulls[1][[0, 2, 3]], pulls[0][[0, 2, 3]])


# 5


def test_5_the_exact_map_has_no_loss_on_pairs_of_the_flow() -> None:
    spread, mean = 0.7, 0.3
    slope = lambda s: ((spread**2 + MIN**2) / (spread**2 + s**2)).sqrt()  # noqa: E731

    class OnTheFlow:
        def __call__(self, x, eps, x_high, t_high, t_low, schedule):
            a, b = (spread**2 + schedule.sigma(t) ** 2 for t in (t_low, t_high))
            return mean + (a / b).sqrt()[:, None] * (x_high - mean)

    levels = KarrasLevels()(18)
    f = Line(slope, levels, mean)
    noise = Noise(range(64))
    x = mean + spread * noise("data", 0, (3,), dtype=F64)
    stage = ConsistencyStage(levels, loss=Squared(), scale=ConstantScale(1.0), partner=OnTheFlow())
    assert float(stage(f, Batch(x), noise).terms["consistency"].abs()) < 1e-12
    same = ConsistencyStage(levels, loss=Squared(), scale=ConstantScale(1.0))
    assert float(same(f, Batch(x), noise).terms["consistency"]) > 1e-3


def test_5_the_training_pair_is_biased_to_second_order_only() -> None:
    """S = 0.5, s = 1: the measured losses and slopes; both fall as the square of the gap."""
    x, eps = moments_of(0.5)
    told = {0.1: (4.7e-4, 1.06e-3), 0.05: (1.1e-4, 2.4e-4), 0.025: (2.6e-5, 5.8e-5)}
    found = {}
    for gap, (loss_told, slope_told) in told.items():
        f = Line(lambda s: 0.5 / (0.25 + s**2).sqrt(), torch.tensor([1.0, 1 - gap], dtype=F64))
        total = stage_of(1.0, 1 - gap)(f, Batch(x), Scripted(4, {"eps": eps, "level": torch.zeros(4, dtype=F64)})).total
        (slope,) = torch.autograd.grad(total, f.shift)
        found[gap] = (float(total.detach()) * gap, float(slope[0]) * gap)  # without the weight 1 / gap
        g, low = 0.5 / math.sqrt(1.25), 0.5 / math.sqrt(0.25 + (1 - gap) ** 2)
        expected = 0.25 * (g - low) ** 2 + (g - low * (1 - gap)) ** 2
        assert found[gap][0] == pytest.approx(expected, rel=1e-6)
        assert found[gap] == pytest.approx((loss_told, slope_told), rel=0.03)
    for which in (0, 1):
        assert math.log2(found[0.05][which] / found[0.025][which]) == pytest.approx(2, abs=0.15)


def test_5_where_training_settles_nears_the_exact_map_as_the_levels_grow() -> None:
    """The fixed point a_i (S^2 + s_i^2) = a_i+1 (S^2 + s_i s_i+1): no gradient there, and an error of order 1 / N."""
    x, eps = moments_of(0.5)
    errors = []
    for count in (41, 81, 161):
        levels = KarrasLevels()(count)
        a = torch.ones(count, dtype=F64)
        for i in range(count - 2, -1, -1):
            a[i] = a[i + 1] * (0.25 + levels[i] * levels[i + 1]) / (0.25 + levels[i] ** 2)
        exact = ((0.25 + MIN**2) / (0.25 + levels**2)).sqrt()
        errors.append(float((a / exact - 1).abs().max()))
        f = Line(lambda s, a=a, levels=levels: a[(levels - s[:, None]).abs().argmin(1)], levels)
        stage = ConsistencyStage(levels, index=UniformIndex(), loss=Squared(), scale=ConstantScale(1.0))
        for i in (0, count // 2, count - 2):
            u = torch.full((4,), (i + 0.5) / (count - 1), dtype=F64)
            total = stage(f, Batch(x), Scripted(4, {"eps": eps, "level": u})).total
            (gradient,) = torch.autograd.grad(total, f.shift)
            scale = 0.25 + float(levels[i]) ** 2
            assert float(gradient.abs().max()) * float(levels[i] - levels[i + 1]) < 1e-6 * scale
    for coarse, fine in zip(errors, errors[1:]):
        assert math.log2(coarse / fine) == pytest.approx(1, abs=0.15)


# 6


def test_6_optimal_transport_is_the_best_permutation() -> None:
    pytest.importorskip("scipy")
    noise = Noise(range(6))
    x, eps = 0.5 * noise("x", 0, (3,), dtype=F64), noise("eps", 0, (3,), dtype=F64)
    got = OptimalTransport()(x, eps)
    cost = lambda order: float((x - order).square().sum())  # noqa: E731
    assert cost(got) == pytest.approx(min(cost(eps[list(p)]) for p in permutations(range(6))), rel=1e-12)
    assert cost(got) < cost(eps)


def test_6_it_rearranges_and_nothing_else() -> None:
    pytest.importorskip("scipy")
    noise = Noise(range(40))
    x, eps = noise("x", 0, (2, 3, 3)), noise("eps", 0, (2, 3, 3))
    got = OptimalTransport(size=16)(x, eps)
    match = (got[:, None] == eps[None]).flatten(2).all(2)
    assert torch.equal(match.sum(0), torch.ones(40, dtype=torch.int64))  # a bijection: the marginal is untouched
    assert torch.equal(match.sum(1), torch.ones(40, dtype=torch.int64))
    for rows in (slice(0, 16), slice(16, 32), slice(32, 40)):
        assert bool(match[rows, rows].any(1).all())  # within its block
        assert float((x - got)[rows].square().sum()) <= float((x - eps)[rows].square().sum())
    assert torch.equal(OptimalTransport()(x[:1], eps[:1]), eps[:1])


def test_6_labels_stay_with_their_samples() -> None:
    pytest.importorskip("scipy")
    seen: list[tuple[Tensor, Tensor]] = []

    class Records(Denoiser):
        def forward(self, x_t, t, c=None):
            seen.append((x_t, c["label"]))
            return Prediction.from_x0(x_t * 1.0, x_t, t, self.schedule)

    label = torch.arange(12)
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), dtype=F64) + 1000.0 * label[:, None]
    ConsistencyStage(KarrasLevels()(11), coupling=OptimalTransport())(
        Records(VE()), Batch(x, Condition({"label": label})), Noise(range(12))
    )
    for x_t, told in seen:
        assert torch.equal((x_t.mean(1) / 1000).round().long(), told)


# 7


def test_7_nothing_reaches_the_target() -> None:
    x, eps = moments_of(0.5)
    f = Line(lambda s: 0.4 / (0.25 + s**2).sqrt(), torch.tensor([1.0, 0.9], dtype=F64))
    total = stage_of(1.0, 0.9)(f, Batch(x), Scripted(4, {"eps": eps, "level": torch.zeros(4, dtype=F64)})).total
    (slope,) = torch.autograd.grad(total, f.shift)
    assert float(slope[1]) == 0.0 and abs(float(slope[0])) > 1e-3


class Masks(Denoiser):
    """Says nothing but its dropout mask."""

    def __init__(self) -> None:
        super().__init__(VE())
        self.dropout = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x_t, t, c=None):
        return Prediction.from_x0(self.scale * self.dropout(torch.ones_like(x_t)), x_t, t, self.schedule)


def test_7_student_and_target_have_the_same_masks() -> None:
    """The student is the target where inputs do not matter; and the draws go on as after one evaluation."""
    f, x = Masks(), torch.zeros(8, 32)
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        told = ConsistencyStage(KarrasLevels()(11), loss=Squared())(f, Batch(x), Noise(range(8)))
        after = torch.rand(4)
        torch.manual_seed(3)
        first = f(x, torch.ones(8)).x0
        assert torch.equal(torch.rand(4), after)
        second = f(x, torch.ones(8)).x0
    assert float(told.terms["consistency"]) == 0.0
    assert not torch.equal(first, second)  # without the replay they would differ


# 8


def test_8_an_anchor_on_no_sample_is_exactly_zero() -> None:
    anchor, levels = DiffusionAnchor(), KarrasLevels()(11)
    p = LogNormalIndex().probabilities(levels)[anchor.first(11) :].sum()
    assert float((1 - p) ** 8) == pytest.approx(0.11, abs=0.005)
    out = torch.full((8, 3), 2.0, requires_grad=True)
    place = torch.arange(8)
    pairs = Pairs(levels[place], levels[place + 1], place, 11)
    value = anchor(torch.zeros(8, 3), out, pairs)
    value.backward()
    assert float(value.detach()) == 0.0 and float(out.grad.abs().max()) == 0.0
    place = torch.tensor([0, 8, 3, 9])
    pairs = Pairs(levels[place], levels[place + 1], place, 11)
    x = Noise(range(4))("x", 0, (3,), dtype=F64)
    got = anchor(torch.zeros(4, 3, dtype=F64), x, pairs)
    q = x.square().mean(1)
    expected = 5 * 0.5 * sum((float(levels[i]) ** -2 + 4) * float(q[row]) for row, i in ((1, 8), (3, 9)))
    assert float(got) == pytest.approx(expected, rel=1e-12)


# 9


def test_9_norms_without_gains(alive) -> None:
    net = without_gains(UNet(4, channels=16, mult=(1, 2), blocks=1, context=8))
    gains = [m for m in net.modules() if isinstance(m, (nn.GroupNorm, nn.LayerNorm)) and m.weight is not None]
    norms = [m for m in net.modules() if isinstance(m, (NonScalingGroupNorm, NonScalingLayerNorm))]
    assert not gains and len(norms) > 8
    net = alive(net)
    x, text = Noise([0, 1])("x_T", 0, (4, 8, 8), dtype=F64), Noise([0, 1])("text", 0, (3, 8), dtype=F64)
    net(x, torch.tensor([0.1, 0.7], dtype=F64), {"text": text}).square().sum().backward()
    for norm in norms:
        assert [name for name, _ in norm.named_parameters()] == ["bias"]
        assert norm.bias.grad is not None and float(norm.bias.grad.abs().max()) > 0


def test_9_a_fresh_one_is_layer_normalisation_and_forgets_the_scale() -> None:
    x = Noise([0, 1])("x", 0, (6, 5, 5), dtype=F64)
    norm = NonScalingGroupNorm(6).double()
    torch.testing.assert_close(norm(x), nn.functional.layer_norm(x, (6, 5, 5)), rtol=1e-12, atol=1e-12)
    tight = NonScalingGroupNorm(6, eps=1e-14).double()
    torch.testing.assert_close(tight(1e3 * x), tight(x), rtol=1e-9, atol=1e-9)
    last = NonScalingLayerNorm(5, eps=1e-14).double()
    torch.testing.assert_close(last(x), nn.functional.layer_norm(x, (5,), eps=1e-14), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(last(1e3 * x), last(x), rtol=1e-9, atol=1e-9)


# 10


def test_10_normalised_latents_have_spread_a_half_and_come_back() -> None:
    images = (torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0)) ** 2) * 1.6 - 0.9
    autoencoder = Identity(3)
    autoencoder.fit_statistics([images])
    before = statistics_hash(autoencoder.spec)
    autoencoder.spec = with_spread(autoencoder.spec, 0.5)
    z = autoencoder.encode(images)
    assert float(z.std()) == pytest.approx(0.5, abs=0.01)
    assert float((autoencoder.decode(z) - images).abs().max()) < 1e-6
    assert statistics_hash(autoencoder.spec) != before
    assert statistics_hash(with_spread(autoencoder.spec, 2.0 * 0.5)) == statistics_hash(autoencoder.spec)
