"""Schedules and predictions against their definitions: every schedule, every t, both ends."""

from __future__ import annotations

import math

import pytest
import torch

from mezzotint.core import VE, VP, Cosine, Discrete, Flow, Prediction, Shifted

SCHEDULES = {
    "vp": VP(),
    "vp-steep": VP(0.01, 30.0),
    "cosine": Cosine(),
    "cosine-0": Cosine(0.0),
    "ve": VE(),
    "flow": Flow(),
    "linear": Discrete.linear(),
    "scaled": Discrete.scaled_linear(),
    "dcosine": Discrete.cosine(),
    "sd3": Shifted(Flow(), 3.0),
    "shifted-vp": Shifted(VP(), 0.5),
    "shifted-ve": Shifted(VE(), 2.0),
}
every = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
TIMES = torch.cat([torch.linspace(0, 1, 401, dtype=torch.float64), torch.logspace(-9, -2, 20, dtype=torch.float64)])


@every
def test_alpha_and_sigma_lie_on_the_schedules_curve(schedule):
    a, s = schedule.alpha(TIMES), schedule.sigma(TIMES)
    total = {"variance": a**2 + s**2, "straight": a + s, "exploding": a}[schedule.curve]
    assert torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-12)


@every
def test_ends_are_exact(schedule):
    for dtype in (torch.float32, torch.float64):
        zero, one = torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype)
        assert schedule.sigma(zero) == 0 and schedule.alpha(zero) == 1
        assert schedule.half_log_snr(zero) == math.inf
        assert schedule.t_of(torch.tensor(math.inf, dtype=dtype)) == 0
        low = schedule.half_log_snr(one)
        assert (schedule.alpha(one) == 0) == (low == -math.inf)


@every
def test_t_of_stays_in_the_unit_interval(schedule):
    """A level noisier than the schedule reaches is its noisiest one, at the exact end 1; -inf is no NaN."""
    for dtype in (torch.float32, torch.float64):
        lam = torch.tensor([-math.inf, -1e4, -200.0], dtype=dtype)
        assert torch.allclose(schedule.t_of(lam), torch.ones(3, dtype=dtype), rtol=0, atol=1e-6)
        assert float(schedule.t_of(lam).max()) <= 1


@every
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_t_of_inverts_half_log_snr(schedule, dtype, tolerance):
    t = TIMES.to(dtype)
    assert float((schedule.t_of(schedule.half_log_snr(t)) - t).abs().max()) <= tolerance


@every
def test_half_log_snr_is_the_log_of_the_ratio_and_falls(schedule):
    t = TIMES[:401]
    lam = schedule.half_log_snr(t)
    ratio = (schedule.alpha(t) / schedule.sigma(t)).log()
    assert torch.allclose(lam[1:-1], ratio[1:-1], rtol=1e-12, atol=1e-12)
    assert bool((lam[1:] < lam[:-1]).all())


@every
@pytest.mark.parametrize("t", [0.0, 1e-6, 0.01, 0.3, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_predictions_round_trip(schedule, t, dtype, tolerance):
    """kind -> x0 and eps -> kind, and alpha x0 + sigma eps = x_t, wherever the two unknowns are determined."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(4, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    times = torch.full((4,), t, dtype=torch.float64)
    a, s = schedule.alpha(times)[:, None], schedule.sigma(times)[:, None]
    x_t = (a * x0 + s * eps).to(dtype)
    truth = {"x0": x0, "eps": eps, "v": a * eps - s * x0, "flow": eps - x0}
    a, s = float(a[0, 0]), float(s[0, 0])
    for kind, value in truth.items():
        p = getattr(Prediction, f"from_{kind}")(value.to(dtype), x_t, times, schedule)
        assert p.x0.dtype == dtype
        # an error e in the native value or in x_t is e times this in the other unknown
        to_x0 = {"x0": 0.0, "eps": s / a if a else math.inf, "v": s / (a * a + s * s), "flow": s / (a + s)}[kind]
        to_eps = {"x0": a / s if s else math.inf, "eps": 0.0, "v": a / (a * a + s * s), "flow": a / (a + s)}[kind]
        for other, amplified in (("x0", to_x0), ("eps", to_eps)):
            if math.isinf(amplified):
                assert float(getattr(p, other).abs().max()) == 0  # undetermined: said to be 0, never NaN
                continue
            scale = (1 + amplified) * (1 + 1 / max(a, s, 1e-3))
            if other == "x0" and kind == "eps":
                scale += 1 / a
            if other == "eps" and kind == "x0":
                scale += 1 / s
            error = float((getattr(p, other).double() - truth[other]).abs().max())
            assert error <= tolerance * max(1.0, scale), (kind, other, error)
        if 0 < a and 0 < s:
            again = (a * p.x0.double() + s * p.eps.double() - x_t.double()).abs().max()
            assert float(again) <= tolerance * max(1.0, s)


def test_float64_round_trip_in_well_conditioned_middle_is_exact():
    """No conditioning excuse here: within 1e-12 for float64, 1e-5 for float32, all pairs of kinds."""
    generator = torch.Generator().manual_seed(1)
    x0, eps = (torch.randn(3, 7, dtype=torch.float64, generator=generator) for _ in range(2))
    for schedule in (VP(), Cosine(), Flow(), Discrete.scaled_linear(), Shifted(Flow(), 3.0)):
        t = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64)
        a, s = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
            x_t = (a * x0 + s * eps).to(dtype)
            first = Prediction.from_x0(x0.to(dtype), x_t, t, schedule)
            for kind in Prediction.kinds:
                second = getattr(Prediction, f"from_{kind}")(getattr(first, kind), x_t, t, schedule)
                for other in Prediction.kinds:
                    difference = (getattr(second, other) - getattr(first, other)).abs().max()
                    assert float(difference) <= tolerance * 10 / float(s.min()), (schedule, kind, other)


def test_score_is_minus_eps_over_sigma():
    t = torch.tensor([0.5], dtype=torch.float64)
    eps = torch.tensor([[2.0]], dtype=torch.float64)
    p = Prediction.from_eps(eps, torch.zeros(1, 1, dtype=torch.float64), t, Flow())
    assert float(p.score) == -4.0


def test_discrete_equals_its_betas_at_the_integer_steps():
    for schedule in (
        Discrete.linear(),
        Discrete.scaled_linear(1000, 0.0015, 0.0195),
        Discrete.cosine(),
        Discrete([0.1, 0.5]),
    ):
        n = schedule.steps
        t = torch.tensor([(i + 1) / n for i in range(n)], dtype=torch.float64)
        product = torch.cumprod(1 - torch.tensor(schedule.betas, dtype=torch.float64), 0)
        assert torch.allclose(schedule.alpha(t) ** 2, product, rtol=1e-13, atol=0)
        assert torch.allclose(schedule.timestep(t), torch.arange(n, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize(
    ("first", "last", "alpha_bar"),
    [(0.0015, 0.0195, 1.42e-4), (0.00085, 0.012, 4.66e-3), (0.0015, 0.0155, 6.69e-4), (0.0015, 0.0205, 9.69e-5)],
)
def test_scaled_linear_reaches_the_published_levels(first, last, alpha_bar):
    """Sheet 2112.10752, check 5."""
    schedule = Discrete.scaled_linear(1000, first, last)
    assert schedule.alpha(torch.tensor(1.0, dtype=torch.float64)) ** 2 == pytest.approx(alpha_bar, rel=5e-3)
    assert schedule.betas[0] == pytest.approx(first) and schedule.betas[-1] == pytest.approx(last)
    roots = torch.tensor(schedule.betas, dtype=torch.float64).sqrt()
    assert float(roots.diff().std()) < 1e-7


def test_shifted_flow_is_sd3s_time_shift():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(Shifted(Flow(), 3.0).sigma(t), 3 * t / (1 + 2 * t), atol=1e-15)
    assert Shifted.for_resolution(VP(), 128, 64).shift == 2.0


def test_ve_is_the_exact_kernel():
    t = torch.tensor(1.0, dtype=torch.float64)
    assert float(VE(0.01, 50.0).sigma(t)) == pytest.approx(math.sqrt(50.0**2 - 0.01**2), rel=1e-12)
