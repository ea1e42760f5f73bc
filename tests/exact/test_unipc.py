"""UniPC: its order with and without the corrector, what it reduces to, and its one row as the paper's two steps."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from mezzotint.core import VE, VP, Condition, Denoiser, Flow, GaussianMixture, Noise, Prediction, uniform_t
from mezzotint.core.schedule import Schedule
from mezzotint.sample import DDIM, DPMSolverPP, Heun, UniPC
from mezzotint.sample.lagrange import exponential_weights, lagrange, scaled_moments

F64 = torch.float64
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]))
ALL = [UniPC(p, v, c, False) for p in (1, 2, 3) for v in ("bh1", "bh2") for c in (True, False)]


def named(sampler: UniPC) -> str:
    return f"{'UniPC' if sampler.corrector else 'UniP'}-{sampler.p} {sampler.variant}"


every = pytest.mark.parametrize("sampler", ALL, ids=named)


class Affine(Denoiser):
    """D = a + b lambda(t) + c lambda(t)^2, whatever x."""

    def __init__(self, schedule: Schedule, a: float, b: float = 0.0, c: float = 0.0) -> None:
        super().__init__(schedule)
        self.abc = a, b, c

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        a, b, quadratic = self.abc
        value = torch.full_like(x_t, a)
        if b or quadratic:
            lam = self.schedule.half_log_snr(t)[:, None]
            value = value + b * lam + quadratic * lam**2
        return Prediction.from_x0(value, x_t, t, self.schedule)


def start(schedule: Schedule, batch: int) -> Tensor:
    return schedule.sigma(torch.ones((), dtype=F64)) * Noise(range(batch))("x_T", 0, (3,), dtype=F64)


@every
@pytest.mark.parametrize("on", ["gaussian", "mixture"])
def test_order(sampler: UniPC, on: str, slope) -> None:
    """The order that is declared: p + 1 with the corrector, p without."""
    # a Gaussian's leading error of third order is small: its asymptote is reached a little later
    late = on == "gaussian" and sampler.order == 3 and not sampler.corrector
    assert abs(slope(sampler, on, VP(), 320 if late else 160) - sampler.order) < 0.15
    assert sampler.order == sampler.p + sampler.corrector


@pytest.mark.parametrize("p", [1, 2, 3])
def test_order_where_little_noise_hides_no_start(p: int, slope) -> None:
    assert abs(slope(UniPC(p, lower_order_final=False), "mixture", VE(0.02, 20.0), 80) - (p + 1)) < 0.15


@pytest.mark.parametrize("p", [1, 2])
def test_order_from_alpha_zero(p: int, slope) -> None:
    """The first step is infinite in lambda; corrected in the flow's variable it does not cost UniPC-2 its third."""
    assert abs(slope(UniPC(p, "bh1", True, False), "gaussian", Flow(), 320, uniform="t") - (p + 1)) < 0.15


@every
@pytest.mark.parametrize("schedule", [VP(), VE(), Flow()], ids=["vp", "ve", "flow"])
def test_constant_denoiser(sampler: UniPC, schedule: Schedule) -> None:
    """x_t = alpha_t c + (sigma_t / sigma_T)(x_T - alpha_T c), at every node."""
    x_T, const = start(schedule, 2), 0.37
    for steps in (1, 2, 7):
        times = uniform_t(schedule, steps)
        a, s = schedule.alpha(times), schedule.sigma(times)
        for state in sampler.trajectory(Affine(schedule, const), x_T, steps=steps):
            expected = a[state.k] * const + s[state.k] / s[0] * (x_T - a[0] * const)
            torch.testing.assert_close(state.x, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", [VP(), VE(), Flow()], ids=["vp", "ve", "flow"])
def test_order_one_without_corrector_is_ddim(schedule: Schedule) -> None:
    d, x_T = MIXTURE.denoiser(schedule), start(schedule, 4)
    for variant in ("bh1", "bh2"):
        got = UniPC(1, variant, False)(d, x_T, steps=9)
        torch.testing.assert_close(got, DDIM()(d, x_T, steps=9), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", [VP(), VE(), Flow()], ids=["vp", "ve", "flow"])
def test_predictors_are_dpm_solver_pp(schedule: Schedule) -> None:
    """UniP-2 bh2 is 2M midpoint; UniP-3 is 3M with exact integrals, but for its second step, bh2's midpoint."""
    d, x_T = MIXTURE.denoiser(schedule), start(schedule, 4)
    for p in (2, 3):
        got = UniPC(p, "bh2", False)(d, x_T, steps=11)
        torch.testing.assert_close(got, DPMSolverPP(order=p, start="plain")(d, x_T, steps=11), rtol=1e-11, atol=1e-11)


def by_the_paper(sampler: UniPC, d: Denoiser, x: Tensor, times: Tensor) -> Tensor:
    """Algorithms 5 to 8 as written: predict, evaluate, correct from the state before; rho solves R rho = phi / B."""
    lam = d.schedule.half_log_snr(times)
    alpha, sigma = d.schedule.alpha(times), d.schedule.sigma(times)

    def step(k: int, x: Tensor, m: list[Tensor], extra: Tensor | None) -> Tensor:
        q = min(sampler.p, k + 1)
        h = lam[k + 1] - lam[k]
        b = -h if sampler.variant == "bh1" else torch.expm1(-h)
        r = [(lam[k - i] - lam[k]) / h for i in range(1, q)]
        rates = [(m[k - i] - m[k]) / r[i - 1] for i in range(1, q)]
        if extra is not None:
            r.append(torch.ones((), dtype=F64))
            rates.append(extra - m[k])
        base = sigma[k + 1] / sigma[k] * x - alpha[k + 1] * torch.expm1(-h) * m[k]
        if not rates:
            return base
        phi, phis = torch.expm1(-h) / -h - 1, []
        for i in range(1, len(rates) + 1):  # phi_(i+1) i! / B
            phis.append(phi * math.factorial(i) / b)
            phi = phi / -h - 1 / math.factorial(i + 1)
        rho = torch.linalg.solve(torch.stack([torch.stack(r) ** i for i in range(len(r))]), torch.stack(phis))
        if len(rates) == 1:
            rho = torch.full((1,), 0.5, dtype=F64)
        return base - alpha[k + 1] * b * sum(w * rate for w, rate in zip(rho, rates))

    m: list[Tensor] = []
    before = x
    for k in range(len(times) - 1):
        m.append(d(x, times[k].expand(len(x))).x0)
        if k and sampler.corrector:
            x = step(k - 1, before, m[:-1], m[-1])
        before = x
        x = step(k, x, m, None)
    return x


@every
def test_one_row_is_the_papers_two_steps(sampler: UniPC) -> None:
    times = torch.linspace(0.97, 0.05, 9, dtype=F64)
    d, x_T = MIXTURE.denoiser(VP()), start(VP(), 4)
    got = sampler(d, x_T, grid=times)
    torch.testing.assert_close(got, by_the_paper(sampler, d, x_T, times), rtol=1e-10, atol=1e-10)


def test_first_corrected_step_from_alpha_zero_is_heuns() -> None:
    """Two steps of UniPC-1 on Flow: the first is Heun's, up to the evaluation that is not made again."""
    d, x_T = MIXTURE.denoiser(Flow()), start(Flow(), 4)
    times = torch.tensor([1.0, 0.8], dtype=F64)
    heun = Heun()(d, x_T, grid=times)
    *_, last = UniPC(1).trajectory(d, x_T, grid=torch.tensor([1.0, 0.8, 0.5], dtype=F64))
    ratio, psi = 0.5 / 0.8, -math.expm1(-(math.log(0.5 / 0.5) - math.log(0.2 / 0.8)))
    torch.testing.assert_close(last.x, ratio * heun + 0.5 * psi * last.x0, rtol=1e-12, atol=1e-12)


def test_the_corrector_is_exact_for_a_parabola() -> None:
    """D = a + b lambda + c lambda^2: UniC-2 makes up for what UniP-2 lacks, exactly, once its history is there."""
    schedule, times = VP(), torch.linspace(0.9, 0.05, 7, dtype=F64)
    a, b, c = 0.4, -0.15, 0.02
    lam, sigma = schedule.half_log_snr(times), schedule.sigma(times)
    whole = lam.exp() * (a + b * (lam - 1) + c * (lam**2 - 2 * lam + 2))  # the antiderivative of e^l D(l)

    def exact(x: Tensor, i: int, j: int) -> Tensor:
        return sigma[j] / sigma[i] * x + sigma[j] * (whole[j] - whole[i])

    def gaps(corrector: bool) -> list[float]:
        # the step k -> k + 1, with the state before it taken as it came out: what the corrected state at k misses
        sampler = UniPC(2, corrector=corrector, lower_order_final=False)
        states = list(sampler.trajectory(Affine(schedule, a, b, c), torch.full((1, 3), 0.3, dtype=F64), grid=times))
        plan, d = sampler.plan(schedule, times), Affine(schedule, a, b, c)
        corrected = []
        for k in range(1, 6):
            m = [d(states[0].x, times[k - i].expand(1)).x0 for i in range(min(3, k + 1))]
            x = states[k - 1].x
            weights = sampler._correction(plan.nodes, k) if corrector else ()
            corrected.append(x + sum(plan.nodes[k].alpha * w * v for w, v in zip(weights, m)))
        return [
            float((corrected[i + 1] - exact(corrected[i], i + 1, i + 2)).abs().max()) for i in range(len(corrected) - 1)
        ]

    assert max(gaps(True)) < 1e-13 < 1e-6 < min(gaps(False))


def test_weights_are_the_integrals() -> None:
    """Against exact rational series of the moments, and for polynomials that the nodes determine."""
    for h in (1e-9, 1e-3, 0.3, 0.4999, 0.5001, 2.0, 11.0, -0.2, -3.0):
        for n, moment in enumerate(scaled_moments(h, 4)):
            x, term, exact = Fraction(h), Fraction(1), Fraction(0)
            for j in range(1, 110):
                term = term * x / (n + j)
                exact += (-1) ** (j - 1) * term
            assert moment == pytest.approx(float(exact), rel=1e-12)
    nodes = (1.0, 0.0, -0.8, -2.1)
    for power in range(4):
        weights = exponential_weights(0.7, nodes)
        assert sum(w * v**power for w, v in zip(weights, nodes)) == pytest.approx(scaled_moments(0.7, 4)[power])
    assert lagrange((1.0,), (0.0,)) == (1.0,)


@every
@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=["vp", "flow"])
def test_one_evaluation_a_step_and_the_last_is_the_prediction(sampler: UniPC, schedule: Schedule) -> None:
    class Counting(Affine):
        calls = 0

        def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
            self.calls += 1
            return MIXTURE.denoiser(schedule)(x_t, t)

    for steps in (1, 2, 3, 12):
        d = Counting(schedule, 0.0)
        *_, last = sampler.trajectory(d, start(schedule, 2), steps=steps)
        assert d.calls == sampler.nfe(steps) == sampler.plan(schedule, uniform_t(schedule, steps)).nfe == steps
        assert torch.equal(last.x, last.x0)


@every
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=["float32", "float64"])
def test_a_sample_is_the_same_alone_and_in_a_batch(sampler: UniPC, dtype: torch.dtype) -> None:
    d, x_T = MIXTURE.denoiser(VP()), start(VP(), 17).to(dtype)
    together = sampler(d, x_T, steps=6)
    for i in (0, 1, 16):
        assert torch.equal(sampler(d, x_T[i : i + 1].clone(), steps=6), together[i : i + 1])


@every
def test_gradients_flow(sampler: UniPC) -> None:
    d = MIXTURE.denoiser(VP())
    assert torch.autograd.gradcheck(lambda x: sampler(d, x, steps=5), start(VP(), 2).requires_grad_(), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"order": 4}, "order=4"),
        ({"order": True}, "order=True"),
        ({"variant": "bh3"}, "variant='bh3'"),
        ({"corrector": 1}, "corrector=1"),
        ({"lower_order_final": -1}, "lower_order_final=-1"),
    ],
)
def test_wrong_choices(arguments: dict, message: str, unchecked: None) -> None:
    with pytest.raises(ValueError, match=message):
        UniPC(**arguments)


def test_a_solver_can_be_replaced() -> None:
    """`order` is given and p is kept, which dataclasses.replace must not stumble over."""
    solver = replace(UniPC(order=3, variant="bh1"), lower_order_final=False)
    assert (solver.p, solver.order, solver.variant, solver.lower_order_final) == (3, 4, "bh1", False)
