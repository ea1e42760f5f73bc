"""PiGDM, moment matching, DDRM, DDNM and DiffPIR as restorers: rows, schedules, guides, gradients, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    VE,
    VP,
    Condition,
    Cosine,
    EpsDenoiser,
    Flow,
    FlowDenoiser,
    Gaussian,
    GaussianMixture,
    Noise,
    Prediction,
    uniform_lambda,
)
from mezzotint.core.denoiser import Denoiser
from mezzotint.core.known import mark_time
from mezzotint.guide import CFG
from mezzotint.restore import DDNM, DDRM, DiffPIR, FromGuess, GuessPiGDM, MomentMatching, PiGDM, Problem
from mezzotint.restore.linearised import Linearised
from mezzotint.restore.operators import AveragePool, Blur, Clip, Identity, Mask, Matrix, Radon, ReflectBlur
from mezzotint.restore.regularised import regularised

F64 = torch.float64
SCHEDULES = [VP(), VE(0.01, 20.0), Flow(), Cosine()]
DRAW = torch.Generator().manual_seed(7)


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=DRAW, dtype=F64)


MIX = GaussianMixture(
    torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]), torch.tensor([0.4, 0.6])
)
SOME = Matrix(torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.3, -0.4]], dtype=F64))
Y = torch.tensor([[0.2, 0.4], [0.7, -0.1], [-0.5, 0.5]], dtype=F64)
ALL = {
    "pigdm": PiGDM(data_std=0.5),
    "moments": MomentMatching(),
    "ddrm": DDRM(),
    "ddrm still": DDRM(eta=0.0, eta_b=0.5),
    "ddnm": DDNM(),
    "ddnm still": DDNM(eta=0.0),
    "ddnm travels": DDNM(jump=2, times=2),
    "diffpir": DiffPIR(),
    "guess": GuessPiGDM(),
}
GRADIENTS = {"pigdm": (1, 1), "moments": (1, 5), "guess": (1, 1)}  # backward passes a step, at least and at most


class Net(torch.nn.Module):
    """A small network of three numbers, that counts."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(0.5 * normal(3, 3))
        self.calls = self.backward = 0

    def forward(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        self.calls += 1
        out = torch.tanh(x @ self.weight)
        if out.requires_grad:
            out.register_hook(self._count)
        return out

    def _count(self, gradient: Tensor) -> None:
        self.backward += 1


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("std", [0.0, 0.3])
def test_a_row_alone_is_the_row_in_the_batch(name, std):
    d, method, noise = MIX.denoiser(Flow()), ALL[name], Noise([5, 6, 7])
    together = method(d, SOME, Y, noise, std=std, steps=5)
    alone = method(d, SOME, Y[1:2], noise.rows([1]), std=std, steps=5)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-12)
    assert float((together[0] - together[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ALL)
def test_seeds_of_one_measurement_are_several_samples(name):
    made = ALL[name](MIX.denoiser(VP()), SOME, Y[:1], Noise([1, 2]), std=0.1, steps=5)
    assert made.shape == (2, 3) and float((made[0] - made[1]).abs().max()) > 1e-4
    assert ALL[name].spread


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("std", [0.0, 0.2])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_all_schedules_from_their_noisiest_end(name, std, schedule):
    """To sigma = 0, from alpha = 0 where the schedule has it; and the measurement is explained."""
    made = ALL[name](MIX.denoiser(schedule), SOME, Y, Noise([0, 1, 2]), std=std, steps=25)
    assert bool(torch.isfinite(made).all())
    assert float((SOME(made) - Y).abs().mean()) < (0.4 if std else 0.2)
    if not std and name not in ("pigdm", "diffpir", "guess", "ddrm still"):
        torch.testing.assert_close(SOME(made), Y, rtol=0, atol=1e-3 if name == "moments" else 1e-9)


@pytest.mark.parametrize("name", ALL)
def test_calls_gradients_and_parameters(name):
    method, net = ALL[name], Net()
    d = FlowDenoiser(net, VP())
    with torch.no_grad():
        made = method(d, SOME, Y, Noise([0, 1, 2]), std=0.1, steps=6)
    assert net.calls == (method.nfe(6) if isinstance(method, DDNM) else 6)
    least, most = GRADIENTS.get(name, (0, 0))
    assert 6 * least <= net.backward <= 6 * most
    assert net.weight.grad is None and not made.requires_grad
    with torch.inference_mode():
        again = method(d, SOME, Y, Noise([0, 1, 2]), std=0.1, steps=6)
    torch.testing.assert_close(made, again, rtol=0, atol=0)
    assert net.weight.grad is None


def test_few_iterations_are_few_backward_passes():
    net = Net()
    MomentMatching(1)(FlowDenoiser(net, VP()), SOME, Y, Noise([0, 1, 2]), std=0.1, steps=4)
    assert net.backward == 4  # the solution's image is made of those of the products


def test_default_steps():
    nets = [Net(), Net(), Net()]
    DDRM()(FlowDenoiser(nets[0], VP()), SOME, Y, Noise([0, 1, 2]))
    PiGDM()(FlowDenoiser(nets[1], VP()), SOME, Y, Noise([0, 1, 2]))
    DDRM()(FlowDenoiser(nets[2], VP()), SOME, Y, Noise([0, 1, 2]), grid=torch.tensor([1.0, 0.5, 0.0]))
    assert [net.calls for net in nets] == [20, 100, 2]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("std", [0.0, 0.3])
def test_a_guided_denoiser_is_as_good_as_the_plain_one(name, std):
    """CFG with w = 1 is the conditional call; w = 2 another; the label picks a component, which is a Gaussian."""
    c = Condition({"label": torch.tensor([1, 1, 1])}, null={"label": torch.tensor([2])})
    d, method, noise = MIX.denoiser(VP()), ALL[name], Noise([0, 1, 2])
    plain, guided, more = (method(q, SOME, Y, noise, std=std, steps=4, c=c) for q in (d, CFG(1.0)(d), CFG(2.0)(d)))
    assert torch.equal(plain, guided)
    assert float((more - plain).abs().max()) > 1e-3
    one = Gaussian(torch.tensor([0.6, -0.2, 0.5], dtype=F64), std=0.3).denoiser(VP())
    alone = method(one, SOME, Y, noise, std=std, steps=4)
    torch.testing.assert_close(plain, alone, rtol=0, atol=1e-7)  # the component is held in float32


@pytest.mark.parametrize("method", [PiGDM(), MomentMatching(), DiffPIR()], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("std", [0.0, 0.2])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_times_that_carry_their_levels_and_times_that_do_not(method, std, schedule):
    """Both ends in one batch; DDIM's plan has numbers, a caller's tensor has none."""
    d = method.informed(MIX.denoiser(schedule), Problem.of(SOME, Y, Noise([0, 1, 2]), std))
    x, t = normal(3, 3), torch.tensor([0.0, 0.4, 1.0], dtype=F64)
    mixed = d(x, t).x0
    assert bool(torch.isfinite(mixed).all())
    for row, time in enumerate(t.tolist()):
        levels = (float(schedule.alpha(t[row])), float(schedule.sigma(t[row])))
        marked = mark_time(torch.full((3,), time, dtype=F64), time, (schedule, *levels))
        torch.testing.assert_close(d(x, marked).x0[row], mixed[row], rtol=1e-9, atol=1e-9)
    if std or not isinstance(method, MomentMatching):
        torch.testing.assert_close(mixed[0], x[0] / float(schedule.alpha(t[0])), rtol=0, atol=1e-5)


IMAGES = {
    "mask": Mask(torch.tensor([[1, 0] * 4, [0, 1] * 4] * 4)),
    "pool": AveragePool(2),
    "blur": Blur.gaussian(1.0, 5),
    "denoise": Identity(),
}


@pytest.mark.parametrize("name", ["pigdm", "moments", "ddrm", "ddnm", "diffpir"])
@pytest.mark.parametrize("which", IMAGES)
def test_pictures_in_float32(name, which):
    """As in float64, but for rounding; y is explained as well as its noise lets it."""
    operator, prior = IMAGES[which], Gaussian(torch.zeros(1, 8, 8), std=0.5)
    x = prior.sample(Noise([1, 2]))
    n = 0.02 * Noise([1, 2])("n", 0, tuple(operator(x).shape[1:]), dtype=F64)
    y = operator(operator.pinv(operator(x) + n))
    wide, single = (
        ALL[name](prior.denoiser(VP()), operator, q, Noise([0, 1]), std=0.02, steps=10, grid=uniform_lambda)
        for q in (y, y.float())
    )
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), wide, rtol=0, atol=2e-3)
    assert float((operator(wide) - y).square().mean().sqrt()) < 0.1


def test_noise_far_smaller_than_the_rounding_of_y():
    """(A A* + noise)^-1 must not divide the rounding of what A cannot reach by the noise."""
    operator, y = Blur.gaussian(0.8, 3), normal(2, 1, 8, 8)
    want = regularised(operator, y, 1e-7)
    torch.testing.assert_close(
        regularised(operator, y.float(), 1e-7).double(), want, rtol=0, atol=2e-5 * float(want.abs().max())
    )
    torch.testing.assert_close(regularised(operator, y, torch.full((2, 1, 1, 1), 1e-7, dtype=F64)), want)
    dense = Matrix(normal(3, 5))
    v = normal(2, 3)
    torch.testing.assert_close(regularised(dense, v, 0.3), dense.adjoint(dense.solve(v, 1.0, 0.3)), rtol=0, atol=1e-12)


def test_products_alone():
    """A ray transform, which has no decomposition: noise-free data are explained by each method that takes it."""
    operator = Radon([0.0, 40.0, 80.0, 120.0, 160.0], 8)
    x = Gaussian(torch.zeros(1, 8, 8), std=0.3).sample(Noise([3]))
    y, d = operator(x), Gaussian(torch.zeros(1, 8, 8), std=0.3).denoiser(VP())
    for method in (PiGDM(data_std=0.3), DDNM(), DiffPIR()):
        made = method(d, operator, y, Noise([0]), steps=8)
        assert float((operator(made) - y).norm() / y.norm()) < 1e-2, method


def test_guess_pigdm_takes_what_is_not_linear():
    prior = GaussianMixture(torch.tensor([[[[0.9, -0.3]]], [[[-0.4, 0.2]]]]), torch.tensor([0.1, 0.1]))
    operator, d = Clip(2.0), prior.denoiser(VP())
    y = operator(prior.means[:1].view(1, 1, 1, 2))
    made = GuessPiGDM()(d, operator, y, Noise(range(8)), steps=30)
    plain = GuessPiGDM(weight=0.0)(d, operator, y, Noise(range(8)), steps=30)
    near = [float((operator(q) - y).abs().mean()) for q in (made, plain)]
    assert near[0] < 0.1 and near[0] < 0.3 * near[1]


@pytest.mark.parametrize("method", [DDNM(), DDRM()], ids=lambda m: type(m).__name__)
def test_a_late_start(method):
    made = FromGuess(0.4, method)(MIX.denoiser(VP()), SOME, Y, Noise([0, 1, 2]), steps=6)
    torch.testing.assert_close(SOME(made), Y, rtol=0, atol=1e-9)


def test_ddnm_travels_by_the_same_jumps():
    assert DDNM(jump=2, times=3).nfe(10) == 10 + 2 * 2 * 4 and DDNM().nfe(10) == 10


class Held(Denoiser):
    """No gradients come out of it."""

    @torch.no_grad()
    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction("x0", 0.5 * x_t, x_t, t, self.schedule)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PiGDM(data_std=0.0), "data_std=0.0"),
        (lambda: PiGDM(eta=-1.0), "eta=-1.0"),
        (lambda: MomentMatching(iterations=0), "iterations=0"),
        (lambda: MomentMatching(data_std=-1.0), "data_std=-1.0"),
        (lambda: GuessPiGDM(weight=-1.0), "weight=-1.0"),
        (lambda: DDRM(eta=2.0), "eta=2.0; expected a number in"),
        (lambda: DDRM(eta_b=-0.1), "eta_b=-0.1"),
        (lambda: DDNM(times=0), "times=0"),
        (lambda: DiffPIR(weight=0.0), "weight=0.0"),
        (lambda: DiffPIR(zeta=1.5), "zeta=1.5"),
        (lambda: DiffPIR(least_std=-1.0), "least_std=-1.0"),
        (lambda: DiffPIR(data_std=0.0), "data_std=0.0"),
        (lambda: PiGDM()(MIX.denoiser(VP()), Clip(2.0), normal(1, 1, 2, 2), Noise([0])), "needs a linear operator"),
        (
            lambda: DDRM()(MIX.denoiser(VP()), ReflectBlur(torch.ones(3, 3)), normal(1, 1, 4, 4), Noise([0])),
            "singular value decomposition",
        ),
        (lambda: DDNM()(MIX.denoiser(VP()), SOME, normal(1, 4), Noise([0])), "expected"),
        (lambda: DDNM()(MIX.denoiser(VP()), SOME, Y, Noise([0, 1])), "2 seeds but there are 3"),
        (lambda: DDNM()(MIX.denoiser(VP()), SOME, Y / 0, Noise([0, 1, 2])), "NaN or infinity"),
        (lambda: DDRM()(MIX.denoiser(VP()), SOME, Y, Noise([0, 1, 2]), std=-1.0), "std=-1.0"),
        (lambda: PiGDM()(Held(VP()), SOME, Y, Noise([0, 1, 2]), steps=2), "no gradient comes from Held"),
        (lambda: Mask(torch.zeros(4, 4)), "measures nothing"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_eps_networks_at_alpha_zero_are_refused_through_the_method():
    with pytest.raises(ValueError, match="says nothing of the data at alpha = 0"):
        PiGDM()(EpsDenoiser(Net(), Flow()), SOME, Y, Noise([0, 1, 2]), steps=3)


def test_the_jacobians_product_is_that_of_finite_differences():
    d, x, t, v = FlowDenoiser(Net(), VP()), normal(3, 3), torch.full((3,), 0.5, dtype=F64), normal(3, 3)
    here, small = Linearised.at(d, x, t, None), 1e-6
    for i in range(3):
        move = torch.zeros(3, 3, dtype=F64)
        move[:, i] = small
        slope = ((d(x + move, t).x0 - d(x - move, t).x0) * v).sum(1) / (2 * small)
        torch.testing.assert_close(here.back(v, keep=True)[:, i], slope.detach(), rtol=0, atol=1e-7)
