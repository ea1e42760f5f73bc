"""RED-diff as a restorer: rows, schedules, guides, variants, gradients, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.core import VE, VP, Condition, Cosine, Flow, FlowDenoiser, Gaussian, GaussianMixture, Noise
from mezzotint.guide import CFG
from mezzotint.restore import DPS, MCG, RatioPower, REDDiff, REDDiffParallel, REDDiffPrior, REDWeight
from mezzotint.restore.fit import first_image, misfit_gradient
from mezzotint.restore.operators import LinearOperator, Matrix, Operator
from mezzotint.restore.problem import Problem

F64 = torch.float64
SCHEDULES = [VP(), VE(0.01, 20.0), Flow(), Cosine()]
MIX = GaussianMixture(
    torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]), torch.tensor([0.4, 0.6])
)
Y = torch.tensor([[0.2, 0.4, 0.0], [0.7, -0.1, 0.0], [-0.5, 0.5, 0.0]], dtype=F64)


class Keep(LinearOperator):
    """All but the last number, which becomes 0: rows are exactly apart."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tensor([1.0, 1.0, 0.0], dtype=x.dtype)

    adjoint = pinv = forward


class Clipped(Operator):
    value_range = (-1.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        return (2 * x).clamp(-1, 1)

    def guess(self, y: Tensor) -> Tensor:
        return y / 2


class Square(Operator):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :2].square() * x[:, 2:]

    def guess(self, y: Tensor) -> Tensor:
        return torch.ones(len(y), 3, dtype=y.dtype)


ALL = {
    "reddiff": REDDiff(),
    "random": REDDiff(order="random", sigma_x0=0.1),
    "parallel": REDDiffParallel(at_once=3),
    "prior": REDDiffPrior(),
    "dps": DPS(zeta=0.2),  # 1 is for images: in three dimensions it overshoots
    "dps still": DPS(eta=0.0, rate="constant"),
    "mcg": MCG(),
}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("operator", [Keep(), Clipped()], ids=["linear", "clipped"])
def test_a_row_alone_is_the_row_in_the_batch(name, operator):
    if name == "mcg" and not operator.linear:
        pytest.skip("linear operators only")
    d, method, noise = MIX.denoiser(Flow()), ALL[name], Noise([5, 6, 7])
    together = method(d, operator, Y, noise, steps=5)
    alone = method(d, operator, Y[1:2], noise.rows([1]), steps=5)
    assert torch.equal(together[1:2], alone)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ALL)
def test_seeds_of_one_measurement_are_several_results(name):
    made = ALL[name](MIX.denoiser(VP()), Keep(), Y[:1], Noise([1, 2]), steps=5)
    assert made.shape == (2, 3) and float((made[0] - made[1]).abs().max()) > 1e-4


def test_restarts_are_no_samples():
    assert not REDDiff().spread and not REDDiffParallel().spread and DPS().spread
    d = Gaussian(torch.zeros(3), std=0.5).denoiser(VP())  # 0.5 is the posterior's width where nothing is measured

    def width(lr: float) -> float:
        return float(REDDiff(lr=lr)(d, Keep(), Y[:1], Noise(range(16)), steps=60)[:, 2].std())

    assert width(0.1) > 2 * width(0.02), "it follows the rate of the optimiser"
    assert width(0.02) < 0.25


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_it_knows_schedules_by_the_noise_to_signal_ratio_alone(reduction):
    lam = torch.linspace(-2.9, 3.0, 9, dtype=F64)
    made = [
        REDDiff(reduction=reduction)(MIX.denoiser(s), Keep(), Y, Noise([0, 1, 2]), grid=s.t_of(lam)) for s in SCHEDULES
    ]
    for other in made[1:]:
        torch.testing.assert_close(other, made[0], rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_all_schedules_from_their_noisiest_end(name, schedule):
    made = ALL[name](MIX.denoiser(schedule), Keep(), Y, Noise([0, 1, 2]), steps=20)
    assert bool(torch.isfinite(made).all())
    if name not in ("prior", "dps still"):
        assert float((Keep()(made) - Y).abs().mean()) < 0.5 * float(Y.abs().mean())


def test_the_order_of_times():
    def times(method: REDDiff) -> list[float]:
        seen = []

        class Spy(type(d)):
            def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None):
                seen.append(round(float(t[0]), 6))
                return super().forward(x_t, t, c)

        method(Spy(MIX, VP()), Keep(), Y, Noise([0, 1, 2]), steps=6)
        return seen

    d = MIX.denoiser(VP())
    down = [round(1 - i / 6, 6) for i in range(6)]
    assert times(REDDiff()) == down
    assert times(REDDiff(order="ascending")) == down[::-1]
    mixed = times(REDDiff(order="random"))
    assert sorted(mixed, reverse=True) == down and mixed not in (down, down[::-1])
    assert times(REDDiffParallel(at_once=3)) == [down[i] for i in (0, 2, 4, 1, 3, 5)]


def test_parallel_of_one_is_the_plain_method_and_of_more_has_fewer_updates():
    d, noise = MIX.denoiser(VP()), Noise([0, 1, 2])
    plain = REDDiff()(d, Keep(), Y, noise, steps=7)
    assert torch.equal(REDDiffParallel(at_once=1)(d, Keep(), Y, noise, steps=7), plain)
    states = []
    made = REDDiffParallel(at_once=3)(d, Keep(), Y, noise, steps=7, on_step=lambda k, state: states.append((k, state)))
    assert [k for k, _ in states] == [0, 1, 2]
    assert torch.equal(states[-1][1].x0, made), "previews are the image as it is"


def test_weights_of_ones_own():
    class Half(REDWeight):
        def __call__(self, ratio: float) -> float:
            return 0.5 * ratio

        def pull(self, ratio: float) -> float:
            return 0.5

    d, noise = MIX.denoiser(VP()), Noise([0, 1, 2])
    own = REDDiff(weight=Half(), lam=0.5)(d, Keep(), Y, noise, steps=5)
    assert torch.equal(own, REDDiff(weight=RatioPower(1.0))(d, Keep(), Y, noise, steps=5))
    assert not torch.equal(own, REDDiff(weight="sqrt")(d, Keep(), Y, noise, steps=5))


@pytest.mark.parametrize("method", [REDDiff(), DPS()], ids=str)
def test_guides_compose(method):
    d, noise = MIX.denoiser(VP()), Noise([0, 1, 2])
    label = Condition({"label": torch.tensor([0, 0, 0])}, {"label": torch.tensor([2])})
    plain = method(d, Keep(), Y, noise, steps=5, c=label)
    assert torch.equal(method(CFG(1.0)(d), Keep(), Y, noise, steps=5, c=label), plain)
    null = method(d, Keep(), Y, noise, steps=5)
    torch.testing.assert_close(method(CFG(0.0)(d), Keep(), Y, noise, steps=5, c=label), null, rtol=0, atol=1e-12)
    strong = method(CFG(3.0)(d), Keep(), Y, noise, steps=5, c=label)
    assert float((strong - plain).abs().max()) > 1e-3


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 3, dtype=F64)

    def forward(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        return self.layer(x).tanh()


@pytest.mark.parametrize("name", ALL)
def test_callers_with_and_without_gradients(name):
    d = FlowDenoiser(Net(), Flow())
    with torch.enable_grad():
        free = ALL[name](d, Keep(), Y, Noise([0, 1, 2]), steps=4)
    with torch.no_grad():
        held = ALL[name](d, Keep(), Y, Noise([0, 1, 2]), steps=4)
    assert torch.equal(free, held) and not free.requires_grad
    assert all(p.grad is None and p.requires_grad for p in d.parameters())


def test_the_gradient_of_a_nonlinear_misfit_by_differences():
    x, operator = torch.tensor([[0.3, -0.7, 0.4]], dtype=F64), Square()
    problem = Problem.of(operator, torch.tensor([[0.1, 0.2]], dtype=F64), Noise([0]))
    h, numbers = 1e-6, []
    for step in h * torch.eye(3, dtype=F64):
        up, down = (0.5 * problem.residual(x + sign * step).square().sum() for sign in (1, -1))
        numbers.append((up - down) / (2 * h))
    torch.testing.assert_close(misfit_gradient(problem, x)[0], torch.stack(numbers), rtol=0, atol=1e-8)


def test_float32_in_float32_out():
    made = REDDiff()(MIX.denoiser(VP()), Keep(), Y.float(), Noise([0, 1, 2]), steps=4)
    wide = REDDiff()(MIX.denoiser(VP()), Keep(), Y, Noise([0, 1, 2]), steps=4)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.double(), wide, rtol=0, atol=1e-5)


class Deaf(Clipped):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach())


CALLED = MIX.denoiser(VP())
WRONG = {
    "lr": (lambda: REDDiff(lr=0.0), r"REDDiff got lr=0.0; expected a rate > 0"),
    "lam": (lambda: REDDiff(lam=-1.0), r"lam=-1.0; expected a finite number >= 0"),
    "obs": (lambda: REDDiffPrior(obs_weight=float("nan")), r"REDDiffPrior got obs_weight=nan"),
    "weight": (lambda: REDDiff(weight="snr"), r"unknown weight 'snr'; choose one of inv_snr, sqrt"),
    "order": (lambda: REDDiff(order="up"), r"order='up'; choose one of descending, ascending, random"),
    "reduction": (lambda: REDDiff(reduction="none"), r"reduction='none'; choose one of mean, sum"),
    "power": (lambda: RatioPower(-1.0), r"p=-1.0; expected a finite power >= 0"),
    "at once": (lambda: REDDiffParallel(at_once=0), r"at_once=0; expected a whole number >= 1"),
    "zeta": (lambda: DPS(zeta=-0.1), r"zeta=-0.1"),
    "eta": (lambda: DPS(eta=2.0), r"eta=2.0"),
    "rate": (lambda: DPS(rate="norm"), r"rate='norm'; choose residual or constant"),
    "bytes": (
        lambda: REDDiff()(CALLED, Clipped(), torch.tensor([[0.0, 128.0, 255.0]]), Noise([0])),
        r"lies in \[0, 255\] but Clipped measures in \[-1, 1\]; bring it to the range of the model",
    ),
    "bytes to dps": (lambda: DPS()(CALLED, Clipped(), 255 * torch.ones(1, 3), Noise([0])), r"lies in \[255, 255\]"),
    "shape": (
        lambda: REDDiff()(CALLED, Square(), torch.ones(1, 3), Noise([0])),
        r"shape \(1, 3\) but Square makes \(1, 2\)",
    ),
    "matrix": (lambda: DPS()(CALLED, Matrix(torch.ones(2, 3)), torch.ones(1, 3), Noise([0])), r"expected \(2,\)"),
    "deaf": (lambda: REDDiff()(CALLED, Deaf(), torch.ones(1, 3), Noise([0])), r"Deaf passes no gradient on"),
    "deaf to dps": (lambda: DPS()(CALLED, Deaf(), torch.ones(1, 3), Noise([0])), r"no gradient comes from Deaf"),
    "steps": (lambda: REDDiff()(CALLED, Keep(), Y, Noise([0, 1, 2]), steps=0), r"steps=0"),
    "mcg": (lambda: MCG()(CALLED, Clipped(), torch.ones(1, 3), Noise([0])), r"MCG needs a linear operator"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_say_what_is_wrong(name, unchecked):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_noisy_blur_is_not_blown_up_at_the_start():
    faint = Matrix(torch.diag(torch.tensor([1.0, 0.5, 1e-5], dtype=F64)))
    y = torch.tensor([[0.3, -0.2, 0.1]], dtype=F64)
    quiet, noisy = (Problem.of(faint, y, Noise([0]), std=std) for std in (0.0, 0.1))
    assert torch.equal(first_image(quiet), quiet.guess) and float(quiet.guess.abs().max()) > 1e3
    s = torch.tensor([1.0, 0.5, 1e-5], dtype=F64)
    torch.testing.assert_close(first_image(noisy), y * s / (s**2 + 0.01), rtol=0, atol=1e-12)
    clipped = Problem.of(Clipped(), y, Noise([0]), std=0.1)
    assert torch.equal(first_image(clipped), clipped.guess)
