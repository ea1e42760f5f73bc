"""Identities that samplers must satisfy to rounding: limits, reductions, invariances, moments, gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    VE,
    VP,
    Condition,
    Cosine,
    Denoiser,
    Discrete,
    Flow,
    Gaussian,
    GaussianMixture,
    Noise,
    Prediction,
    Shifted,
    karras,
    quadratic,
    uniform_lambda,
    uniform_t,
)
from mezzotint.core.schedule import Schedule
from mezzotint.sample import DDIM, DDPM, Churn, DPMSolverPP, Euler, Heun, Sampler, State

F64 = torch.float64
SCHEDULES: dict[str, Schedule] = {
    "vp": VP(),
    "cosine": Cosine(),
    "ve": VE(),
    "flow": Flow(),
    "discrete": Discrete.linear(),
    "shifted flow": Shifted(Flow(), 3.0),
    "shifted vp": Shifted(VP(), 2.0),
}
DETERMINISTIC: dict[str, Sampler] = {
    "ddim": DDIM(),
    "euler": Euler(),
    "heun": Heun(),
    "dpmpp-1": DPMSolverPP(order=1),
    "dpmpp-2m midpoint": DPMSolverPP(order=2),
    "dpmpp-2m taylor": DPMSolverPP(order=2, form="taylor"),
    "dpmpp-3m exact": DPMSolverPP(order=3, lower_order_final=False),
    "dpmpp-3m published": DPMSolverPP(order=3, third="published"),
}
STOCHASTIC: dict[str, Sampler] = {
    "ddim eta": DDIM(eta=0.5),
    "ddpm": DDPM(),
    "euler churn": Euler(churn=Churn(4.0, low=0.05, high=50.0, noise_scale=1.003)),
    "heun churn": Heun(churn=Churn(4.0)),
}
ALL = DETERMINISTIC | STOCHASTIC

MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]))


class Constant(Denoiser):
    """D = a + b lambda(t), whatever x."""

    def __init__(self, schedule: Schedule, a: float, b: float = 0.0) -> None:
        super().__init__(schedule)
        self.a, self.b = a, b

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        value = torch.full_like(x_t, self.a)
        if self.b:
            value = value + self.b * self.schedule.half_log_snr(t)[:, None]
        return Prediction.from_x0(value, x_t, t, self.schedule)


class Scripted(Noise):
    """Hands out given numbers, z[k] at step k, so that a sampler's dependence on its noise can be read off."""

    def __init__(self, z: Tensor) -> None:
        super().__init__(range(z.shape[1]))
        self.z = z

    def __call__(self, purpose: str, k: int, shape: Sequence[int], **options: Any) -> Tensor:
        return self.z[k].reshape(-1, *shape)


def at(schedule: Schedule, t: float) -> tuple[float, float]:
    time = torch.tensor(t, dtype=F64)
    return float(schedule.alpha(time)), float(schedule.sigma(time))


def start(schedule: Schedule, batch: int, size: int = 3) -> Tensor:
    return at(schedule, 1.0)[1] * Noise(range(batch))("x_T", 0, (size,), dtype=F64)


@pytest.mark.parametrize("grid", [uniform_t, quadratic, uniform_lambda, karras])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_constant_denoiser(name: str, schedule: Schedule, grid: Any) -> None:
    """x_t = alpha_t c + (sigma_t / sigma_T)(x_T - alpha_T c), for every number of steps, at every node."""
    if grid is karras and isinstance(schedule, Discrete):
        grid = uniform_t
    x_T, const = start(schedule, 2), 0.37
    for steps in (1, 6):
        times = grid(schedule, steps).tolist()
        (a_T, s_T), d = at(schedule, times[0]), Constant(schedule, 0.37)
        for state in DETERMINISTIC[name].trajectory(d, x_T, steps=steps, grid=grid):
            a, s = at(schedule, times[state.k])
            expected = a * const + s / s_T * (x_T - a_T * const)
            torch.testing.assert_close(state.x, expected, rtol=1e-12, atol=1e-12)


def test_taylor_is_exact_for_a_linear_prediction() -> None:
    """D = p + q lambda: 2M taylor is exact once its history is; 3M then as well, from its third step."""
    schedule, p, q = VP(), 0.4, -0.15
    d = Constant(schedule, p, q)
    times = torch.linspace(0.9, 0.05, 7, dtype=F64)
    s, lam = schedule.sigma(times), schedule.half_log_snr(times)
    x = torch.tensor([[0.3, -1.1]], dtype=F64)

    def solution(x: Tensor, i: int, j: int) -> Tensor:
        # sigma_j int e^l (p + q l) dl, whose antiderivative is e^l (p + q l - q)
        whole = lam[j].exp() * (p + q * lam[j] - q) - lam[i].exp() * (p + q * lam[i] - q)
        return s[j] / s[i] * x + s[j] * whole

    for sampler, known in ((DPMSolverPP(2, False, "taylor"), 1), (DPMSolverPP(3, False), 2)):
        plan = sampler.plan(schedule, times)
        past = tuple(torch.full_like(x, float(p + q * lam[i])) for i in reversed(range(known)))
        state = State(solution(x, 0, known), known, past[0], past)
        for k in range(known, 6):
            state = sampler.step(d, state, k, plan)
            torch.testing.assert_close(state.x, solution(x, 0, k + 1), rtol=1e-11, atol=1e-11)
    midpoint = DPMSolverPP(2, False, "midpoint")
    wrong = midpoint.step(d, State(solution(x, 0, 1), 1, None, past[-1:]), 1, midpoint.plan(schedule, times))
    assert (wrong.x - solution(x, 0, 2)).abs().max() > 1e-5  # the test can fail


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_first_order_methods_are_one(schedule: Schedule) -> None:
    """DDIM = DPM-Solver++ 1 = Euler in sigma/alpha = Euler in sigma/(alpha + sigma) = the noise form."""
    d, x_T = MIXTURE.denoiser(schedule), start(schedule, 4)
    got = [s(d, x_T, steps=9) for s in (DDIM(), DPMSolverPP(order=1), Euler(), DPMSolverPP(order=1, form="taylor"))]
    for other in got[1:]:
        torch.testing.assert_close(other, got[0], rtol=1e-12, atol=1e-12)

    times = uniform_t(schedule, 9)
    ddim, noise_form, straight, ve = x_T, x_T, x_T, x_T
    for t, after in zip(times.tolist(), times[1:].tolist()):
        (a, s), (b, r) = at(schedule, t), at(schedule, after)
        time = torch.full((4,), t, dtype=F64)
        p = d(ddim, time)
        ddim = b * p.x0 + r * p.eps
        p = d(straight, time)
        u = straight / (a + s) + (r / (b + r) - s / (a + s)) * p.flow
        straight = (b + r) * u
        if a > 0:  # neither form exists at alpha = 0
            h = math.inf if r == 0 else math.log(b / r) - math.log(a / s)
            p = d(noise_form, time)
            noise_form = b * p.x0 if r == 0 else b / a * noise_form - r * math.expm1(h) * p.eps
            p = d(ve, time)
            ve = b * (ve / a + (r / b - s / a) * p.eps)
        else:
            noise_form, ve = ddim, ddim
    for manual in (ddim, noise_form, straight, ve):
        torch.testing.assert_close(got[0], manual, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("schedule", [VE(), VP()], ids=["ve", "vp"])
def test_heun_is_edm_algorithm_1(schedule: Schedule) -> None:
    d, x_T, times = MIXTURE.denoiser(schedule), start(schedule, 4), karras(schedule, 6)
    y = x_T / at(schedule, 1.0)[0]
    for t, after in zip(times.tolist(), times[1:].tolist()):
        (a, s), (b, r) = at(schedule, t), at(schedule, after)
        level, lower = s / a, r / b
        slope = (y - d(a * y, torch.full((4,), t, dtype=F64)).x0) / level
        new = y + (lower - level) * slope
        if lower > 0:
            again = (new - d(b * new, torch.full((4,), after, dtype=F64)).x0) / lower
            new = y + (lower - level) * 0.5 * (slope + again)
        y = new
    torch.testing.assert_close(Heun()(d, x_T, grid=times), y, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_ddpm_is_ddim_with_eta_one_and_the_posterior(schedule: Schedule) -> None:
    d, x_T, noise = MIXTURE.denoiser(schedule), start(schedule, 4), Noise(range(4))
    torch.testing.assert_close(
        DDPM()(d, x_T, steps=8, noise=noise), DDIM(eta=1.0)(d, x_T, steps=8, noise=noise), rtol=1e-12, atol=1e-12
    )
    times = uniform_t(schedule, 8)
    for row, t, after in zip(DDPM().plan(schedule, times).rows, times.tolist(), times[1:].tolist()):
        (a_s, s), (a_t, r) = at(schedule, t), at(schedule, after)
        ratio = a_s / a_t
        fresh = s**2 - ratio**2 * r**2
        expected = (ratio * r**2 / s**2, math.sqrt(max(fresh, 0.0)) * r / s, a_t * fresh / s**2)
        assert row == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_vp_and_ve_describe_one_process(name: str) -> None:
    """x / alpha on VP equals VE's run at the same sigma / alpha, node by node."""
    vp, ve = VP(), VE(0.002, 160.0)
    times = torch.linspace(0.98, 0.02, 12, dtype=F64)
    same = ve.t_of(vp.half_log_snr(times))
    x = start(vp, 4)
    on_vp = DETERMINISTIC[name].trajectory(MIXTURE.denoiser(vp), x, grid=times)
    on_ve = DETERMINISTIC[name].trajectory(MIXTURE.denoiser(ve), x / vp.alpha(times[0]), grid=same)
    for left, right in zip(on_vp, on_ve, strict=True):
        torch.testing.assert_close(left.x / vp.alpha(times[left.k]), right.x, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", ALL)
def test_last_step_to_sigma_zero_is_the_prediction(name: str, schedule: Schedule) -> None:
    d, noise = MIXTURE.denoiser(schedule), Noise(range(4))
    for steps in (1, 2, 12):
        *_, last = ALL[name].trajectory(d, start(schedule, 4), steps=steps, noise=noise)
        assert last.x0 is not None and bool(torch.isfinite(last.x).all())
        assert torch.equal(last.x, last.x0)


def two_moments(sampler: Sampler, g: Gaussian, schedule: Schedule, steps: int) -> tuple[float, float]:
    """Mean and variance of the result for x_T ~ N(alpha m, alpha^2 s^2 + sigma^2), exactly: all is affine in noise."""
    a, s = at(schedule, 1.0)
    mean, var = float(g.mean), float(g.cov)
    unit = torch.eye(steps + 1, dtype=F64)  # a row for x_T, then one for each draw
    x_T = torch.full((steps + 2, 1), a * mean, dtype=F64)
    x_T[1] += math.sqrt(a**2 * var + s**2)
    z = torch.cat([torch.zeros(1, steps, dtype=F64), unit[:, 1:]]).T
    out = sampler(g.denoiser(schedule), x_T, steps=steps, noise=Scripted(z)).flatten()
    return float(out[0]), float((out[1:] - out[0]).square().sum())


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_moments_of_ancestral_sampling(eta: float, schedule: Schedule) -> None:
    """Against the recursion of mean and variance written with eps, alpha and sigma alone."""
    g, steps = Gaussian(torch.tensor([0.3], dtype=F64), std=0.4), 10
    m, v, times = 0.3, 0.16, uniform_t(schedule, steps).tolist()
    a, s = at(schedule, 1.0)
    mean, var = a * m, a**2 * v + s**2
    for t, after in pairwise(times):
        (a, s), (b, r) = at(schedule, t), at(schedule, after)
        gain = a * v / (a**2 * v + s**2)  # x0 = m + gain (x - a m), eps = (x - a x0) / s
        spread = eta * r / s * math.sqrt(max(s**2 - (a / b * r) ** 2, 0.0))
        factor = b * gain + math.sqrt(r**2 - spread**2) * (1 - a * gain) / s
        mean, var = b * m + factor * (mean - a * m), factor**2 * var + spread**2
    assert two_moments(DDIM(eta), g, schedule, steps) == pytest.approx((mean, var), rel=1e-9)
    if eta == 1.0:
        assert two_moments(DDPM(), g, schedule, steps) == pytest.approx((mean, var), rel=1e-9)


@pytest.mark.parametrize("second", [False, True], ids=["euler", "heun"])
def test_moments_of_churn(second: bool) -> None:
    """Against algorithm 2 of arXiv 2206.00364 on a Gaussian, where D(y, s) - m = v (y - m) / (v + s^2)."""
    schedule, steps, m, v = VE(0.02, 20.0), 12, 0.3, 0.16
    churn = Churn(4.0, low=0.05, high=15.0, noise_scale=1.01)
    levels = [at(schedule, t)[1] for t in uniform_t(schedule, steps).tolist()]
    mean, var = 0.0, v + levels[0] ** 2  # of y - m
    for s, after in pairwise(levels):
        gamma = min(4.0 / steps, math.sqrt(2) - 1) if 0.05 <= s <= 15.0 else 0.0
        hat = s * (1 + gamma)
        var += (hat**2 - s**2) * 1.01**2
        rate = hat / (v + hat**2)  # (y - D) / hat = rate (y - m)
        factor = 1 + (after - hat) * rate
        if second and after > 0:
            factor = 1 + (after - hat) * 0.5 * (rate + factor * after / (v + after**2))
        mean, var = factor * mean, factor**2 * var
    sampler = Heun(churn) if second else Euler(churn)
    got = two_moments(sampler, Gaussian(torch.tensor([m], dtype=F64), std=0.4), schedule, steps)
    assert got == pytest.approx((m + mean, var), rel=1e-9)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_variance_tends_to_the_data(name: str) -> None:
    g = Gaussian(torch.tensor([0.3], dtype=F64), std=0.4)
    errors = [abs(two_moments(STOCHASTIC[name], g, VP(), n)[1] - 0.16) for n in (50, 200)]
    assert errors[1] < 0.02 and errors[1] < 0.4 * errors[0]


def test_stochastic_samples_follow_the_law() -> None:
    """With real draws: 4000 samples of DDPM have the predicted mean and variance within four standard errors."""
    g, n = Gaussian(torch.tensor([0.3], dtype=F64), std=0.4), 4000
    mean, var = two_moments(DDPM(), g, VP(), 10)
    noise = Noise(range(n))
    x = DDPM()(g.denoiser(VP()), noise("x_T", 0, (1,), dtype=F64), steps=10, noise=noise)
    assert abs(float(x.mean()) - mean) < 4 * math.sqrt(var / n)
    assert abs(float(x.var()) - var) < 4 * var * math.sqrt(2 / n)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=["float32", "float64"])
def test_a_sample_is_the_same_alone_and_in_a_batch(name: str, dtype: torch.dtype) -> None:
    d, seeds = MIXTURE.denoiser(VP()), list(range(64))
    x_T = start(VP(), 64).to(dtype)
    together = ALL[name](d, x_T, steps=6, noise=Noise(seeds))
    for i in (0, 1, 17, 62, 63):
        alone = ALL[name](d, x_T[i : i + 1].clone(), steps=6, noise=Noise([i]))
        assert torch.equal(alone, together[i : i + 1])


@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("name", ALL)
def test_gradients_flow(name: str, schedule: Schedule) -> None:
    """Through every sampler, against finite differences."""
    d, x_T, noise = MIXTURE.denoiser(schedule), start(schedule, 2).requires_grad_(), Noise([0, 1])
    assert torch.autograd.gradcheck(lambda x: ALL[name](d, x, steps=4, noise=noise), x_T, atol=1e-6)


class Counting(Denoiser):
    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.schedule)
        self.inner, self.times = inner, []

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.times.append(float(t[0]))
        return self.inner(x_t, t, c)


@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
@pytest.mark.parametrize("name", ALL)
def test_declared_nfe_is_counted(name: str, schedule: Schedule) -> None:
    sampler, noise = ALL[name], Noise([0])
    for steps in (1, 2, 3, 11):
        d = Counting(MIXTURE.denoiser(schedule))
        sampler(d, start(schedule, 1), steps=steps, noise=noise)
        plan = sampler.plan(schedule, uniform_t(schedule, steps))
        assert len(d.times) == sampler.nfe(steps) == plan.nfe
        assert d.times == [t for call in plan.calls for t in call]
        times = torch.linspace(1, 0.1, steps + 1, dtype=F64)
        d = Counting(MIXTURE.denoiser(schedule))
        sampler(d, start(schedule, 1), grid=times, noise=noise)
        assert len(d.times) == sampler.plan(schedule, times).nfe
