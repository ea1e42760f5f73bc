"""RED-diff and what it is compared with, on priors whose answers are known: the checks of arXiv 2305.04391."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from mezzotint.core import VP, Condition, EpsDenoiser, Flow, Gaussian, Noise, Schedule
from mezzotint.restore import DDRM, DPS, MCG, RED_WEIGHTS, PiGDM, Problem, REDDiff, REDDiffPrior, Restorer
from mezzotint.restore.fit import misfit_gradient
from mezzotint.restore.operators import (
    AveragePool,
    Blur,
    Clip,
    Decolorise,
    Mask,
    Matrix,
    PhaseRetrieval,
    Resize,
    box_kernel,
    free_form_mask,
)
from mezzotint.restore.reddiff import _Descent
from mezzotint.sample import State, nodes_of

F64 = torch.float64
DRAW = torch.Generator().manual_seed(0)
FACTOR = 0.5 * torch.randn(6, 6, generator=DRAW, dtype=F64)
MEAN, COV = torch.randn(6, generator=DRAW, dtype=F64), FACTOR @ FACTOR.T + 0.05 * torch.eye(6, dtype=F64)
MATRIX = torch.randn(3, 6, generator=DRAW, dtype=F64)
Y = torch.randn(1, 3, generator=DRAW, dtype=F64)
MU = torch.randn(6, generator=DRAW, dtype=F64)
PRIOR, A, EYE = Gaussian(MEAN, cov=COV), Matrix(MATRIX), torch.eye(6, dtype=F64)
ALONE = REDDiff(obs_weight=0.0)  # the regulariser by itself


class Signs(Noise):
    """Draws in pairs z and -z: the mean of what is affine in them is exact."""

    def __call__(self, purpose: str, k: int, shape: Sequence[int], **options: Any) -> Tensor:
        z = super().__call__(purpose, k, shape, **options)
        half = z[: len(z) // 2]
        return torch.cat([half, -half])


def gradient(
    of: REDDiff, t: float, mu: Tensor, noise: Noise, schedule: Schedule | None = None, d: Any = None
) -> Tensor:
    """The gradient at mu for one time and each seed's noise, read off Adam's first moment after one step."""
    d = PRIOR.denoiser(schedule or VP()) if d is None else d
    descent = _Descent(of, Problem.of(A, Y, noise))
    plan = descent.plan(d.schedule, torch.tensor([t, 0.0], dtype=F64))
    mu = mu.expand(len(noise), 6)
    return descent.step(d, State(mu), 0, plan, None, noise).history[0] / 0.1


def levels(schedule: Schedule, t: float) -> tuple[float, float]:
    node = nodes_of(schedule, torch.tensor([t], dtype=F64))[0]
    return node.alpha, node.sigma


def expected(schedule: Schedule, t: float) -> Tensor:
    """w_t E[eps_hat - eps] / n at MU, of check 1."""
    a, s = levels(schedule, t)
    pull = s * a * torch.linalg.solve(a * a * COV + s * s * EYE, MU - MEAN)
    return 0.25 * s / a * pull / 6


# 1: a Gaussian prior


@pytest.mark.parametrize("schedule", [VP(), Flow()], ids=str)
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_mean_gradient_is_the_closed_form(schedule, t):
    exact = gradient(ALONE, t, MU, Signs(range(4)), schedule).mean(0)
    torch.testing.assert_close(exact, expected(schedule, t), rtol=1e-10, atol=1e-12)
    drawn = gradient(ALONE, t, MU, Noise(range(4000)), schedule)
    error = drawn.std(0) / math.sqrt(4000)
    assert bool(((drawn.mean(0) - expected(schedule, t)).abs() < 3.5 * error).all())


@pytest.mark.slow
def test_a_million_draws_agree_to_a_thousandth():
    t, total = 0.5, torch.zeros(6, dtype=F64)
    for part in range(40):
        total += gradient(ALONE, t, MU, Noise(range(25_000 * part, 25_000 * (part + 1)))).mean(0) / 40
    a, s = levels(VP(), t)
    scale = 0.25 * s / a / 6  # of eps_hat - eps itself
    torch.testing.assert_close(total / scale, expected(VP(), t) / scale, rtol=0, atol=1e-3)
    assert float((total - expected(VP(), t)).norm() / expected(VP(), t).norm()) < 1e-3


# 2: the fixed point of the loss, with linear A

TIMES = [(i + 0.5) / 40 for i in range(40)]


def fixed_point() -> Tensor:
    parts = []
    for t in TIMES:
        a, s = levels(VP(), t)
        parts.append(0.25 * s * s * torch.linalg.inv(a * a * COV + s * s * EYE))
    pull = torch.stack(parts).mean(0)
    return torch.linalg.solve(MATRIX.T @ MATRIX / 3 + pull / 6, MATRIX.T @ Y[0] / 3 + pull @ MEAN / 6)


def test_the_mean_gradient_over_uniform_times_vanishes_at_the_fixed_point_alone():
    def total(mu: Tensor) -> float:
        return float(torch.stack([gradient(REDDiff(), t, mu, Signs(range(2))).mean(0) for t in TIMES]).mean(0).norm())

    assert total(fixed_point()) < 1e-12
    assert total(fixed_point() + 0.1) > 1e-3 and total(MU) > 1e-2


@pytest.mark.slow
def test_averaged_gradient_descent_finds_it_and_descending_adam_does_not():
    chains, steps = 100, 4000
    order = Noise([1]).uniform("t", 0, (steps,), dtype=F64)[0].mul(len(TIMES)).long().tolist()
    mu, kept = MU.expand(chains, 6), torch.zeros(6, dtype=F64)
    for i, place in enumerate(order):
        seeds = range(chains * i, chains * (i + 1))
        mu = mu - 2.0 / (1 + i / 100) ** 0.5 * gradient(REDDiff(), TIMES[place], mu, Noise(seeds))
        if i >= steps // 2:
            kept += mu.mean(0) / (steps - steps // 2)
    assert float((kept - fixed_point()).abs().max()) < 5e-3
    made = REDDiff()(PRIOR.denoiser(VP()), A, Y, Noise(range(16)), steps=1000).mean(0)
    gain = COV @ MATRIX.T @ torch.linalg.inv(MATRIX @ COV @ MATRIX.T)
    posterior = MEAN + gain @ (Y[0] - MATRIX @ MEAN)
    assert float((made - fixed_point()).norm()) > 0.05
    assert float((made - posterior).norm()) < float((made - fixed_point()).norm())


# 3: eps is a control variate


def test_without_it_the_mean_is_the_same_and_the_variance_more_than_twice():
    t, seeds = 0.5, Noise(range(4000))
    with_it = gradient(ALONE, t, MU, seeds)
    a, s = levels(VP(), t)
    eps = seeds("eps", 0, (6,), dtype=F64)
    x_t = a * MU + s * eps
    hat = PRIOR.denoiser(VP())(x_t, torch.full((4000,), t, dtype=F64)).eps
    scale = 0.25 * s / a / 6
    torch.testing.assert_close(with_it, scale * (hat - eps), rtol=0, atol=1e-12)
    without = scale * hat
    error = (without - with_it).std(0) / math.sqrt(4000)
    assert bool(((without - with_it).mean(0).abs() < 3.5 * error).all())
    assert float(without.var(0).sum() / with_it.var(0).sum()) > 2


# 4: stop-gradient


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(6, 6, generator=torch.Generator().manual_seed(5), dtype=F64))

    def forward(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        return torch.tanh(x @ self.weight)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", RED_WEIGHTS)
def test_the_gradient_is_that_of_the_loss_with_the_network_held(name, reduction):
    d, t, noise = EpsDenoiser(Net(), VP()), 0.4, Noise([3, 8])
    got = gradient(REDDiff(weight=name, reduction=reduction, obs_weight=0.7), t, MU, noise, d=d)
    a, s = levels(VP(), t)
    mu = MU.expand(2, 6).clone().requires_grad_()
    eps = noise("eps", 0, (6,), dtype=F64)
    with torch.no_grad():
        held = d(a * mu + s * eps, torch.full((2,), t, dtype=F64)).eps - eps
    over = (lambda q: q.mean(1)) if reduction == "mean" else (lambda q: q.sum(1))
    w = 0.25 * RED_WEIGHTS[name](s / a)
    loss = 0.7 * 0.5 * over((Y - mu @ MATRIX.T).square()) + w * over(held * mu)
    (want,) = torch.autograd.grad(loss.sum(), mu)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-9)
    assert d.net.weight.grad is None


# 5: where nothing pulls


def test_at_the_prior_mean_the_expected_gradient_is_zero():
    for t in (0.05, 0.5, 1.0):
        assert float(gradient(ALONE, t, MEAN, Signs(range(2))).mean(0).abs().max()) < 1e-12


class FromZero(Matrix):
    def guess(self, y: Tensor) -> Tensor:
        return torch.zeros(len(y), *self.shape, dtype=y.dtype)


def test_without_a_prior_it_is_adam_on_least_squares():
    matrix = torch.linalg.qr(torch.randn(6, 6, generator=DRAW, dtype=F64))[0] @ torch.diag(
        torch.linspace(1, 2, 6).double()
    )
    y = torch.randn(2, 6, generator=DRAW, dtype=F64)
    made = REDDiff(lam=0.0)(PRIOR.denoiser(VP()), FromZero(matrix), y, Noise([0, 1]), steps=400)
    torch.testing.assert_close(made, torch.linalg.solve(matrix, y.T).T, rtol=0, atol=1e-3)


def test_the_steps_are_torchs_adam():
    d, operator = PRIOR.denoiser(VP()), FromZero(MATRIX)
    got = REDDiff(lr=0.3)(d, operator, Y, Noise([4]), steps=7)
    mu = torch.nn.Parameter(torch.zeros(1, 6, dtype=F64))
    adam = torch.optim.Adam([mu], lr=0.3, betas=(0.9, 0.99))
    for k in range(7):
        t = torch.tensor([1 - k / 7], dtype=F64)
        a, s = levels(VP(), 1 - k / 7)
        eps = Noise([4])("eps", k, (6,), dtype=F64)
        with torch.no_grad():
            held = d(a * mu + s * eps, t).eps - eps
        adam.zero_grad()
        loss = 0.5 * (Y - mu @ MATRIX.T).square().mean() + 0.25 * s / a * (held * mu).mean()
        loss.backward()
        adam.step()
    torch.testing.assert_close(got, mu.detach(), rtol=0, atol=1e-7)


# 6: the weights

RATIOS = (0.25, 1.0, 16.0)
HAND = {
    "inv_snr": (0.25, 1.0, 16.0),
    "sqrt": (0.5, 1.0, 4.0),
    "square": (0.0625, 1.0, 256.0),
    "two_thirds": (0.396850263, 1.0, 6.349604208),
    "log": (0.223143551, 0.693147181, 2.833213344),
    "clip": (0.25, 1.0, 1.0),
    "const": (1.0, 1.0, 1.0),
}


@pytest.mark.parametrize("name", RED_WEIGHTS)
def test_weights_by_hand_and_their_order(name):
    weight = RED_WEIGHTS[name]
    assert [weight(r) for r in RATIOS] == pytest.approx(HAND[name], rel=1e-8)
    assert [weight.pull(r) * r for r in RATIOS] == pytest.approx(HAND[name], rel=1e-8)
    many = [weight(math.exp(-lam)) for lam in torch.linspace(-5, 5, 50).tolist()]
    assert all(a >= b for a, b in zip(many, many[1:])), "falls as lambda rises"
    limit = {"inv_snr": 1.0, "square": math.inf}.get(name, 0.0)
    assert weight.pull(math.inf) == limit and weight.pull(1e12) == pytest.approx(min(limit, 1e12), abs=2e-4)


def test_the_weight_at_three_times_of_vp():
    for t, ratio in ((0.25, 0.953711), (0.5, 3.412918), (1.0, 152.16697)):
        a, s = levels(VP(), t)
        log_alpha = -0.25 * 19.9 * t * t - 0.05 * t
        by_hand = math.sqrt(1 - math.exp(2 * log_alpha)) / math.exp(log_alpha)
        assert by_hand == pytest.approx(ratio, rel=1e-6)
        assert RED_WEIGHTS["inv_snr"](s / a) == pytest.approx(by_hand, rel=1e-6)


# where alpha = 0


@pytest.mark.parametrize("name", ["inv_snr", "sqrt", "log"])
def test_at_alpha_zero_the_gradient_is_the_limit(name):
    of = REDDiff(weight=name, obs_weight=0.0)
    there, below = (gradient(of, t, MU, Noise([0, 1]), Flow()) for t in (1.0, 1 - 1e-9))
    torch.testing.assert_close(there, below, rtol=0, atol=1e-5)
    if name == "inv_snr":
        torch.testing.assert_close(there, 0.25 / 6 * (MU - MEAN).expand(2, 6), rtol=0, atol=1e-12)


def test_a_weight_that_is_infinite_there_starts_half_a_step_below():
    descent = _Descent(REDDiff(weight="square"), Problem.of(A, Y, Noise([0])))
    plan = descent.plan(Flow(), torch.linspace(1, 0, 5, dtype=F64))
    assert [t for (t,) in plan.calls] == [0.875, 0.75, 0.5, 0.25]
    made = REDDiff(weight="square")(PRIOR.denoiser(Flow()), A, Y, Noise([0]), steps=4)
    assert bool(torch.isfinite(made).all())


# 7: the operators of the paper

LINEAR = {
    "inpaint": Mask(free_form_mask(Noise([0]), 16, 16)),
    "sr4": AveragePool(4),
    "uniform": Blur(box_kernel(9)),
    "gaussian": Blur.gaussian(25.0, 5),
    "colour": Decolorise(),
    "bicubic": Resize(4.0),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_operators_have_adjoints_and_pseudo_inverses(name, draw):
    operator, x = LINEAR[name], draw(2, 3, 16, 16)
    measured = operator(x)
    y = draw(*measured.shape)
    assert float((measured * y).sum()) == pytest.approx(float((x * operator.adjoint(y)).sum()), rel=1e-5)
    torch.testing.assert_close(operator(operator.pinv(measured)), measured, rtol=0, atol=1e-5)


def test_means_of_a_constant_are_the_constant():
    flat = torch.full((1, 3, 16, 16), 0.3, dtype=F64)
    torch.testing.assert_close(AveragePool(4)(flat), flat[..., :4, :4], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["hdr", "phase"])
def test_gradients_of_the_nonlinear_ones_by_differences(name, draw):
    operator, x = {"hdr": Clip(), "phase": PhaseRetrieval(4)}[name], 0.4 * draw(1, 1, 4, 4)
    assert float(((2 * x).abs() - 1).abs().min()) > 1e-4, "away from the kinks"
    problem = Problem.of(operator, operator(0.3 * draw(1, 1, 4, 4)), Noise([0]))
    h, numbers = 1e-6, []
    for place in range(16):
        step = torch.zeros(16, dtype=F64)
        step[place] = h
        up, down = (0.5 * problem.residual(x + s * step.view_as(x)).square().sum() for s in (1, -1))
        numbers.append((up - down) / (2 * h))
    torch.testing.assert_close(misfit_gradient(problem, x).flatten(), torch.stack(numbers), rtol=1e-5, atol=1e-8)


# 8: the baselines, one step in closed form


def one_step(t: float, s: float) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, its data prediction and the constant Jacobian of that."""
    (a, b), x = levels(VP(), t), Noise([2])("x", 0, (6,), dtype=F64)
    jacobian = a * COV @ torch.linalg.inv(a * a * COV + b * b * EYE)
    return x, MEAN + (x - a * MEAN) @ jacobian.T, jacobian


@pytest.mark.parametrize("rate", ["residual", "constant"])
def test_one_step_of_dps(rate):
    t, s = 0.6, 0.4
    x, d, jacobian = one_step(t, s)
    residual = Y - d @ MATRIX.T
    zeta = 0.8 / float(residual.norm()) if rate == "residual" else 0.8
    (a, b), (e, f) = levels(VP(), t), levels(VP(), s)
    want = e * d + f * (x - a * d) / b + 2 * zeta * residual @ MATRIX @ jacobian
    steps = DPS(zeta=0.8, eta=0.0, rate=rate).sampler(Problem.of(A, Y, Noise([2])))
    with torch.no_grad():
        got = steps(PRIOR.denoiser(VP()), x, grid=torch.tensor([t, s], dtype=F64))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


def test_mcg_is_dps_with_its_measured_part_replaced():
    x = one_step(0.6, 0.4)[0]
    rows = torch.linalg.qr(MATRIX.T)[0].T  # orthonormal
    operator, noise, grid = Matrix(rows), Noise([2]), torch.tensor([0.6, 0.4], dtype=F64)
    problem = Problem.of(operator, Y, noise)
    dps = DPS(eta=0.0).sampler(problem)(PRIOR.denoiser(VP()), x, grid=grid)
    got = MCG(eta=0.0).sampler(problem)(PRIOR.denoiser(VP()), x, grid=grid, noise=noise)
    e, f = levels(VP(), 0.4)
    known = e * Y + f * noise("known", 0, (6,), dtype=F64) @ rows.T
    torch.testing.assert_close(got, dps @ (EYE - rows.T @ rows) + known @ rows, rtol=0, atol=1e-10)


def test_one_step_of_pigdm():
    t, s, std = 0.6, 0.4, 0.3
    x, d, jacobian = one_step(t, s)
    (a, b), (e, f) = levels(VP(), t), levels(VP(), s)
    variance = b * b / (a * a + b * b)
    seen = variance * MATRIX @ MATRIX.T + std**2 * torch.eye(3, dtype=F64)
    told = d + b * b / a * torch.linalg.solve(seen, (Y - d @ MATRIX.T).T).T @ MATRIX @ jacobian
    want = e * told + f * (x - a * told) / b
    method, problem = PiGDM(eta=0.0), Problem.of(A, Y, Noise([2]), std=std)
    informed = method.informed(PRIOR.denoiser(VP()), problem)
    got = method.sampler(problem)(informed, x, grid=torch.tensor([t, s], dtype=F64))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_the_mean_of_two_thousand_draws():
    """DDRM and PiGDM within 5 % of the posterior's width where the prior is N(m, I); DPS is not, and need not be."""
    std, prior = 0.3, Gaussian(MEAN, std=1.0)
    gain = MATRIX.T @ torch.linalg.inv(MATRIX @ MATRIX.T + std**2 * torch.eye(3, dtype=F64))
    mean, cov = MEAN + (Y[0] - MATRIX @ MEAN) @ gain.T, EYE - gain @ MATRIX

    def bias(method: Restorer) -> float:
        made = method(prior.denoiser(VP()), A, Y, Noise(range(2000)), std=std, steps=50)
        return float((made.mean(0) - mean).norm() / cov.trace().sqrt())

    assert bias(DDRM()) < 0.05 and bias(PiGDM()) < 0.05
    assert bias(DPS()) > 0.1


# 9: evaluations


def test_evaluations_and_no_backward_pass():
    net = Net()
    forward, backward = [], []
    net.register_forward_hook(lambda *_: forward.append(1))
    net.register_full_backward_hook(lambda *_: backward.append(1))
    d = EpsDenoiser(net, VP())
    REDDiff()(d, A, Y, Noise([0, 1]), steps=13)
    assert (len(forward), len(backward)) == (13, 0)
    forward.clear()
    DPS()(d, A, Y, Noise([0, 1]), steps=13)
    assert (len(forward), len(backward)) == (13, 13)
    assert net.weight.grad is None


def test_the_prior_alone_does_not_know_the_measurement():
    d = PRIOR.denoiser(VP())
    one, two = (REDDiffPrior()(d, A, Y * scale, Noise([0]), steps=20) for scale in (1.0, 5.0))
    assert torch.equal(one, two)
