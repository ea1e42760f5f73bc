"""arXiv 2210.03142, guided distillation: what can be known without training anything."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    VP,
    Condition,
    Cosine,
    Denoiser,
    EpsDenoiser,
    Flow,
    Gaussian,
    GaussianMixture,
    Noise,
    Prediction,
    VDenoiser,
    X0Denoiser,
    extra_of_weight,
    weight_of_extra,
)
from mezzotint.core.schedule import Schedule
from mezzotint.guide import CFG
from mezzotint.nn import DiT, UNet, guided_student
from mezzotint.objective import (
    Batch,
    EncoderDistillation,
    GuidedDistillation,
    ProgressiveDistillation,
    SNRPlusOne,
    TruncatedSNR,
    guided_target,
    two_step_target,
)
from mezzotint.sample import DDIM, DistilledDDIM, DistilledStochastic, encode

F64 = torch.float64
COSINE = Cosine(0.0)  # alpha = cos, sigma = sin
MIXTURE = GaussianMixture(torch.tensor([[-0.8, 0.3], [0.6, -0.2]]), torch.tensor([0.2, 0.3]))
GAUSSIAN = Gaussian(torch.full((1,), 0.3), std=0.5)
SCHEDULES: dict[str, Schedule] = {"cosine": COSINE, "offset": Cosine(), "flow": Flow(), "vp": VP()}


def levels(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    return schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]


def step(schedule: Schedule, z: Tensor, x0: Tensor, eps: Tensor, end: Tensor) -> Tensor:
    a, s = levels(schedule, end)
    return a * x0 + s * eps


# 1. one step with the target lands where two steps of the teacher do


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("up", [False, True], ids=["down", "up"])
@pytest.mark.parametrize("n", [1, 2, 7, 64, 1024, 8192])
def test_the_target_lands_where_two_steps_do(schedule: Schedule, up: bool, n: int) -> None:
    d, ends = MIXTURE.denoiser(schedule), torch.arange(n + 1, dtype=F64)[:: max(n // 16, 1)] / n
    t = ends[:-1] if up else ends[1:]
    length = (1 if up else -1) / n
    jump = t, (t + length / 2), (t + length).clamp(0, 1)
    z = levels(schedule, t)[0] * 0.4 + levels(schedule, t)[1] * Noise(range(len(t)))("z", 0, (2,), dtype=F64)
    x0, eps = two_step_target(d, z, jump)

    first = d(z, jump[0])
    middle = step(schedule, z, first.x0, first.eps, jump[1])
    second = d(middle, jump[1])
    there = step(schedule, middle, second.x0, second.eps, jump[2])
    torch.testing.assert_close(step(schedule, z, x0, eps, jump[2]), there, rtol=0, atol=1e-12)
    torch.testing.assert_close(step(schedule, z, x0, eps, t), z, rtol=0, atol=1e-12)  # one (x, eps) of this z
    torch.testing.assert_close(x0[jump[2] == 0], second.x0[jump[2] == 0], rtol=0, atol=0)  # t'' = 0: x2 itself


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_target_is_the_published_one(schedule: Schedule) -> None:
    d, t = MIXTURE.denoiser(schedule), torch.tensor([0.25, 0.5, 0.75], dtype=F64)
    z = Noise(range(3))("z", 0, (2,), dtype=F64)
    (a, s), (am, sm), (ae, se) = (levels(schedule, t - part) for part in (0.0, 0.1, 0.2))
    x1 = d(z, t).x0
    zm = am * x1 + sm / s * (z - a * x1)
    x2 = d(zm, t - 0.1).x0
    ze = ae * x2 + se / sm * (zm - am * x2)
    published = (ze - se / s * z) / (ae - se / s * a)
    x0, _ = two_step_target(d, z, (t, t - 0.1, t - 0.2))
    torch.testing.assert_close(x0, published, rtol=1e-12, atol=1e-12)


def test_the_target_keeps_its_digits_in_float32() -> None:
    """The published form loses a digit for every ten steps; the mean of two predictions loses none."""
    n, d = 8192, MIXTURE.denoiser(COSINE)
    t = torch.tensor([100, 4000, 8000], dtype=F64) / n
    z = Noise(range(3))("z", 0, (2,), dtype=F64)
    jump = t, t - 0.5 / n, t - 1 / n
    exact, single = two_step_target(d, z, jump), two_step_target(d, z.float(), jump)
    for a, b in zip(exact, single):
        torch.testing.assert_close(b.double(), a, rtol=0, atol=1e-4)  # eps = (z - alpha x) / sigma of the bed itself
    torch.testing.assert_close(single[0].double(), exact[0], rtol=0, atol=2e-6)


# 2, 3. a perfect student: the composition of 256 fine steps


class Perfect(Denoiser):
    """The prediction whose DDIM step over 1/n (not below 0) ends where the fine steps of the exact denoiser do.

    On a Gaussian every step is affine, so two samples tell what the composition does to all.
    """

    def __init__(self, n: int, fine: int = 256) -> None:
        super().__init__(COSINE)
        self.n, self.fine, self.d = n, fine, GAUSSIAN.denoiser(COSINE)
        self.calls: list[float] = []

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        start = float(t[0])
        self.calls.append(start)
        end = max(start - 1 / self.n, 0.0)
        count = round((start - end) * self.fine)
        two = torch.tensor([[0.0], [1.0]], dtype=F64)
        origin, one = DDIM()(self.d, two, grid=torch.linspace(start, end, count + 1, dtype=F64))
        z = origin + (one - origin) * x_t
        a, s, ae, se = (
            float(f(torch.tensor(u, dtype=F64))) for u in (start, end) for f in (COSINE.alpha, COSINE.sigma)
        )
        return Prediction.from_x0((z - se / s * x_t) / (ae - se / s * a), x_t, t, COSINE)


def noise_to_spread(samples: int) -> Tensor:
    """Quantiles of the normal law: its moments without a draw."""
    return torch.special.ndtri((torch.arange(samples, dtype=F64) + 0.5) / samples)[:, None]


@pytest.mark.parametrize(
    ("n", "student", "plain"), [(1, 0.4976, 0.0), (2, 0.4991, 0.200), (4, 0.4999, 0.334), (8, 0.5002, 0.412)]
)
def test_a_perfect_student_has_the_spread_of_the_data(n: int, student: float, plain: float) -> None:
    x_T = noise_to_spread(4001)
    got = DistilledDDIM()(Perfect(n), x_T, steps=n)
    assert float(got.std(correction=0)) == pytest.approx(student, abs=0.004)
    assert float(got.mean()) == pytest.approx(0.3, abs=0.002)
    teacher = DDIM()(GAUSSIAN.denoiser(COSINE), x_T, steps=n)
    assert float(teacher.std(correction=0)) == pytest.approx(plain, abs=0.004)


@pytest.mark.parametrize(("n", "correlation"), [(2, 0.44), (4, 0.20), (8, 0.10)])
def test_the_stochastic_sampler_keeps_the_law(n: int, correlation: float) -> None:
    noise = Noise(range(3000))
    x_T = noise("x_T", 0, (1,), dtype=F64)
    perfect = Perfect(n // 2)
    got = DistilledStochastic()(perfect, x_T, steps=n, noise=noise)
    assert perfect.calls == [k / n for k in range(n, 0, -1)]  # n evaluations, one from every multiple of 1/n
    assert float(got.mean()) == pytest.approx(0.3, abs=4 * 0.5 / math.sqrt(3000))
    assert float(got.std()) == pytest.approx(0.4985, abs=4 * 0.5 / math.sqrt(6000))
    found = float(torch.corrcoef(torch.stack([x_T[:, 0], got[:, 0]]))[0, 1])
    assert found == pytest.approx(correlation, abs=4 / math.sqrt(3000))
    straight = DistilledDDIM()(Perfect(n), x_T, steps=n)
    assert float(torch.corrcoef(torch.stack([x_T[:, 0], straight[:, 0]]))[0, 1]) == pytest.approx(1, abs=1e-9)


def test_the_law_is_kept_by_the_coefficients_themselves() -> None:
    """Without draws: the variance that the rows carry from node to node is that of the exact process."""
    n = 8
    plan = DistilledStochastic().plan(COSINE, torch.linspace(1, 0, n + 1, dtype=F64))
    for row, here, far in zip(plan.rows, plan.nodes, [*plan.nodes[2:], plan.nodes[-1]]):
        # a perfect student carries N(alpha mu, alpha^2 v + sigma^2) to the same law at the far node
        there = far.alpha**2 * 0.25 + far.sigma**2
        back = plan.nodes[plan.nodes.index(here) + 1]
        a = back.alpha / far.alpha
        assert a * a * there + row[1] ** 2 == pytest.approx(back.alpha**2 * 0.25 + back.sigma**2, abs=1e-12)


# 4. the target of stage 1


class Two(Denoiser):
    """A conditional denoiser with a null: a mixture's component, or the mixture."""

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        assert c is not None
        whole = MIXTURE.denoiser(self.schedule)(x_t, t)
        parts = [
            Gaussian(m, std=s).denoiser(self.schedule)(x_t, t).x0
            for m, s in zip((torch.tensor([-0.8, 0.3]), torch.tensor([0.6, -0.2])), (0.2, 0.3))
        ]
        choice = torch.stack([*parts, whole.x0])
        return whole.with_x0(choice[c["label"], torch.arange(len(x_t))])


def labels(b: int) -> Condition:
    return Condition({"label": torch.arange(b) % 2}, {"label": torch.tensor([2])})


@pytest.mark.parametrize("kind", ["x0", "eps", "v", "flow"])
def test_the_target_is_affine_in_w(kind: str) -> None:
    d, t, c = Two(COSINE), torch.linspace(0.1, 0.9, 6, dtype=F64), labels(6)
    z = Noise(range(6))("z", 0, (2,), dtype=F64)
    at = {w: guided_target(d, z, t, c, torch.full((6,), w, dtype=F64), kind) for w in (0.0, 1.0, 2.0, 4.0)}
    assert torch.equal(at[1.0], getattr(d(z, t, c), kind))
    assert torch.equal(at[0.0], getattr(d(z, t, c.null()), kind))
    torch.testing.assert_close(at[4.0], at[0.0] + 4 * (at[1.0] - at[0.0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(at[4.0] - at[2.0], 2 * (at[1.0] - at[0.0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(at[2.0], getattr(CFG(2.0)(d)(z, t, c), kind), rtol=0, atol=1e-12)
    mixed = guided_target(d, z, t, c, torch.tensor([0.0, 1.0, 2.0, 4.0, 2.0, 1.0], dtype=F64), kind)
    assert torch.equal(mixed[3], at[4.0][3]) and torch.equal(mixed[2], at[2.0][2])


# 5. how a student starts


def _teacher(which: str) -> VDenoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = (
            UNet(3, channels=8, mult=(1, 2), blocks=1, attention=(2,), head_dim=8, classes=4)
            if which == "unet"
            else DiT(3, patch=2, width=16, depth=2, heads=2, classes=4)
        )
        for p in net.parameters():
            torch.nn.init.normal_(p, std=0.1)
    return VDenoiser(net, COSINE).eval()


@pytest.mark.parametrize("which", ["unet", "dit"])
def test_a_student_starts_as_its_teacher_and_learns_the_weight(which: str) -> None:
    teacher = _teacher(which)
    before = deepcopy(teacher.state_dict())
    student = guided_student(teacher, (1.0, 5.0))
    x, t, c = Noise(range(4))("x", 0, (3, 4, 4)), torch.tensor([1.0, 0.7, 0.3, 0.05]), _classes(4)
    w = torch.tensor([1.0, 2.0, 3.5, 5.0], requires_grad=True)
    out = student(x, t, c.updated({"guidance": w}))
    assert torch.equal(out.value, teacher(x, t, c).value)
    (slope,) = torch.autograd.grad(out.value.square().sum(), w)
    assert not slope.any()  # d(out)/dw = 0

    objective = GuidedDistillation(teacher.requires_grad_(True), (1.0, 5.0))
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-2)
    branch = student.net.base.embed.branch
    for place in range(2):
        optimiser.zero_grad()
        objective(student, Batch(x, c), Noise([7, 8, 9, 10])).total.backward()
        assert branch.last.weight.grad is not None and bool(branch.last.weight.grad.any())
        # the first layer is behind the zero of the last until that has moved
        assert bool(branch.first.weight.grad.any()) == (place > 0)
        optimiser.step()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before.values(), teacher.state_dict().values(), strict=True))
    after = student(x, t, c.updated({"guidance": w}))
    (slope,) = torch.autograd.grad(after.value.square().sum(), w)
    assert bool((slope != 0).all())


def _classes(b: int) -> Condition:
    return Condition({"label": torch.arange(b) % 4}, {"label": torch.tensor([4])})


# 6. the losses


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_weights_in_every_space_are_the_same_loss(schedule: Schedule) -> None:
    t = torch.linspace(0.05, 0.95, 7, dtype=F64)
    alpha, sigma = levels(schedule, t)
    z, off = (Noise(range(7))(name, 0, (5,), dtype=F64) for name in ("z", "off"))
    p, q = (Prediction.from_x0(x, z, t, schedule) for x in (0.3 * off, off))
    mse = {k: (getattr(p, k) - getattr(q, k)).square().mean(1) for k in ("x0", "eps", "v", "flow")}
    snr = (alpha / sigma).square()[:, 0]
    torch.testing.assert_close(snr * mse["x0"], mse["eps"], rtol=1e-6, atol=0)
    if schedule.curve == "variance":
        torch.testing.assert_close((1 + snr) * mse["x0"], mse["v"], rtol=1e-6, atol=0)
    for kind, error in mse.items():
        truncated = TruncatedSNR()(kind, alpha[:, 0], sigma[:, 0]) * error
        torch.testing.assert_close(truncated, torch.maximum(mse["x0"], mse["eps"]), rtol=1e-6, atol=0)
        plus_one = SNRPlusOne()(kind, alpha[:, 0], sigma[:, 0]) * error
        torch.testing.assert_close(plus_one, mse["x0"] + mse["eps"], rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["v", "flow"])
def test_weights_are_finite_at_both_ends(kind: str) -> None:
    alpha, sigma = torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([0.0, 1.0], dtype=F64)
    assert TruncatedSNR()(kind, alpha, sigma).tolist() == SNRPlusOne()(kind, alpha, sigma).tolist() == [1.0, 1.0]


# 7. up and down again


def _there_and_back(numbers: tuple[int, ...]) -> list[float]:
    d, x = GAUSSIAN.denoiser(COSINE), torch.linspace(-1.2, 1.8, 31, dtype=F64)[:, None]
    errors = [float((DDIM()(d, encode(d, x, steps=n), steps=n) - x).abs().max()) for n in numbers]
    for coarse, fine in zip(errors, errors[1:]):
        assert coarse / fine == pytest.approx(4, abs=0.3)
    return errors


def test_encoding_and_decoding_is_of_first_order() -> None:
    _there_and_back((128, 512))


@pytest.mark.slow
def test_encoding_and_decoding_has_the_error_of_the_sheet() -> None:
    errors = _there_and_back((256, 1024, 4096))
    assert errors == pytest.approx([1.8e-2, 4.6e-3, 1.1e-3], rel=0.05)


def test_a_halved_encoder_is_two_steps_of_the_one_before() -> None:
    """One level of halving, solved exactly: the student of N steps ends where the 2 N of its teacher do."""
    d, n = GAUSSIAN.denoiser(COSINE), 8

    class Halved(Denoiser):
        def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
            t64 = t.double()
            x0, eps = two_step_target(d, x_t, (t64, t64 + 0.5 / n, t64 + 1 / n))
            a, s = levels(COSINE, t64)
            return Prediction.from_v(a * eps - s * x0, x_t, t, COSINE)

    x = torch.linspace(-1.2, 1.8, 31, dtype=F64)[:, None]
    torch.testing.assert_close(encode(Halved(COSINE), x, steps=n), encode(d, x, steps=2 * n), rtol=0, atol=1e-12)


# 8. whose w


def test_the_paper_counts_its_weight_from_zero() -> None:
    assert weight_of_extra(0.3) == 1.3
    assert extra_of_weight(weight_of_extra(0.3)) == pytest.approx(0.3)
    d, t, c = Two(COSINE), torch.full((4,), 0.5, dtype=F64), labels(4)
    z = Noise(range(4))("z", 0, (2,), dtype=F64)
    given, null = d(z, t, c).x0, d(z, t, c.null()).x0
    theirs = (1 + 0.3) * given - 0.3 * null
    ours = guided_target(d, z, t, c, torch.full((4,), weight_of_extra(0.3), dtype=F64), "x0")
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


# the objective: a student that says the target has no loss, and times are on the grid


@pytest.mark.parametrize("objective", [ProgressiveDistillation, EncoderDistillation])
def test_a_student_that_says_the_target_has_no_loss(objective: type) -> None:
    teacher, n = MIXTURE.denoiser(COSINE), 4
    goal = objective(teacher, n)
    noise = Noise(range(64))
    t, middle, end = goal.jumps(noise)
    sign = 1 if objective is EncoderDistillation else -1
    assert torch.equal(middle, t + sign * 0.5 / n) and torch.equal(end, t + sign / n)
    assert set((t * n).tolist()) == ({0.0, 1.0, 2.0, 3.0} if sign > 0 else {1.0, 2.0, 3.0, 4.0})

    class Told(Denoiser):
        def forward(self, x_t: Tensor, time: Tensor, c: Condition | None = None) -> Prediction:
            x0, eps = two_step_target(teacher, x_t, (t, middle, end))
            a, s = levels(COSINE, t)
            return Prediction.from_v(a * eps - s * x0, x_t, time, COSINE)

    x = MIXTURE.sample(noise)
    assert float(goal(Told(COSINE), Batch(x), noise).total) < 1e-28
    assert float(goal(teacher, Batch(x), noise).total) > 1e-4


def test_steps_from_odd_starts_are_shorter_at_the_end() -> None:
    goal = ProgressiveDistillation(MIXTURE.denoiser(COSINE), 2, starts=4)
    t, middle, end = goal.jumps(Noise(range(200)))
    jumps = {tuple(row) for row in torch.stack([t, middle, end], 1).tolist()}
    assert jumps == {(1.0, 0.75, 0.5), (0.75, 0.5, 0.25), (0.5, 0.25, 0.0), (0.25, 0.0, 0.0)}
    # from t = 1/4 one step of the teacher is all there is
    d, quarter, zero = MIXTURE.denoiser(COSINE), torch.full((3,), 0.25, dtype=F64), torch.zeros(3, dtype=F64)
    z = Noise(range(3))("z", 0, (2,), dtype=F64)
    x0, eps = two_step_target(d, z, (quarter, zero, zero))
    assert torch.equal(x0, d(z, quarter).x0) and torch.equal(eps, d(z, quarter).eps)


@pytest.mark.parametrize(("n", "schedule"), [(8, VP()), (64, Cosine())])
def test_a_noise_prediction_is_refused_where_it_says_nothing(n: int, schedule: Schedule) -> None:
    teacher, eps = MIXTURE.denoiser(schedule), EpsDenoiser(lambda x, t, c: 0 * x, schedule)
    x = torch.zeros(2, 2, dtype=F64)
    with pytest.raises(ValueError, match="use a network that predicts v, flow or x0"):
        ProgressiveDistillation(teacher, n)(eps, Batch(x), Noise([0, 1]))
    assert ProgressiveDistillation(MIXTURE.denoiser(VP()), 16)(
        EpsDenoiser(lambda x, t, c: 0 * x, VP()), Batch(x), Noise([0, 1])
    ).total.isfinite()
    assert ProgressiveDistillation(teacher, n)(
        X0Denoiser(lambda x, t, c: 0 * x, schedule), Batch(x), Noise([0, 1])
    ).total.isfinite()
