"""Restorers where the posterior is known: the exact checks of DDNM, PiGDM, DDRM, DiffPIR and moment matching.

A sampler over a Gaussian prior is affine in its noise draws. `law` runs it once on unit impulses, so that the mean and
covariance of its samples are known to rounding and not by counting samples.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mezzotint.core import VE, VP, Condition, Cosine, Flow, Gaussian, Noise, Schedule, X0Denoiser, uniform_lambda
from mezzotint.restore import DDNM, DDRM, DPS, DiffPIR, GuessPiGDM, MomentMatching, PiGDM, Problem, Restorer
from mezzotint.restore.operators import AveragePool, Blur, Identity, LinearOperator, Mask, Matrix
from mezzotint.sample import DDIM
from mezzotint.sample.plan import nodes_of

F64 = torch.float64
EYE = torch.eye(4, dtype=F64)
DRAW = torch.Generator().manual_seed(3)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=DRAW, dtype=F64)


class Whole(Gaussian):
    """The batch in one product, for speed."""

    def along(self, x: Tensor) -> Tensor:
        return x if self.vectors is None else x @ self.vectors

    def back(self, z: Tensor) -> Tensor:
        return z if self.vectors is None else z @ self.vectors.T


ROOT = normal(4, 4)
MEAN, COV = normal(4), ROOT @ ROOT.T / 4 + 0.05 * EYE
ANY, WIDE, UNIT = Whole(MEAN, COV), Whole(MEAN, std=0.7), Whole(MEAN, std=1.0)
SOME = normal(2, 4)
SCHEDULES = [VP(), VE(0.01, 20.0), Flow(), Cosine()]


def known(prior: Gaussian, matrix: Tensor, y: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """Mean (b, n) and covariance of x | y."""
    cov = prior.cov
    gain = cov @ matrix.T @ torch.linalg.inv(matrix @ cov @ matrix.T + std**2 * torch.eye(len(matrix), dtype=F64))
    return prior.mean + (y - prior.mean @ matrix.T) @ gain.T, cov - gain @ matrix @ cov


class Impulses(Noise):
    """Row (k + 1) n + i has a one at place i of the draw for step k (k = -1: the start), the last row has none."""

    def __init__(self, steps: int, n: int) -> None:
        super().__init__(range((steps + 1) * n + 1))
        self.n = n

    def __call__(self, purpose, k, shape, **options):
        z = torch.zeros(len(self), self.n, dtype=F64)
        place = {"x_T": 0, "step": k + 1}[purpose] * self.n
        z[place : place + self.n] = torch.eye(self.n, dtype=F64)
        return z.view(len(self), *shape)


def law(
    method: Restorer, prior: Gaussian, matrix: Tensor, y: Tensor, std: float, steps: int, schedule: Schedule
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the samples, exactly."""
    noise = Impulses(steps, prior.size)
    made = method(prior.denoiser(schedule), Matrix(matrix), y, noise, std=std, steps=steps, grid=uniform_lambda)
    root = made[:-1] - made[-1]
    return made[-1], root.T @ root


# DDNM (check 3)


class Any(torch.nn.Module):
    """No denoiser of anything."""

    def forward(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        return (3 * x + time[:, None] / 1000).sin()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_ddnm_sets_the_range_and_leaves_the_null_space(schedule):
    d, operator, y = X0Denoiser(Any(), schedule), Matrix(SOME), normal(2, 2)
    raw, kept = [], []
    d.register_forward_hook(lambda module, args, out: raw.append(out.x0))
    DDNM()(d, operator, y, Noise([1, 2]), steps=4, on_step=lambda k, state: kept.append(state.x0))
    project = SOME.T @ torch.linalg.pinv(SOME).T
    for before, after in zip(raw, kept, strict=True):
        torch.testing.assert_close(operator(after), y, rtol=0, atol=1e-9)
        torch.testing.assert_close(after - after @ project, before - before @ project, rtol=0, atol=1e-9)


def test_ddnm_of_everything_is_the_measurement_and_of_nothing_the_plain_sampler():
    d, y, noise = ANY.denoiser(VP()), normal(2, 4), Noise([1, 2])
    torch.testing.assert_close(DDNM()(d, Identity(), y, noise, steps=5), y, rtol=0, atol=1e-12)
    x_T = float(VP().sigma(torch.ones((), dtype=F64))) * noise("x_T", 0, (4,), dtype=F64)
    plain = DDIM(0.85)(d, x_T, steps=5, noise=noise)
    for std in (0.0, 0.3):
        assert torch.equal(
            DDNM()(d, Matrix(torch.zeros(2, 4)), torch.zeros(2, 2, dtype=F64), noise, std=std, steps=5), plain
        )


@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
def test_ddrm_without_noise_sets_the_range(eta):
    y = normal(2, 2)
    made = DDRM(eta=eta)(X0Denoiser(Any(), VP()), Matrix(SOME), y, Noise([1, 2]), steps=4)
    torch.testing.assert_close(made @ SOME.T, y, rtol=0, atol=1e-9)


def test_ddrm_takes_the_three_steps_that_the_paper_states():
    """One step, written out by directions in the variance-exploding coordinates of the paper."""
    s, std, eta, eta_b = torch.tensor([5.0, 0.2, 0.0], dtype=F64), 0.3, 0.6, 0.8
    d, y, noise = X0Denoiser(Any(), VP()), normal(2, 3) * torch.tensor([1.0, 1.0, 0.0]), Noise([1, 2])
    times = torch.tensor([0.9, 0.3], dtype=F64)
    a, b = nodes_of(VP(), times)
    wide = b.sigma / b.alpha
    assert std / 5.0 < wide < std / 0.2, "one direction of each kind"
    x = a.sigma * noise("x_T", 0, (3,), dtype=F64)
    data = d(x, times[:1].expand(2)).x0
    xi = noise("step", 0, (3,), dtype=F64)
    eps = (x / a.alpha - data) / (a.sigma / a.alpha)
    kept = math.sqrt(1 - eta**2) * wide
    want = torch.stack(
        [
            (1 - eta_b) * data[:, 0] + eta_b * y[:, 0] / 5 + math.sqrt(wide**2 - (eta_b * std / 5) ** 2) * xi[:, 0],
            data[:, 1] + kept * (y[:, 1] - 0.2 * data[:, 1]) / std + eta * wide * xi[:, 1],
            data[:, 2] + kept * eps[:, 2] + eta * wide * xi[:, 2],
        ],
        1,
    )
    made = DDRM(eta, eta_b)(d, Diagonal(s), y, noise, std=std, grid=times)
    torch.testing.assert_close(made, b.alpha * want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.85])
def test_ddnm_plus_step_by_step(eta):
    """What is measured has the noise of the next level, that of y and that drawn together; the rest is DDIM's."""
    s, std = torch.tensor([5.0, 0.2, 0.0], dtype=F64), 0.3
    d, times = Whole(torch.zeros(3), std=0.0).denoiser(VP()), torch.tensor([0.9, 0.3], dtype=F64)  # D = 0
    a, b = nodes_of(VP(), times)
    assert b.alpha * std / 5.0 < b.sigma < b.alpha * std / 0.2

    def after(y: float, **draws: float) -> Tensor:
        class Given(Noise):
            def __call__(self, purpose, k, shape, **options):
                return draws.get(purpose, 0.0) * torch.ones(len(self), *shape, dtype=F64)

        measured = y * torch.tensor([[1.0, 1.0, 0.0]], dtype=F64)
        return DDNM(eta)(d, Diagonal(s), measured, Given([0]), std=std, grid=times)[0]

    brought, drawn, start = after(std), after(0.0, step=1.0), after(0.0, x_T=1.0)
    total = (brought**2 + drawn**2 + start**2).sqrt()
    torch.testing.assert_close(total[:2], torch.full((2,), b.sigma, dtype=F64), rtol=0, atol=1e-12)
    assert float(brought[0]) == pytest.approx(b.alpha * std / 5), "measured well: all of the correction"
    row = DDIM(eta).row((a, b), 0)
    assert [float(q[2]) for q in (brought, drawn, start)] == pytest.approx([0.0, row.noise, row.x * a.sigma])
    assert float(start[:2].abs().max()) < 1e-12, "the noise of y that was in the last state is not kept"


class Diagonal(Matrix):
    """diag(s), its directions in place."""

    def __init__(self, s: Tensor) -> None:
        super().__init__(torch.diag(s))
        assert torch.equal(self.v.abs(), torch.eye(len(s), dtype=F64))


# PiGDM (check 4) and moment matching


def score_of_posterior(
    prior: Gaussian, matrix: Tensor, y: Tensor, std: float, x_t: Tensor, a: float, s: float
) -> Tensor:
    """The gradient of log p(x_t | y) = log N(alpha m, alpha^2 C + sigma^2 I)."""
    mean, cov = known(prior, matrix, y, std)
    return -torch.linalg.solve(a * a * cov + s * s * torch.eye(len(cov), dtype=F64), (x_t - a * mean).T).T


METHODS = [(PiGDM(), UNIT, 1e-12), (PiGDM(data_std=0.7), WIDE, 1e-12), (MomentMatching(4), ANY, 1e-8)]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("t", [0.03, 0.4, 0.9])
@pytest.mark.parametrize(("method", "prior", "tolerance"), METHODS, ids=["unit", "round", "any"])
def test_the_score_is_exact(method, prior, tolerance, t, schedule):
    y, std, x_t = normal(3, 2), 0.3, normal(3, 4)
    problem = Problem.of(Matrix(SOME), y, Noise([0, 1, 2]), std)
    time = torch.full((3,), t, dtype=F64)
    got = method.informed(prior.denoiser(schedule), problem)(x_t, time).score
    want = score_of_posterior(prior, SOME, y, std, x_t, float(schedule.alpha(time[0])), float(schedule.sigma(time[0])))
    assert float((got - want).abs().max() / want.abs().max()) < tolerance


@pytest.mark.parametrize(("method", "prior", "tolerance"), METHODS, ids=["unit", "round", "any"])
def test_without_noise_it_is_the_limit(method, prior, tolerance):
    y, x_t, t = normal(3, 2), normal(3, 4), torch.full((3,), 0.4, dtype=F64)
    exact, near = (
        method.informed(prior.denoiser(VP()), Problem.of(Matrix(SOME), y, Noise([0, 1, 2]), std))(x_t, t).x0
        for std in (0.0, 1e-5)
    )
    torch.testing.assert_close(exact, near, rtol=0, atol=1e-7)
    torch.testing.assert_close(exact @ SOME.T, y, rtol=0, atol=1e-8)


def test_pigdm_is_not_exact_elsewhere_and_moment_matching_is_with_enough_products_alone():
    y, x_t, t = normal(3, 2), normal(3, 4), torch.full((3,), 0.4, dtype=F64)
    problem = Problem.of(Matrix(SOME), y, Noise([0, 1, 2]), 0.3)
    want = score_of_posterior(ANY, SOME, y, 0.3, x_t, float(VP().alpha(t[0])), float(VP().sigma(t[0])))

    def off(method) -> float:
        return float((method.informed(ANY.denoiser(VP()), problem)(x_t, t).score - want).norm() / want.norm())

    assert off(PiGDM()) > 0.02 and off(MomentMatching(1)) > 1e-3
    assert off(MomentMatching(2)) < 1e-8, "A C A* has two eigenvalues"


@pytest.mark.parametrize("operator", [AveragePool(2), Mask(torch.eye(2)), Blur(torch.tensor([[0.2, 0.5, 0.3]]))])
def test_on_images_too(operator):
    """Where U is not square, y keeps places that measure nothing, the coordinates are complex."""
    shape = (1, 2, 4)
    root = normal(8, 8)
    prior = Gaussian(normal(*shape), root @ root.T / 8 + 0.05 * torch.eye(8, dtype=F64))
    operator = Mask(torch.tensor([[1, 0, 0, 1], [1, 1, 0, 1]])) if isinstance(operator, Mask) else operator.double()
    matrix = operator(torch.eye(8, dtype=F64).view(8, *shape)).flatten(1).T
    x_t, t, y = normal(2, *shape), torch.full((2,), 0.4, dtype=F64), operator(normal(2, *shape))
    a, s = float(VP().alpha(t[0])), float(VP().sigma(t[0]))
    want = score_of_posterior(prior, matrix, y.flatten(1), 0.3, x_t.flatten(1), a, s)
    got = MomentMatching(8).informed(prior.denoiser(VP()), Problem.of(operator, y, Noise([0, 1]), 0.3))(x_t, t).score
    torch.testing.assert_close(got.flatten(1), want, rtol=1e-8, atol=1e-8)
    round = Gaussian(prior.mean.view(shape), std=0.7)
    want = score_of_posterior(round, matrix, y.flatten(1), 0.3, x_t.flatten(1), a, s)
    got = PiGDM(0.7).informed(round.denoiser(VP()), Problem.of(operator, y, Noise([0, 1]), 0.3))(x_t, t).score
    torch.testing.assert_close(got.flatten(1), want, rtol=1e-11, atol=1e-11)


def test_at_alpha_zero_it_is_the_posteriors_mean():
    y, one = normal(3, 2), torch.ones(3, dtype=F64)
    problem = Problem.of(Matrix(SOME), y, Noise([0, 1, 2]), 0.3)
    mean = known(WIDE, SOME, y, 0.3)[0]
    for method in (PiGDM(data_std=0.7), MomentMatching(4, data_std=0.7)):
        for schedule in (Flow(), Cosine()):
            got = method.informed(WIDE.denoiser(schedule), problem)(normal(3, 4), one).x0
            torch.testing.assert_close(got, mean, rtol=0, atol=1e-10)


# samples (checks 5 and 8): the law of the result, without counting

Y = normal(1, 2)
SLOW = pytest.mark.slow
LAWS = [
    (PiGDM(), UNIT, VP()),
    (PiGDM(), UNIT, Flow()),
    (MomentMatching(2), ANY, VP()),
    (MomentMatching(2), ANY, Flow()),
]


@pytest.mark.parametrize(("method", "prior", "schedule"), [LAWS[0], *(pytest.param(*q, marks=SLOW) for q in LAWS[1:])])
def test_the_samples_are_the_posteriors_within_three_percent(method, prior, schedule):
    mean, cov = known(prior, SOME, Y, 0.3)
    got, spread = law(method, prior, SOME, Y, 0.3, 500, schedule)
    assert float((got - mean[0]).norm() / cov.trace().sqrt()) < 0.03
    assert float((spread - cov).norm() / cov.norm()) < 0.03


@pytest.mark.parametrize(("method", "prior"), [(PiGDM(), UNIT), (MomentMatching(2), ANY)], ids=["PiGDM", "moments"])
def test_they_come_nearer_with_steps(method, prior):
    """Twice the steps halve what is missing of the covariance; the mean is exact at once."""
    mean, cov = known(prior, SOME, Y, 0.3)
    laws = [law(method, prior, SOME, Y, 0.3, steps, VP()) for steps in (40, 80)]
    off = [float((spread - cov).norm() / cov.norm()) for _, spread in laws]
    assert 1.7 < off[0] / off[1] < 2.3 and off[1] < 0.2
    assert all(float((got - mean[0]).norm() / cov.trace().sqrt()) < 0.02 for got, _ in laws)


def test_ddnms_covariance_is_right_in_the_null_space_alone():
    """Directions apart (a unit prior): in the null space the law is the prior's, elsewhere not the posterior's."""
    mean, cov = known(UNIT, SOME, Y, 0.5)
    got, spread = law(DDNM(), UNIT, SOME, Y, 0.5, 300, VP())
    null = torch.linalg.svd(SOME, full_matrices=True).Vh[2:].T
    assert float((null.T @ (spread - cov) @ null).norm() / (null.T @ cov @ null).norm()) < 0.05
    assert float(((got - mean[0]) @ null).norm()) < 0.03
    seen = torch.linalg.svd(SOME, full_matrices=True).Vh[:2].T
    assert float((seen.T @ (spread - cov) @ seen).norm() / (seen.T @ cov @ seen).norm()) > 0.3


def off(method: Restorer, steps: int) -> tuple[float, float, float]:
    """Of the mean, of the covariance, and the samples' spread over the posterior's."""
    mean, cov = known(UNIT, SOME, Y, 0.5)
    got, spread = law(method, UNIT, SOME, Y, 0.5, steps, VP())
    wide = float((spread.trace() / cov.trace()).sqrt())
    return float((got - mean[0]).norm() / cov.trace().sqrt()), float((spread - cov).norm() / cov.norm()), wide


def test_what_the_others_are_off_by_is_on_record():
    """So that nobody mends them. DDRM's mean is right and its spread is not: it draws a share of the noise anew however
    short a step. DPS takes the mean of x0 | x_t for x0: no step size makes it right."""
    mean, cov, wide = off(DDRM(), 100)
    assert mean < 0.05 and 0.2 < cov < 0.4 and 0.7 < wide < 0.87
    assert off(DDRM(), 300)[2] < 0.87, "more steps do not mend it"
    best = min(max(off(DPS(zeta=zeta, rate="constant"), 100)[:2]) for zeta in (0.02, 0.05, 0.1, 0.2))
    ours = max(off(PiGDM(), 100)[:2])
    assert best > 0.1 and best > 1.5 * ours, (best, ours)


def test_a_step_of_pigdm_is_its_closed_form():
    """A Gaussian prior: J is a constant matrix. The score's form and the guess's form, from t to s."""
    times, noise, y = torch.tensor([0.7, 0.4], dtype=F64), Noise([5, 6]), normal(2, 2)
    a, b = nodes_of(VP(), times)
    x = a.sigma * noise("x_T", 0, (4,), dtype=F64)
    jacobian = a.alpha * COV @ torch.linalg.inv(a.alpha**2 * COV + a.sigma**2 * EYE)
    data = MEAN + (x - a.alpha * MEAN) @ jacobian.T
    row, z = DDIM(1.0).row((a, b), 0), noise("step", 0, (4,), dtype=F64)
    plain = row.x * x + row.m[0] * data + row.noise * z
    rest = y - data @ SOME.T

    r2 = a.sigma**2 / (a.sigma**2 + a.alpha**2)
    weighed = torch.linalg.solve(r2 * SOME @ SOME.T + 0.09 * torch.eye(2, dtype=F64), rest.T).T
    want = plain + row.m[0] * a.sigma**2 / a.alpha * weighed @ SOME @ jacobian
    d, operator = ANY.denoiser(VP()), Matrix(SOME)
    torch.testing.assert_close(PiGDM()(d, operator, y, noise, std=0.3, grid=times), want, rtol=0, atol=1e-10)

    want = plain + 0.7 * a.alpha * b.alpha * rest @ torch.linalg.pinv(SOME).T @ jacobian
    torch.testing.assert_close(GuessPiGDM(0.7)(d, operator, y, noise, grid=times), want, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("method", [PiGDM(), MomentMatching(2), DDRM()], ids=lambda m: type(m).__name__)
def test_two_thousand_draws(method):
    """The same by counting, with the noise of the seed contract."""
    mean, cov = known(UNIT, SOME, Y, 0.3)
    made = method(
        UNIT.denoiser(VP()), Matrix(SOME), Y, Noise(range(2000)), std=0.3, steps=20 if method == DDRM() else 200
    )
    wide = law(method, UNIT, SOME, Y, 0.3, 20 if method == DDRM() else 200, VP())[1]
    assert float((made.mean(0) - mean[0]).norm() / cov.trace().sqrt()) < (0.15 if method == DDRM() else 0.05)
    assert float((torch.cov(made.T) - wide).norm() / cov.norm()) < 0.12


# DiffPIR (check 6)


@pytest.mark.parametrize("t", [0.1, 0.8])
def test_diffpir_lies_between_the_projection_and_the_prediction(t):
    y, x_t, time = normal(3, 2), normal(3, 4), torch.full((3,), t, dtype=F64)
    d, operator = ANY.denoiser(VP()), Matrix(SOME)
    plain = d(x_t, time).x0

    def found(std: float, **settings: float) -> Tensor:
        problem = Problem.of(operator, y, Noise([0, 1, 2]), std)
        return DiffPIR(**settings).informed(d, problem)(x_t, time).x0

    projected = plain + (y - plain @ SOME.T) @ torch.linalg.pinv(SOME).T
    torch.testing.assert_close(found(0.0, least_std=0.0), projected, rtol=0, atol=1e-10)
    torch.testing.assert_close(found(1e-7, least_std=0.0), projected, rtol=0, atol=1e-6)
    torch.testing.assert_close(found(1e7), plain, rtol=0, atol=1e-6)
    for data_std in (math.inf, 0.5):
        ratio = float(VP().alpha(time[0])) / float(VP().sigma(time[0]))
        rho = 3.0 * (0.3 * max(ratio, 1 / data_std)) ** 2
        x0 = found(0.3, weight=3.0, data_std=data_std)
        torch.testing.assert_close(x0 @ (SOME.T @ SOME + rho * EYE), y @ SOME + rho * plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("zeta", [0.0, 0.3, 1.0])
def test_diffpirs_step_is_the_papers(zeta):
    times, noise, y = torch.tensor([0.7, 0.4], dtype=F64), Noise([5, 6]), normal(2, 2)
    a, b = nodes_of(VP(), times)
    x, previews = a.sigma * noise("x_T", 0, (4,), dtype=F64), []
    made = DiffPIR(zeta=zeta)(
        ANY.denoiser(VP()), Matrix(SOME), y, noise, std=0.3, grid=times, on_step=lambda k, s: previews.append(s.x0)
    )
    eps = (x - a.alpha * previews[0]) / a.sigma
    z = noise("step", 0, (4,), dtype=F64)
    want = b.alpha * previews[0] + b.sigma * (math.sqrt(1 - zeta) * eps + math.sqrt(zeta) * z)
    torch.testing.assert_close(made, want, rtol=0, atol=1e-12)


# both bounds of what is linear, by operators without a decomposition


class Bare(LinearOperator):
    """The matrix, by products alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ SOME.T.to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return y @ SOME.to(y)


@pytest.mark.parametrize("std", [0.0, 0.3])
@pytest.mark.parametrize(
    "method", [PiGDM(), MomentMatching(4), DiffPIR(), GuessPiGDM()], ids=lambda m: type(m).__name__
)
def test_products_alone_do_as_well_as_the_decomposition(method, std):
    d, y = ANY.denoiser(VP()), normal(2, 2)
    made = [method(d, operator, y, Noise([1, 2]), std=std, steps=6) for operator in (Bare(), Matrix(SOME))]
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=1e-8)


def test_ddnm_by_one_number():
    d, y = ANY.denoiser(VP()), normal(2, 2)
    made = [DDNM()(d, operator, y, Noise([1, 2]), steps=6) for operator in (Bare(), Matrix(SOME))]
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=1e-8)
    # where all singular values are 1 that number is right in every measured direction
    rows = torch.linalg.qr(normal(4, 2))[0].T

    class Rows(Bare):
        def forward(self, x: Tensor) -> Tensor:
            return x @ rows.T

        def adjoint(self, y: Tensor) -> Tensor:
            return y @ rows

    previews: list[list[Tensor]] = [[], []]
    for seen, operator in zip(previews, (Rows(), Matrix(rows))):
        DDNM()(d, operator, y, Noise([1, 2]), std=0.3, steps=6, on_step=lambda k, s, seen=seen: seen.append(s.x0))
    torch.testing.assert_close(previews[0][0], previews[1][0], rtol=0, atol=1e-9)
