"""The log-likelihood against densities that are known, its order, its estimate of the trace, its gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mezzotint.core import (
    VE,
    VP,
    Condition,
    Cosine,
    Denoiser,
    Discrete,
    Flow,
    FlowDenoiser,
    Gaussian,
    GaussianMixture,
    Noise,
    Prediction,
    karras,
    uniform_lambda,
)
from mezzotint.core.exact import Distribution, probability_flow
from mezzotint.core.schedule import Schedule
from mezzotint.sample import Likelihood, log_likelihood

F64 = torch.float64
SCHEDULES = {"flow": Flow(), "cosine": Cosine(), "vp": VP(), "ve": VE(), "discrete": Discrete.linear()}
PLANE = GaussianMixture(torch.tensor([[-0.8, 0.3, 0.1], [0.6, -0.2, 0.5]]), torch.tensor([0.3, 0.4]))


def at_one(bed: Distribution, schedule: Schedule):
    """The data's own density at t = 1."""
    one = torch.ones((), dtype=F64)
    a, s = float(schedule.alpha(one)), float(schedule.sigma(one))
    return lambda x: bed.log_prob(x, a, s)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("on", ["mixture", "gaussian", "plane"])
def test_densities_that_are_known(on: str, schedule: Schedule, beds) -> None:
    bed = PLANE if on == "plane" else beds[on]
    x = bed.sample(Noise(range(8)))
    got = log_likelihood(bed.denoiser(schedule), x, steps=60, prior=at_one(bed, schedule))
    torch.testing.assert_close(got.nats, bed.log_prob(x), rtol=0, atol=1e-4)
    if on != "plane":
        torch.testing.assert_close(got.latent, probability_flow(bed, schedule, x, 0.0, 1.0), rtol=1e-4, atol=1e-4)
    if schedule in (SCHEDULES["flow"], SCHEDULES["cosine"]):  # all noise at t = 1: the normal prior is the truth
        plain = log_likelihood(bed.denoiser(schedule), x, steps=60)
        torch.testing.assert_close(plain.nats, bed.log_prob(x), rtol=0, atol=1e-4)


@pytest.mark.parametrize("schedule", [Flow(), VP(), VE()], ids=["flow", "vp", "ve"])
def test_noisy_data_where_the_grid_stops_above_zero(schedule: Schedule, beds) -> None:
    bed, t = beds["mixture"], torch.tensor(0.2, dtype=F64)
    a, s = float(schedule.alpha(t)), float(schedule.sigma(t))
    x = a * bed.sample(Noise(range(8))) + s * Noise(range(8))("noise", 0, (1,), dtype=F64)
    grid = uniform_lambda(schedule, 80, t_end=0.2, to_zero=False)
    got = log_likelihood(bed.denoiser(schedule), x, grid=grid, prior=at_one(bed, schedule))
    torch.testing.assert_close(got.nats, bed.log_prob(x, a, s), rtol=0, atol=1e-6)


@pytest.mark.parametrize("on", ["mixture", "gaussian"])
def test_it_is_of_fourth_order(on: str, beds) -> None:
    bed, schedule, t = beds[on], VP(), torch.tensor(0.05, dtype=F64)
    x = bed.sample(Noise(range(6)))
    truth = bed.log_prob(x, float(schedule.alpha(t)), float(schedule.sigma(t)))

    def error(steps: int) -> float:
        grid = uniform_lambda(schedule, steps, t_end=0.05, to_zero=False)
        got = log_likelihood(bed.denoiser(schedule), x, grid=grid, prior=at_one(bed, schedule)).nats
        return float((got - truth).square().mean().sqrt())

    assert abs(math.log2(error(40) / error(80)) - 4) < 0.15


def test_the_step_from_data_is_of_its_grid_alone(beds) -> None:
    """A finer last level makes it as small as one likes."""
    bed, x = beds["gaussian"], beds["gaussian"].sample(Noise(range(4)))
    errors = []
    for low in (0.04, 0.01):
        grid = karras(Flow(), 80, sigma_min=low)
        errors.append(float((log_likelihood(bed.denoiser(Flow()), x, grid=grid).nats - bed.log_prob(x)).abs().max()))
    assert errors[1] < errors[0] / 30  # locally third order and more


def test_evaluations() -> None:
    class Counting(Denoiser):
        times: list[float]

        def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
            self.times.append(float(t[0]))
            return PLANE.denoiser(self.schedule)(x_t, t)

    d = Counting(VP())
    d.times = []
    grid = uniform_lambda(VP(), 5)
    log_likelihood(d, PLANE.sample(Noise([0])), grid=grid)
    assert len(d.times) == 4 * 4 + 1 and min(d.times) == pytest.approx(float(grid[-2])) and max(d.times) == 1.0


def test_probes_estimate_the_trace(beds) -> None:
    """Exact for a Jacobian that is diagonal; else without bias, and better with more of them."""
    x = torch.tensor([[0.2, -0.4, 0.1]], dtype=F64)
    plain = Gaussian(torch.tensor([0.1, 0.0, 0.2]), std=0.5)
    one = log_likelihood(plain.denoiser(Flow()), x, steps=6, probes=1, noise=Noise([3])).nats
    torch.testing.assert_close(one, log_likelihood(plain.denoiser(Flow()), x, steps=6).nats, rtol=0, atol=1e-10)

    bed = beds["gaussian"]
    x = bed.sample(Noise([5])).expand(100, 3)
    d = bed.denoiser(Flow())
    truth = log_likelihood(d, x[:1], steps=6).nats
    few, more = (log_likelihood(d, x, steps=6, probes=n, noise=Noise(range(100))).nats - truth for n in (1, 4))
    assert abs(float(few.mean())) < 4 * float(few.std()) / math.sqrt(100) and float(few.std()) > 0.1
    assert float(more.std()) == pytest.approx(0.5 * float(few.std()), rel=0.35)


@pytest.mark.parametrize("probes", [None, 2])
@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=["float32", "float64"])
def test_a_sample_is_the_same_alone_and_in_a_batch(probes: int | None, dtype: torch.dtype) -> None:
    d, x = PLANE.denoiser(VP()), PLANE.sample(Noise(range(9))).to(dtype)
    together = log_likelihood(d, x, steps=6, probes=probes, noise=Noise(range(9)))
    assert together.latent.dtype == dtype and not together.nats.requires_grad
    for i in (0, 4, 8):
        alone = log_likelihood(d, x[i : i + 1].clone(), steps=6, probes=probes, noise=Noise([i]))
        assert torch.equal(alone.nats, together.nats[i : i + 1])
        assert torch.equal(alone.latent, together.latent[i : i + 1])


@pytest.mark.parametrize("probes", [None, 1])
def test_gradients_reach_data_and_parameters(probes: int | None, alive) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor, t: Tensor, c: Condition | None = None) -> Tensor:
            return self.out(torch.tanh(self.inside(torch.cat([x, t[:, None].to(x.dtype) / 1000], 1))))

    net = alive(Net())
    d, noise = FlowDenoiser(net, Flow()), Noise([0, 1])
    x = torch.tensor([[0.3, -0.2], [0.1, 0.6]], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: log_likelihood(d, x, steps=3, probes=probes, noise=noise).nats, x, atol=1e-6
    )
    total = log_likelihood(d, x.detach(), steps=3, probes=probes, noise=noise).nats.sum()
    (slope,) = torch.autograd.grad(total, net.inside.bias)
    small = 1e-5
    with torch.no_grad():
        values = []
        for step in (small, -2 * small):
            net.inside.bias[1] += step
            values.append(float(log_likelihood(d, x, steps=3, probes=probes, noise=noise).nats.sum()))
    assert float(slope[1]) == pytest.approx((values[0] - values[1]) / (2 * small), rel=1e-6)


def test_the_gradient_is_the_score() -> None:
    x = PLANE.sample(Noise(range(3))).requires_grad_()
    ours, exact = log_likelihood(PLANE.denoiser(Flow()), x, steps=30).nats, PLANE.log_prob(x)
    got, expected = (torch.autograd.grad(value.sum(), x)[0] for value in (ours, exact))
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-3)


def test_bits_per_dimension() -> None:
    likelihood = Likelihood(torch.tensor([-3 * math.log(2.0)], dtype=F64), torch.zeros(1, 3, dtype=F64))
    assert likelihood.bits().tolist() == [1.0] and likelihood.bits(256).tolist() == [8.0]
    # a uniform density on [-1, 1] is log2(levels) bits a coordinate
    uniform = Likelihood(torch.tensor([6 * math.log(0.5)], dtype=F64), torch.zeros(1, 1, 2, 3, dtype=F64))
    assert uniform.bits(256).tolist() == pytest.approx([8.0]) and uniform.bits(2).tolist() == pytest.approx([1.0])


class Broken(Denoiser):
    def forward(self, x_t: Tensor, t: Tensor, c: Condition | None = None) -> Prediction:
        return Prediction.from_x0(x_t * torch.nan, x_t, t, self.schedule)


def test_wrong_calls(unchecked: None) -> None:
    d, x = PLANE.denoiser(VP()), PLANE.sample(Noise([0, 1]))
    wide = torch.zeros(1, 1025, dtype=F64)
    cases = (
        (lambda: log_likelihood(d, x), "neither steps"),
        (lambda: log_likelihood(d, x, steps=0), "steps=0"),
        (lambda: log_likelihood(d, x / 0, steps=3), "NaN or infinity"),
        (lambda: log_likelihood(d, wide, steps=3), "1025 coordinates"),
        (lambda: log_likelihood(d, x, steps=3, probes=0, noise=Noise([0, 1])), "probes=0"),
        (lambda: log_likelihood(d, x, steps=3, probes=1), "got no noise"),
        (lambda: log_likelihood(d, x, steps=3, probes=1, noise=Noise([0])), "got 1 seeds"),
        (lambda: log_likelihood(d, x, steps=3, c=Condition({"a": torch.zeros(3)})), "3 rows"),
        (lambda: log_likelihood(nn.Identity(), x, steps=3), "needs a Denoiser"),
        (lambda: Likelihood(x, x).bits(1), "levels=1"),
    )
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(FloatingPointError, match="came out as"):
        log_likelihood(Broken(VP()), x, steps=3)
