"""What replaces the measured part: RePaint and its time travel, ILVR, MCG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from mezzotint.core import (
    VP,
    Condition,
    Cosine,
    Empirical,
    Flow,
    FlowDenoiser,
    Gaussian,
    GaussianMixture,
    Noise,
    X0Denoiser,
)
from mezzotint.core.exact import ExactDenoiser
from mezzotint.restore import ILVR, MCG, RePaint, TimeTravel
from mezzotint.restore.operators import AveragePool, LinearOperator, Matrix, SpectralOperator, free_form_mask
from mezzotint.restore.operators import Mask as InpaintMask
from mezzotint.sample import DDIM, DDPM, DPMSolverPP
from mezzotint.sample.multistep import Multistep, Row
from mezzotint.sample.plan import Node

F64 = torch.float64
MIX = GaussianMixture(
    torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.2, 0.3]), torch.tensor([0.4, 0.6])
)
Y = torch.tensor([[0.2, 0.4, 0.0], [0.7, -0.1, 0.0]], dtype=F64)


class Mask(SpectralOperator):
    """m x, the size kept."""

    def __init__(self, *kept: float) -> None:
        super().__init__()
        self.kept = torch.tensor(kept, dtype=F64)

    def singulars(self, x: Tensor) -> Tensor:
        return self.kept.to(x)[None]

    def to_spectrum(self, x: Tensor) -> Tensor:
        return x

    from_spectrum = measured_from_spectrum = to_spectrum

    def measured_to_spectrum(self, y: Tensor) -> Tensor:
        return y * self.kept.to(y)


class Means(Matrix):
    """The mean of the first two numbers."""

    def __init__(self) -> None:
        super().__init__(torch.tensor([[0.5, 0.5, 0.0]], dtype=F64))


SOME = Mask(1.0, 1.0, 0.0)


class Spy(ExactDenoiser):
    def __init__(self, distribution, schedule) -> None:
        super().__init__(distribution, schedule)
        self.times: list[float] = []

    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None):
        self.times.append(round(float(t[0]), 6))
        return super().forward(x_t, t, c)


@pytest.mark.parametrize("steps", [1, 4, 5, 10, 21])
@pytest.mark.parametrize("method", [RePaint(), RePaint(3, 2), RePaint(4, 1), RePaint(1, 4)], ids=str)
def test_evaluations(method, steps):
    d = Spy(MIX, VP())
    method(d, SOME, Y, Noise([0, 1]), steps=steps)
    turns = math.ceil((steps - method.jump) / method.jump) if steps > method.jump else 0
    assert len(d.times) == method.nfe(steps) == steps + (method.times - 1) * method.jump * turns


def test_the_schedule_of_jumps_is_the_papers():
    """The official loop over T = 6 levels, jump 2, 3 times, in its counting: level i is node 5 - i."""
    jumps, t, levels = {j: 2 for j in range(0, 6 - 2, 2)}, 6, []
    while t >= 1:
        t -= 1
        levels.append(t)
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            for _ in range(2):
                t += 1
                levels.append(t)
    d = Spy(MIX, VP())
    RePaint(2, 3)(d, SOME, Y, Noise([0, 1]), steps=6)
    left = [a for a, b in zip(levels, levels[1:] + [-1]) if b < a]  # a network call is a step down
    assert d.times == [round((a + 1) / 6, 6) for a in left]


def test_what_is_known_comes_out_as_it_went_in():
    made = RePaint(3, 2)(MIX.denoiser(Flow()), SOME, Y, Noise([0, 1]), steps=8)
    assert torch.equal(made[:, :2], Y[:, :2]) and float(made[:, 2].abs().min()) > 0
    everything = Y + 0.1
    assert torch.equal(RePaint(3, 2)(MIX.denoiser(VP()), Mask(1, 1, 1), everything, Noise([0, 1]), steps=8), everything)


def test_nothing_known_is_the_unconditional_sampler():
    d, noise = MIX.denoiser(VP()), Noise([0, 1])
    made = RePaint(times=1)(d, Mask(0, 0, 0), 0 * Y, noise, steps=8)
    x_T = float(VP().sigma(torch.ones((), dtype=F64))) * noise("x_T", 0, (3,), dtype=F64)
    assert torch.equal(made, DDIM(1.0)(d, x_T, steps=8, noise=noise))
    travelled = RePaint(3, 2)(d, Mask(0, 0, 0), 0 * Y, noise, steps=8)
    assert torch.equal(travelled, TimeTravel(DDIM(1.0), 3, 2)(d, x_T, steps=8, noise=noise))


@pytest.mark.parametrize("base", [DDIM(), DDPM(), DPMSolverPP(order=2)], ids=str)
def test_travel_once_is_the_base(base):
    d, noise = MIX.denoiser(Flow()), Noise([0, 1])
    x_T = noise("x_T", 0, (3,), dtype=F64)
    plain = base(d, x_T, steps=8, noise=noise)
    assert torch.equal(TimeTravel(base, 3, 1)(d, x_T, steps=8, noise=noise), plain)
    more = TimeTravel(base, 3, 2)(d, x_T, steps=8, noise=noise)
    assert bool(torch.isfinite(more).all()) and not torch.equal(more, plain)


def test_each_visit_has_noise_of_its_own():
    asked = []

    class Listening(Noise):
        def __call__(self, purpose, k, shape, **options):
            asked.append((purpose, k))
            return super().__call__(purpose, k, shape, **options)

    RePaint(2, 3)(MIX.denoiser(VP()), SOME, Y, Listening([0, 1]), steps=6)
    assert len(asked) == len(set(asked)) > 6 + 8


@dataclass(frozen=True)
class Stay(Multistep):
    """The exact probability flow of a standard normal law under a variance-preserving schedule: nothing moves."""

    order = 1

    def row(self, nodes: Sequence[Node], k: int) -> Row:
        return Row(1.0, (0.0,))


@pytest.mark.parametrize("schedule", [VP(), Cosine()], ids=str)
def test_travel_keeps_a_law_that_the_base_keeps(schedule):
    noise = Noise(range(3000))
    x_T = noise("x_T", 0, (2,), dtype=F64)
    d = X0Denoiser(lambda x, time, c: x, schedule)
    made = TimeTravel(Stay(), 2, 3)(d, x_T, steps=6, noise=noise)
    assert float(made.mean(0).norm()) < 0.05 and float((made.std(0) - 1).abs().max()) < 0.03
    assert abs(float((made * x_T).mean())) < 0.9, "and it has moved"


def test_travel_brings_the_unknown_nearer_to_the_known():
    cov = torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]], dtype=F64)
    d, y = Gaussian(torch.zeros(3), cov=cov).denoiser(VP()), torch.tensor([[1.5, 0.0, 0.0]], dtype=F64)
    noise = Noise(range(100))

    def error(times: int) -> float:
        made = RePaint(4, times)(d, Mask(1, 0, 0), y, noise, steps=16)
        return abs(float(made[:, 1].mean()) - 0.9 * 1.5)

    assert error(6) < 0.8 * error(1)


def test_the_noise_of_a_measurement_is_part_of_the_levels():
    noise, std = Noise(range(2000)), 0.4
    y = 0.3 + std * noise("y", 0, (1,), dtype=F64).expand(-1, 3) * torch.tensor([1.0, 0.0, 0.0])
    states = []
    RePaint(times=1)(
        MIX.denoiser(VP()), Mask(1, 0, 0), y, noise, std=std, steps=4, on_step=lambda k, state: states.append(state.x)
    )
    for t, x in zip((0.75, 0.5), states):
        sigma = float(VP().sigma(torch.tensor(t)))
        assert float(x[:, 0].std()) == pytest.approx(sigma, rel=0.05), "not sqrt(sigma^2 + alpha^2 std^2)"


def test_ilvr_has_the_low_frequencies_of_the_reference():
    d, noise = MIX.denoiser(Flow()), Noise(range(40))
    y = torch.tensor([[0.25]], dtype=F64)
    made = ILVR()(d, Means(), y, noise, steps=8)
    torch.testing.assert_close(Means()(made), y.expand(40, 1), rtol=0, atol=1e-12)
    assert float(made[:, 2].std()) > 0.05
    free = Means()(ILVR(until=0.4)(d, Means(), y, noise, steps=8))
    assert 1e-3 < float((free - y).abs().mean()) < float((Means()(MIX.sample(noise)) - y).abs().mean())


def test_mcg_fits_any_linear_measurement():
    operator = Matrix(torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, -1.0]], dtype=F64))
    y = torch.tensor([[0.5, -0.2]], dtype=F64)
    made = MCG(zeta=0.2)(MIX.denoiser(Flow()), operator, y, Noise([0, 1, 2]), steps=10)
    torch.testing.assert_close(operator(made), y.expand(3, 2), rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", [ILVR(), MCG(zeta=0.2)], ids=str)
def test_the_noise_of_a_measurement_is_not_blown_up(method):
    faint = Matrix(torch.diag(torch.tensor([1.0, 1.0, 1e-4], dtype=F64)))
    made = method(MIX.denoiser(Flow()), faint, Y + 0.05, Noise([0, 1]), std=0.05, steps=10)
    assert float((made[:, :2] - Y[:, :2] - 0.05).abs().max()) < 0.05 and float(made[:, 2].abs().max()) < 2


@pytest.mark.parametrize("method", [RePaint(3, 2), ILVR(), MCG(zeta=0.2)], ids=str)
def test_rows_apart_and_previews(method):
    d, states = MIX.denoiser(Flow()), []
    together = method(d, SOME, Y, Noise([5, 6]), steps=8, on_step=lambda k, state: states.append((k, state)))
    assert torch.equal(method(d, SOME, Y[1:], Noise([6]), steps=8), together[1:])
    assert [k for k, _ in states] == list(range(len(states))) and torch.equal(states[-1][1].x, together)
    assert all(state.x0 is not None and state.x0.shape == Y.shape for _, state in states)


class Net(torch.nn.Module):
    def forward(self, x: Tensor, time: Tensor, c: Condition | None) -> Tensor:
        raise AssertionError("the network must not be called")


class Twice(LinearOperator):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * x

    adjoint = forward


UNCALLED = FlowDenoiser(Net(), Flow())
WRONG = {
    "no mask": (lambda: RePaint()(UNCALLED, Means(), Y[:, :1], Noise([0, 1])), "RePaint needs a mask.*Means is none"),
    "no values": (lambda: RePaint()(UNCALLED, Twice(), Y, Noise([0, 1])), "RePaint needs a mask.*Twice is none"),
    "jump": (lambda: RePaint(jump=0), "jump=0; expected a whole number >= 1"),
    "times": (lambda: RePaint(times=0), "times=0; expected a whole number >= 1"),
    "eta": (lambda: RePaint(eta=-1.0), "eta=-1.0"),
    "until": (lambda: ILVR(until=1.0), r"until=1.0; expected a time in \[0, 1\)"),
    "twice": (lambda: TimeTravel(TimeTravel(DDIM())), "travels itself"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_say_what_is_wrong(name, unchecked):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_on_pictures():
    data = 0.3 * Noise(range(5))("data", 0, (3, 8, 8), dtype=F64)
    d, noise, x = Empirical(data).denoiser(Flow()), Noise([8, 9]), data[:2]
    mask = InpaintMask(free_form_mask(noise, 8, 8))
    made = RePaint(2, 2)(d, mask, mask(x), noise, steps=6)
    torch.testing.assert_close(mask(made), mask(x), rtol=0, atol=0)
    torch.testing.assert_close(made, x, rtol=0, atol=1e-3)  # of five pictures only one explains what is seen
    pool = AveragePool(4)
    torch.testing.assert_close(pool(ILVR()(d, pool, pool(x), noise, steps=6)), pool(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(pool(MCG()(d, pool, pool(x), noise, steps=6)), pool(x), rtol=0, atol=1e-12)
