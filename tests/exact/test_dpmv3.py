"""DPM-Solver-v3: the exact checks of its sheet (arXiv 2310.13268), on distributions whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    VE,
    VP,
    Condition,
    Denoiser,
    EpsDenoiser,
    Flow,
    Gaussian,
    GaussianMixture,
    Noise,
    Prediction,
    uniform_lambda,
)
from mezzotint.core.exact import probability_flow
from mezzotint.core.schedule import Schedule
from mezzotint.guide import CFG
from mezzotint.sample import DDIM, EMS, DPMSolverPP, DPMSolverV3, State, calibrate_ems
from mezzotint.sample.ems import ems_grid, schedule_mark
from mezzotint.sample.ems_moments import MOMENTS, Derivative, fit, observe, prediction, rate_of
from mezzotint.sample.plan import nodes_of

F64 = torch.float64
T_END = 0.01


def smooth(kind: str, shape: tuple[int, ...], levels: int, schedule: Schedule | None = None) -> EMS:
    """Statistics as formulas: "near" is about those of the beds, "off" is wrong but has l = 1 at the start, "wrong"
    is wrong everywhere."""
    schedule = VP() if schedule is None else schedule
    lam, t = ems_grid(schedule, levels, None, T_END)
    x = lam.view(-1, *[1] * len(shape)).expand(-1, *shape)
    l, s, b = {
        "near": (1 / (1 + 0.8 * (2 * x).exp()), -0.5 * torch.sigmoid(x), 0.1 * torch.sigmoid(x)),
        "off": (1 - 0.5 * torch.sigmoid(2 * x - 1), -0.3 + 0.2 * torch.sin(x), 0.3 * torch.cos(x)),
        "wrong": (0.6 - 0.3 * torch.tanh(x), 0.4 * torch.sin(x / 2), 0.3 * torch.cos(x)),
    }[kind]
    return EMS(lam, t, l.clone(), s.clone(), b.clone(), schedule_mark(schedule))


def on_levels(ems: EMS, steps: int) -> Tensor:
    """Times of the statistics' own grid, about uniform in lambda: nothing is left to snapping."""
    return ems.t[torch.linspace(0, ems.levels, steps + 1).round().long()]


# -- check 1: reductions


@pytest.mark.parametrize(
    ("fixed", "ours", "reference", "bound"),
    [
        ({"l": 1.0}, {"order": 1}, DDIM(), 1.4e-5),
        ({"l": 0.0, "s": -1.0}, {"order": 1}, DDIM(), 4e-5),
        ({"l": 1.0}, {"order": 2}, DPMSolverPP(order=2, form="taylor", lower_order_final=True), 3e-5),
        ({"l": 1.0}, {"order": 3}, DPMSolverPP(order=3, form="taylor", lower_order_final=True, start="plain"), 4e-5),
    ],
    ids=["data form is ddim", "noise form is ddim", "2m taylor", "3m"],
)
def test_reductions(fixed, ours, reference, bound, beds) -> None:
    """To the error of the trapezoid, which falls with the grid's square. The bounds are the sheet's, for N = 1200."""
    d, x_T = beds["mixture"].denoiser(VP()), Noise(range(64))("x_T", 0, (1,), dtype=F64)
    apart = []
    for levels in (120, 1200, 12000):
        ems = EMS.fixed(VP(), (1,), levels, t_end=T_END, **fixed)
        grid = on_levels(ems, 10)
        apart.append(
            float(
                (DPMSolverV3(ems, corrector=None, **ours)(d, x_T, grid=grid) - reference(d, x_T, grid=grid)).abs().max()
            )
        )
    assert apart[1] < bound, apart
    assert 95 < apart[0] / apart[1] < 105 and 95 < apart[1] / apart[2] < 105, apart


# -- check 2: a Gaussian in one step


def gaussian_ems(mean: Tensor, std: Tensor, levels: int) -> EMS:
    """l = 1/(1 + S^2 e^(2 lam)), f = -l m, so Var f = 0, s = 0 and b = -l' m."""
    lam, t = ems_grid(VP(), levels, None, 1e-3)
    l = 1 / (1 + std**2 * (2 * lam[:, None]).exp())
    return EMS(lam, t, l, torch.zeros_like(l), 2 * l * (1 - l) * mean, schedule_mark(VP()))


def test_one_step_is_exact_on_a_gaussian() -> None:
    mean, std = torch.tensor([0.3, -0.2], dtype=F64), torch.tensor([0.5, 1.5], dtype=F64)
    exact = Gaussian(mean, std=std)
    x_T, ends = Noise(range(64))("x_T", 0, (2,), dtype=F64), torch.tensor([1.0, 1e-3], dtype=F64)
    truth = probability_flow(exact, VP(), x_T, 1.0, 1e-3)

    def error(sampler, **options) -> float:
        return float((sampler(exact.denoiser(VP()), x_T, **options) - truth).abs().max())

    errors = [error(DPMSolverV3(gaussian_ems(mean, std, n), order=1), grid=ends) for n in (120, 1200, 12000)]
    assert all(e < bound for e, bound in zip(errors, (5e-4, 5e-6, 5e-8), strict=True)), errors
    assert 95 < errors[0] / errors[1] < 105 and 95 < errors[1] / errors[2] < 105
    assert error(DDIM(), grid=ends) > 1
    # and on to t = 0: the data prediction at t_end is foretold, still with one evaluation
    got = DPMSolverV3(gaussian_ems(mean, std, 1200), order=1)(exact.denoiser(VP()), x_T, steps=1)
    torch.testing.assert_close(got, exact.denoiser(VP())(truth, ends[1:].expand(64)).x0, rtol=0, atol=5e-6)


def test_calibration_finds_the_statistics_of_a_gaussian() -> None:
    """The Jacobian is diagonal, so one probe is exact; f does not vary, so s = 0 by the guard."""
    mean, std = torch.tensor([0.3, -0.2], dtype=F64), torch.tensor(0.5, dtype=F64)
    exact, want = GaussianMixture(mean[None], std[None]), gaussian_ems(mean, std.expand(2), 60)
    ems = calibrate_ems(exact.denoiser(VP()), exact.sample(Noise(range(64))), levels=60, per_level=64)
    torch.testing.assert_close(ems.l, want.l, rtol=0, atol=1e-12)
    assert not ems.s.any()
    # b has the finite difference of l' in it, times a mean of y that 64 draws leave wide
    torch.testing.assert_close(ems.b, want.b, rtol=0, atol=0.02)
    x_T = Noise(range(64))("x_T", 0, (2,), dtype=F64)
    truth = probability_flow(Gaussian(mean, std=std), VP(), x_T, 1.0, 1e-3)
    got = DPMSolverV3(ems, order=1)(exact.denoiser(VP()), x_T, grid=torch.tensor([1.0, 1e-3], dtype=F64))
    assert float((got - truth).abs().max()) < 5e-3


# -- checks 3 and 4: the derivatives


def looked_at(d: Denoiser, lam: float, x: Tensor, probe: Tensor | None) -> tuple[dict[str, Tensor], float, float]:
    """The sums of the moments at one level, with alpha and sigma there."""
    schedule, at = d.schedule, torch.tensor([lam], dtype=F64)
    node = nodes_of(schedule, schedule.t_of(at))[0]
    speed = float((schedule.t_of(at + 1e-6) - schedule.t_of(at - 1e-6)) / 2e-6)
    sums = observe(Derivative(prediction(d, None)), x, node, rate_of(schedule.curve, node), speed, probe)
    return sums, node.alpha, node.sigma


def test_the_probe_is_exact_for_a_diagonal_and_unbiased_for_a_dense_jacobian(draw) -> None:
    x, diagonal, dense = draw(4096, 3), torch.tensor([0.3, -0.7, 1.1], dtype=F64), draw(3, 3)
    probe = Noise([0]).uniform("v", 0, (4096, 3), dtype=F64)[0].round() * 2 - 1
    one, _, sigma = looked_at(EpsDenoiser(lambda x, time, c: x * diagonal, VP()), 0.3, x[:1], probe[:1])
    torch.testing.assert_close(1 - one["r"], sigma * diagonal, rtol=0, atol=1e-12)
    many, _, _ = looked_at(EpsDenoiser(lambda x, time, c: x @ dense.T, VP()), 0.3, x, probe)
    error = (1 - many["r"] / 4096 - sigma * dense.diagonal()).abs()
    rest = dense - dense.diagonal().diag()  # v_i sum_j M_ij v_j has the variance sum_(j != i) M_ij^2
    assert bool((error < 5 * sigma * rest.square().sum(1).sqrt() / math.sqrt(4096)).all()), error
    assert float(error.max()) > 1e-6  # the test can fail: it is an estimate


@pytest.mark.parametrize("schedule", [VP(), Flow(), VE()], ids=["vp", "flow", "ve"])
def test_the_joint_derivative_is_the_one_along_the_exact_flow(schedule: Schedule, beds) -> None:
    bed, h = beds["mixture"], 1e-4
    d, x = bed.denoiser(schedule), torch.tensor([[0.7]], dtype=F64)
    for lam in (-2.0, 0.0, 1.5):
        times = schedule.t_of(torch.tensor([lam - h, lam, lam + h], dtype=F64))
        eps = []
        for t in times:
            moved = probability_flow(bed, schedule, x, float(times[1]), float(t))
            eps.append(float(d(moved, t[None]).eps))
        sums, alpha, sigma = looked_at(d, lam, x, None)
        # x0 = y - e^-lam eps and y' = -e^-lam eps, so x0' = -e^-lam eps'
        found = -float(sums["d"]) * alpha / sigma
        assert found == pytest.approx((eps[2] - eps[0]) / (2 * h), rel=1e-5)


# -- checks 5 and 6: the fit


def test_the_residual_of_the_fit_is_unbiased_and_uncorrelated(beds) -> None:
    bed, lam = beds["mixture"], torch.linspace(-2, 2, 21, dtype=F64)
    d, x0 = bed.denoiser(VP()), bed.sample(Noise(range(256)))
    t = VP().t_of(lam)
    raw: list[tuple[Tensor, Tensor, Tensor]] = []
    means: dict[str, list[Tensor]] = {name: [] for name in MOMENTS}
    for j, node in enumerate(nodes_of(VP(), t)):
        x = node.alpha * x0 + node.sigma * Noise([j])("n", 0, (256, 1), dtype=F64)[0]
        sums, _, _ = looked_at(d, float(lam[j]), x, torch.ones_like(x))
        for name in MOMENTS:
            means[name].append(sums[name] / 256)
        times, rate = torch.full((256,), node.t, dtype=F64), rate_of("variance", node)
        m = d(x, times).x0
        eps = (x - node.alpha * m) / node.sigma
        speed = float((VP().t_of(lam[j] + 1e-6) - VP().t_of(lam[j] - 1e-6)) / 2e-6)
        direction = (rate * x - node.sigma * eps, torch.full_like(times, speed))
        _, slope = torch.func.jvp(lambda x, t: d(x, t).eps, (x, times), direction)
        raw.append((x / node.alpha, eps * node.ratio, slope * node.ratio))
    l, s, b = fit(lam, {name: torch.stack(values) for name, values in means.items()})
    l_slope = torch.gradient(l, spacing=(lam,), dim=0, edge_order=2)[0]
    for j, (y, e, e_slope) in enumerate(raw):
        f = e - l[j] * y  # the paper's words: f = (sigma eps - l x) / alpha
        f_slope = (l[j] - 1) * e + e_slope - l_slope[j] * y
        residual = f_slope - s[j] * f - b[j]
        assert abs(float(residual.mean())) < 1e-8
        assert abs(float((residual * (f - f.mean())).mean())) < 1e-8
        assert float(residual.square().mean()) > 1e-6  # the fit is not perfect: the zeros mean something


def test_l_goes_from_one_to_zero_on_the_mixture(beds) -> None:
    bed = beds["mixture"]
    pool = bed.sample(Noise(range(4096)))
    ems = calibrate_ems(bed.denoiser(VP()), pool, levels=20, per_level=4096, t_end=T_END, batch=4096)
    # the sheet: 0.99996 to 0.0057
    assert float(ems.l[0]) == pytest.approx(0.99996, abs=2e-5)
    assert float(ems.l[-1]) == pytest.approx(0.0057, abs=1e-3)
    assert bool((ems.l.diff(dim=0) < 0.01).all())


# -- check 7: orders


@pytest.mark.parametrize("on", ["mixture", "gaussian"])
@pytest.mark.parametrize(
    ("kind", "order", "corrector"),
    [("near", 1, None), ("near", 2, None), ("near", 3, None), ("near", 2, "full"), ("near", 3, "full")]
    + [("off", 1, None), ("off", 2, None), ("off", 3, None), ("wrong", 1, None), ("wrong", 2, None)],
)
def test_order_with_any_smooth_statistics(kind: str, order: int, corrector: str | None, on: str, beds, rmse) -> None:
    """N = 80 M and more, so that the trapezoid does not mask the order."""
    ems = smooth(kind, beds[on].shape, 6400)
    sampler = DPMSolverV3(ems, order=order, corrector=corrector, corrector_pseudo=False, lower_order_final=False)
    coarse, fine = (rmse(sampler, on, VP(), n) for n in (40, 80))
    assert abs(math.log2(coarse / fine) - order) < 0.2 + 0.2 * (corrector == "full"), (coarse, fine)
    assert sampler.order == order


def test_the_first_step_counts_where_g_moves_at_the_start(beds, rmse) -> None:
    """As in DPM-Solver++ 3M: one first-order step is of second order unless g rests there (l = 1 at high noise)."""
    ems = smooth("wrong", (1,), 12800)
    sampler = DPMSolverV3(ems, order=3, corrector=None, lower_order_final=False)
    coarse, fine = (rmse(sampler, "mixture", VP(), n) for n in (80, 160))
    assert 2 < math.log2(coarse / fine) < 2.5


def test_pseudo_order_three_is_of_second_order(beds, rmse) -> None:
    sampler = DPMSolverV3(
        smooth("off", (1,), 12800), order=3, corrector=None, predictor_pseudo=True, lower_order_final=False
    )
    coarse, fine = (rmse(sampler, "mixture", VP(), n) for n in (80, 160))
    assert abs(math.log2(coarse / fine) - 2) < 0.2, (coarse, fine)


# -- check 8 and the driver: against the paper's algorithm in its own words


def by_the_book(
    ems: EMS, d: Denoiser, x: Tensor, places: Sequence[int], order: int, pc: str | None, **pseudo: bool
) -> Tensor:
    """Algorithm 2 with (x, eps) stored, integrals cumulated from the first index, N kept by rewriting eps."""
    lam, h = ems.lam, float(ems.lam[1] - ems.lam[0])
    nodes = nodes_of(d.schedule, ems.t)

    def cumulated(values: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(values[:1]), (h * (values[1:] + values[:-1]) / 2).cumsum(0)])

    L, S = cumulated(ems.l), cumulated(ems.s)
    I = cumulated((L + S).exp())
    Bc = cumulated((-S).exp() * ems.b)
    Cc = cumulated((L + S).exp() * Bc)

    def update(
        s: int, t: int, x_s: Tensor, points: list[tuple[Tensor, Tensor, int]], n: int, is_pseudo: bool
    ) -> Tensor:
        def g(point: tuple[Tensor, Tensor, int]) -> Tensor:
            x_i, eps_i, i = point
            f = eps_i * nodes[i].ratio - ems.l[i] * x_i / nodes[i].alpha
            return (S[s] - S[i]).exp() * f - S[s].exp() * (Bc[i] - Bc[s])

        delta = [float(lam[i] - lam[s]) for _, _, i in points]
        rise = [g(p) - g(points[0]) for p in points[1:]]
        derivatives = [g(points[0])]
        for k in range(1, n + 1):
            used = range(1, (k if is_pseudo else n) + 1)
            matrix = torch.tensor([[delta[j] ** (i + 1) for i in range(len(used))] for j in used], dtype=F64)
            weights = torch.linalg.inv(matrix)[k - 1] * math.factorial(k)
            derivatives.append(sum((w * rise[j - 1] for w, j in zip(weights, used)), torch.zeros_like(x_s)))
        A = (L[s] - L[t]).exp()
        EB = (-L[s]).exp() * (Cc[t] - Cc[s] - Bc[s] * (I[t] - I[s]))
        E = (L[s : t + 1] - L[s] + S[s : t + 1] - S[s]).exp()
        total = A * x_s / nodes[s].alpha - A * EB
        for k, value in enumerate(derivatives):
            power = (lam[s : t + 1] - lam[s]).view(-1, *[1] * (E.ndim - 1)) ** k / math.factorial(k)
            total = total - A * torch.trapezoid(E * power, lam[s : t + 1], dim=0) * value
        return nodes[t].alpha * total

    kept: list[tuple[Tensor, Tensor, int]] = []
    M, p_before = len(places) - 1, 0
    for m in range(1, M + 1):
        i = places[m - 1]
        eps = d(x, torch.full((len(x),), float(ems.t[i]), dtype=F64)).eps
        kept.insert(0, (x, eps, i))
        n_c = p_before + int(pseudo["corrector_pseudo"])
        right = pc == "full" or (pc == "half" and float(ems.t[i]) <= 0.5)
        if right and m > 1 and n_c > 1:
            before = kept[1]
            x_c = update(before[2], i, before[0], [before, kept[0], *kept[2:]], n_c - 1, pseudo["corrector_pseudo"])
            N = nodes[i].sigma * eps - ems.l[i] * x
            eps_c = (N + ems.l[i] * x_c) / nodes[i].sigma
            # check 8: N, and so g, is what it was
            torch.testing.assert_close(nodes[i].sigma * eps_c - ems.l[i] * x_c, N, rtol=0, atol=1e-10)
            kept[0] = (x_c, eps_c, i)
        p = min(m, order, M + 1 - m)
        x = update(i, places[m], kept[0][0], kept, p - 1, pseudo["predictor_pseudo"])
        p_before = p
    return x


@pytest.mark.parametrize("pc", ["full", "half", None])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("pseudo", [False, True], ids=["true", "pseudo"])
def test_the_driver_is_the_papers(order: int, pc: str | None, pseudo: bool, beds) -> None:
    ems = smooth("off", (3,), 240)
    d, x_T = beds["gaussian"].denoiser(VP()), Noise(range(3))("x_T", 0, (3,), dtype=F64)
    places = [0, 31, 60, 100, 128, 180, 215, 240]
    for corrector_pseudo in {pseudo, False}:
        flags = {"corrector_pseudo": corrector_pseudo, "predictor_pseudo": pseudo}
        sampler = DPMSolverV3(ems, order=order, corrector=pc, **flags)
        want = by_the_book(ems, d, x_T, places, order, pc, **flags)
        torch.testing.assert_close(sampler(d, x_T, grid=ems.t[places]), want, rtol=0, atol=1e-10)


def test_half_of_the_corrections_and_the_other_half() -> None:
    plan = {}
    grid = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2, 0.05], dtype=F64)
    for name, options in {
        "full": {}, "low": {"corrector": "half"}, "high": {"corrector": "half", "half_region": "t>0.5"},
        "none": {"corrector": None}, "third": {"corrector_order": 3}, "pseudo": {"corrector_pseudo": True},
    }.items():  # fmt: skip
        made = DPMSolverV3(smooth("near", (1,), 120), order=2, **{"corrector_pseudo": False, **options}).plan(
            VP(), grid
        )
        plan[name] = [int(row[1]) for row in made.rows]
        assert [int(row[0]) for row in made.rows] == [1, 2, 2, 2, 1] and made.nfe == 5
    assert plan == {
        "full": [0, 0, 2, 2, 2], "low": [0, 0, 0, 2, 2], "high": [0, 0, 2, 0, 0], "none": [0, 0, 0, 0, 0],
        "third": [0, 2, 3, 3, 3], "pseudo": [0, 2, 3, 3, 3],
    }  # fmt: skip


# -- check 9


@pytest.mark.parametrize("corrector", ["full", None])
def test_pseudo_is_true_at_order_two(corrector: str | None, beds) -> None:
    """With one further point both are the same slope, in predictor and corrector."""
    ems = smooth("off", (1,), 240)
    d, x_T = beds["mixture"].denoiser(VP()), Noise(range(8))("x_T", 0, (1,), dtype=F64)
    results = [
        DPMSolverV3(ems, order=2, corrector=corrector, corrector_order=2, predictor_pseudo=p, corrector_pseudo=p)(
            d, x_T, steps=7
        )
        for p in (False, True)
    ]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)


# -- what every sampler here promises


class Counted(Denoiser):
    """Counts its calls and notes their times."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__(denoiser.schedule)
        self.denoiser, self.times = denoiser, list[float]()

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        self.times.append(float(t[0]))
        return self.denoiser(x_t, t, c)


@pytest.mark.parametrize("corrector", ["full", "half", None])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_are_evaluations(steps: int, corrector: str | None, beds) -> None:
    sampler = DPMSolverV3(smooth("near", (1,), 60), order=3, corrector=corrector)
    d = Counted(beds["mixture"].denoiser(VP()))
    states = list(sampler.trajectory(d, torch.ones(2, 1, dtype=F64), steps=steps))
    assert len(d.times) == sampler.nfe(steps) == steps == len(states)
    assert d.times[0] == 1.0 and min(d.times) > T_END  # none is spent on the end
    assert states[-1].k == steps and sampler.plan(VP(), sampler.default_grid(VP(), steps)).nodes[-1].t == 0


def test_a_constant_prediction_is_followed_exactly() -> None:
    """D = const: with l = 1 every number of steps gives it, at t = 0 and on the way."""

    class Constant(Denoiser):
        def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
            return Prediction.from_x0(torch.full_like(x_t, 0.37), x_t, t, self.schedule)

    for schedule in (VP(), Flow(), VE()):
        ems = EMS.fixed(schedule, (2,), 300)
        for steps in (1, 6):
            got = DPMSolverV3(ems, order=3)(Constant(schedule), torch.ones(1, 2, dtype=F64), steps=steps)
            torch.testing.assert_close(got, torch.full_like(got, 0.37), rtol=0, atol=2e-3)  # the trapezoid's


def test_a_visit_to_the_last_level_ends_in_the_data_prediction(beds) -> None:
    d, x_T = beds["mixture"].denoiser(VP()), Noise(range(4))("x_T", 0, (1,), dtype=F64)
    grid = uniform_lambda(VP(), 6, t_end=T_END)
    *_, last = DPMSolverV3(smooth("off", (1,), 240), order=3, corrector=None).trajectory(d, x_T, grid=grid)
    assert last.x0 is not None
    torch.testing.assert_close(last.x, last.x0, rtol=0, atol=1e-12)


def test_alone_or_in_a_batch_and_in_float32(beds) -> None:
    ems = smooth("near", (3,), 120)
    d, x_T = beds["gaussian"].denoiser(VP()), Noise(range(5))("x_T", 0, (3,))
    sampler = DPMSolverV3(ems, order=3, corrector_pseudo=True)
    together = sampler(d, x_T, steps=6)
    assert together.dtype == torch.float32
    for i in range(5):
        assert torch.equal(sampler(d, x_T[i : i + 1], steps=6)[0], together[i])
    torch.testing.assert_close(together.double(), sampler(d, x_T.double(), steps=6), rtol=0, atol=2e-5)


def test_gradients_flow(beds) -> None:
    ems = smooth("near", (1,), 120)
    d, sampler = beds["mixture"].denoiser(VP()), DPMSolverV3(ems, order=3)
    x = torch.tensor([[0.4]], dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(sampler(d, x, steps=5).sum(), x)
    with torch.no_grad():
        difference = (sampler(d, x + 1e-5, steps=5) - sampler(d, x - 1e-5, steps=5)) / 2e-5
    assert float(slope) == pytest.approx(float(difference), rel=1e-6)


def test_guided_denoisers_and_pure_noise_at_the_start(beds) -> None:
    """CFG is followed to its own flow; a schedule with alpha(1) = 0 starts at t = 1 all the same."""
    schedule = Flow()
    ems = EMS.fixed(schedule, (1,), 600, t_end=T_END)
    assert ems.t_start < 1
    label = Condition({"label": torch.tensor([0, 1, 2, 1])}, null={"label": torch.tensor([3])})
    guided, x_T = CFG(2.0)(beds["mixture"].denoiser(schedule)), Noise(range(4))("x_T", 0, (1,), dtype=F64)
    fine = DPMSolverPP(order=2)(guided, x_T, grid=uniform_lambda(schedule, 100, t_end=1e-3), c=label)
    sampler = DPMSolverV3(ems, order=3)
    by_lambda = uniform_lambda(schedule, 50, t_end=T_END, to_zero=False)
    by_lambda[-1] = 0.0
    for grid in (None, by_lambda):
        got = sampler(guided, x_T, steps=50, grid=grid, c=label)
        # x_T is rescaled to the first level, alpha = 0.006, without the mean of the data times that
        assert float((got - fine).abs().max()) < 6e-3


def test_steps_by_hand_equal_the_loop(beds) -> None:
    sampler = DPMSolverV3(smooth("near", (1,), 120), order=3)
    d, x_T = beds["mixture"].denoiser(VP()), torch.ones(1, 1, dtype=F64)
    plan, state = sampler.plan(VP(), sampler.default_grid(VP(), 6)), State(x_T)
    for k in range(plan.steps):
        state = sampler.step(d, state, k, plan)
    assert torch.equal(state.x, sampler(d, x_T, steps=6))
    with pytest.raises(ValueError, match="history holds 0"):
        sampler.step(d, State(x_T, 3), 3, plan)
