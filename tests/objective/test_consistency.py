"""The pieces of consistency training beyond the paper's exact checks: purity, refusals, precision, the task."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import VE, VP, BoundaryDenoiser, Denoiser, Flow, Noise, Prediction, at_sigmas
from mezzotint.nn import UNet, without_gains
from mezzotint.objective import (
    AdaptiveScale,
    Batch,
    Cauchy,
    CeilDoubling,
    ConsistencyStage,
    ConsistencyTraining,
    ConstantScale,
    Denoise,
    DiffusionAnchor,
    Doubling,
    ElementwiseCauchy,
    FixedLevels,
    FixedScale,
    GemanMcClure,
    KarrasLevels,
    LogNormalIndex,
    OptimalTransport,
    PseudoHuber,
    Scheduled,
    Squared,
    UniformIndex,
    check_spread,
    latent_consistency,
)
from mezzotint.sample import Consistency
from mezzotint.train import DenoisingTask

F64 = torch.float64


class Records(Denoiser):
    """Halves its input, and keeps what it was asked."""

    def __init__(self, schedule=None) -> None:
        super().__init__(schedule or VE())
        self.asked: list[tuple[Tensor, Tensor]] = []
        self.factor = nn.Parameter(torch.tensor(0.5))

    def forward(self, x_t, t, c=None):
        self.asked.append((x_t.detach(), t))
        return Prediction.from_x0(self.factor * x_t, x_t, t, self.schedule)


@pytest.mark.parametrize("schedule", [VE(), VP(), Flow()])
def test_both_points_have_the_same_sample_and_noise(schedule):
    f, noise, levels = Records(schedule), Noise(range(6)), KarrasLevels()(21)
    x = noise("data", 0, (5,), dtype=F64)
    told = ConsistencyStage(levels, loss=Squared(), scale=ConstantScale(1.0))(f, Batch(x), noise)
    eps, pairs = noise("eps", 0, (5,), dtype=F64), LogNormalIndex()(noise, levels)
    outs = []
    for (x_t, t), level in zip(f.asked, (pairs.high, pairs.low)):
        a, s = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        torch.testing.assert_close(s / a, level[:, None], rtol=1e-8, atol=0)
        torch.testing.assert_close(x_t, a * x + s * eps, rtol=1e-9, atol=1e-9)
        outs.append(0.5 * x_t)
    expected = ((outs[0] - outs[1]).square().mean(1) / (pairs.high - pairs.low)).mean()
    torch.testing.assert_close(told.total.detach(), expected, rtol=1e-9, atol=0)
    assert float(told.terms["levels"]) == 21 and float(told.terms["c"]) == 1.0


def test_a_step_is_a_function_of_each_seed():
    levels, whole = KarrasLevels()(41), Records()
    x = Noise(range(6))("data", 0, (3,))
    ConsistencyStage(levels)(whole, Batch(x), Noise(range(6)))
    alone = Records()
    ConsistencyStage(levels)(alone, Batch(x[4:5]), Noise([4]))
    for (a, t), (b, u) in zip(whole.asked, alone.asked):
        assert torch.equal(a[4:5], b) and torch.equal(t[4:5], u)


def test_the_stages_of_a_training():
    objective = ConsistencyTraining(Doubling(40, 10, 80), loss=Cauchy(), scale=AdaptiveScale())
    assert isinstance(objective, Scheduled)
    x = 0.5 * Noise(range(8))("data", 0, (64, 8, 8))
    for step, count in ((0, 11), (9, 11), (10, 21), (39, 81)):
        terms = objective.at(step)(Records(), Batch(x), Noise(range(8))).terms
        assert float(terms["levels"]) == count
        assert float(terms["c"]) == pytest.approx(AdaptiveScale()(count, 11, 4096), rel=1e-6)


def test_extra_terms_are_added_and_named():
    x, noise = 0.5 * Noise(range(32))("data", 0, (16,), dtype=F64), Noise(range(32))
    plain = ConsistencyStage(KarrasLevels()(11))(Records(), Batch(x), noise)
    both = ConsistencyStage(KarrasLevels()(11), extra=(DiffusionAnchor(weight=5.0),))(Records(), Batch(x), noise)
    half = ConsistencyStage(KarrasLevels()(11), extra=(DiffusionAnchor(weight=2.5),))(Records(), Batch(x), noise)
    anchor = float(both.terms["anchor"])
    assert anchor > 0 and anchor == pytest.approx(2 * float(half.terms["anchor"]), rel=1e-9)
    assert float(both.total.detach()) == pytest.approx(float(plain.total.detach()) + anchor, rel=1e-12)
    assert float(both.terms["consistency"]) == float(plain.terms["consistency"])


def test_the_student_learns_under_autocast():
    """Weights that autocast has cast for the target carry no gradient; the student must not get those."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = nn.Linear(4, 4)

    def call(x: Tensor, time: Tensor, c: object) -> Tensor:
        return net(x)

    with torch.autocast("cpu", torch.bfloat16):
        x = 0.5 * Noise(range(8))("data", 0, (4,))
        told = ConsistencyStage(KarrasLevels()(11))(BoundaryDenoiser(call, VE()), Batch(x), Noise(range(8)))
    told.total.backward()
    assert told.total.dtype == torch.float32
    assert net.weight.grad is not None and float(net.weight.grad.abs().max()) > 0


def test_data_of_another_spread_are_refused_at_the_first_step_only():
    objective = ConsistencyTraining(FixedLevels(11))
    f = BoundaryDenoiser(lambda x, time, c: 0 * x, VE())
    noise = Noise(range(16))
    for factor in (1.0, 5.0, 0.1):
        batch = Batch(factor * noise("data", 0, (64,)))
        with pytest.raises(ValueError, match=r"standard deviation .* autoencoder's spec"):
            objective.at(0)(f, batch, noise)
        objective.at(1)(f, batch, noise)
    objective.at(0)(f, Batch(0.5 * noise("data", 0, (64,))), noise)
    other = BoundaryDenoiser(lambda x, time, c: 0 * x, VE(), sigma_data=1.0)
    objective.at(0)(other, Batch(noise("data", 0, (64,))), noise)
    ConsistencyTraining(FixedLevels(11), spread=None).at(0)(f, Batch(noise("data", 0, (64,))), noise)


def test_a_few_samples_of_the_right_spread_pass():
    """Samples that differ much among each other tell little of the spread of all."""
    for seed in range(20):
        noise = Noise(range(8 * seed, 8 * seed + 8))
        loud = torch.where(noise.uniform("loud", 0, (1,)) < 0.5, 0.1, 0.7)
        check_spread(loud * noise("data", 0, (64,)))
    check_spread(torch.full((1, 4), 9.0))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Doubling(0), "steps=0"),
        (lambda: Doubling(5, 10, 1280), "less than one a stage"),
        (lambda: Doubling(100, 20, 10), "s0=20"),
        (lambda: CeilDoubling(100, 0, 10), "s0=0"),
        (lambda: Doubling(100)(-1), "step=-1"),
        (lambda: FixedLevels(1), "levels=1"),
        (lambda: KarrasLevels(1.0, 0.5), "sigma_min=1.0"),
        (lambda: KarrasLevels()(1), "count=1"),
        (lambda: LogNormalIndex(std=0.0), "std=0.0"),
        (lambda: Cauchy("max"), "reduce='max'"),  # type: ignore[arg-type]
        (lambda: FixedScale(0.0), "factor=0.0"),
        (lambda: AdaptiveScale(-1.0), "factor=-1.0"),
        (lambda: ConstantScale(0.0), "c=0.0"),
        (lambda: OptimalTransport(0), "size=0"),
        (lambda: DiffusionAnchor(fraction=0.0), "fraction=0.0"),
        (lambda: at_sigmas([1.0, 2.0]), "falling"),
        (lambda: at_sigmas([]), "falling"),
        (lambda: at_sigmas([90.0])(VE(), 1), "reaches sigma/alpha=80"),
        (lambda: at_sigmas([80.0])(VE(), 2), "1 steps, not 2"),
        (lambda: ConsistencyStage(KarrasLevels()(11))(Records(), Batch(torch.ones(2, 3)), Noise([0])), "1 seeds for 2"),
        (
            lambda: ConsistencyStage(KarrasLevels(sigma_max=300.0)(11))(Records(), Batch(torch.ones(1, 3)), Noise([0])),
            "schedule ends at 80",
        ),
    ],
)
def test_bad_settings_are_refused_in_words(unchecked, make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_the_elementwise_loss_weighs_elements():
    """One wild element: the whole-sample loss gives up on the others, the elementwise one does not."""
    error = torch.full((1, 64), 0.01, dtype=F64)
    error[0, 0] = 100.0
    pulls = {}
    for loss in (Cauchy(), ElementwiseCauchy()):
        e = error.clone().requires_grad_()
        pulls[type(loss)] = torch.autograd.grad(loss(e, 0.01).sum(), e)[0][0, 1]
    assert float(pulls[Cauchy]) < 1e-5 * float(pulls[ElementwiseCauchy])
    alone = torch.full((1, 1), 0.03, dtype=F64)
    assert float(Cauchy()(alone, 0.01)) == pytest.approx(float(ElementwiseCauchy()(alone, 0.01)), rel=1e-12)
    for loss in (Squared(), PseudoHuber(), GemanMcClure(), Cauchy()):
        assert float(loss(0 * error, 0.01)) == 0.0


def test_uniform_pairs():
    p = UniformIndex().probabilities(KarrasLevels()(5))
    assert p.tolist() == [0.25] * 4
    assert sorted(set(UniformIndex()(Noise(range(60)), KarrasLevels()(5)).place.tolist())) == [0, 1, 2, 3]


def test_flow_matching_takes_a_coupling():
    pytest.importorskip("scipy")
    noise = Noise(range(32))
    x = noise("data", 0, (2,), dtype=F64)
    plain, coupled = Records(Flow()), Records(Flow())
    Denoise("flow", drop=0.0)(plain, Batch(x), noise)
    Denoise("flow", drop=0.0, coupling=OptimalTransport())(coupled, Batch(x), noise)
    t = plain.asked[0][1][:, None]
    before, after = (((d.asked[0][0] - (1 - t) * x) / t) for d in (plain, coupled))
    assert float((x - after).square().sum()) < 0.8 * float((x - before).square().sum())
    torch.testing.assert_close(after.sum(0), before.sum(0), rtol=1e-6, atol=1e-6)


def test_multistep_sampling_takes_levels():
    """At 80 and 1: the second input is the first output with noise of level 1; the last output is returned."""
    f, noise = Records(), Noise([0, 1])
    x_T = 80 * noise("x_T", 0, (3,), dtype=F64)
    out = Consistency()(f, x_T, steps=2, grid=at_sigmas([80.0, 1.0]), noise=noise)
    z = noise("step", 0, (3,), dtype=F64)
    (first, t), (second, u) = f.asked
    assert torch.equal(first, x_T)
    torch.testing.assert_close(VE().sigma(torch.stack([t[0], u[0]])), torch.tensor([80.0, 1.0], dtype=F64))
    torch.testing.assert_close(second, 0.5 * x_T + z)
    torch.testing.assert_close(out, 0.5 * second)


def test_a_tiny_network_trains_with_every_part():
    """Data of two points: after a few steps a jump from level 1 lands nearer to them."""
    pytest.importorskip("scipy")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = without_gains(UNet(2, channels=16, mult=(1,), blocks=1, attention=()))
    f = BoundaryDenoiser(net, VE())
    task = DenoisingTask(f, latent_consistency(40, 10, 80), lr=3e-3, ema=None)
    pattern = 0.5 * (1 - 2 * (torch.arange(32) % 2.0)).view(2, 4, 4)
    sign = (1 - 2 * (torch.arange(16) % 2.0)).view(-1, 1, 1, 1)
    x, noise = sign * pattern, Noise(range(16))
    t = VE().t_of(torch.zeros(16, dtype=F64))

    def miss() -> float:
        with torch.no_grad():
            return float((f(x + noise("held", 0, x.shape[1:]), t).x0 - x).square().mean())

    before = miss()
    told = [task.step(Batch(x), step, Noise(range(100 * step + 100, 100 * step + 116))) for step in range(30)]
    assert miss() < 0.7 * before  # one that does not learn stays at 1
    assert {float(row["levels"]) for row in told} == {11.0, 21.0, 41.0}
    assert all(bool(torch.isfinite(row["loss"])) for row in told)
