"""What the boundary-shifted preconditioning promises: the identity at the least noise, on every schedule."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mezzotint.core import VE, VP, BoundaryDenoiser, Cosine, Flow, Noise
from mezzotint.core.known import mark_time

D = torch.float64
X = Noise([0, 1, 2])("x_T", 0, (4,), dtype=D)


class Says:
    """A network that keeps what it was given and answers with tanh of it."""

    def __call__(self, x: Tensor, time: Tensor, c: object) -> Tensor:
        self.x, self.time = x, time
        return 3 * torch.tanh(x + 1e-3 * time.view(-1, 1))


def _times(schedule, *levels: float) -> Tensor:
    return schedule.t_of(-torch.tensor(levels, dtype=D).log())


def test_the_weights_are_those_of_the_definition():
    net, schedule, d, m = Says(), VE(), 0.7, 0.01
    sigma = torch.tensor([0.02, 1.0, 50.0], dtype=D)[:, None]
    got = BoundaryDenoiser(net, schedule, d, m)(X, _times(schedule, 0.02, 1.0, 50.0)).x0
    c_skip, c_out = d**2 / ((sigma - m) ** 2 + d**2), d * (sigma - m) / (sigma**2 + d**2) ** 0.5
    torch.testing.assert_close(net.x, X * (sigma**2 + d**2) ** -0.5, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net.time, 250 * sigma[:, 0].log(), rtol=1e-9, atol=1e-9)
    answer = 3 * torch.tanh(net.x + 1e-3 * net.time[:, None])
    torch.testing.assert_close(got, c_skip * X + c_out * answer, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [VE(), VP(), Flow(), Cosine()])
@pytest.mark.parametrize("dtype", [torch.float32, D])
def test_at_the_boundary_and_below_it_is_the_identity(schedule, dtype):
    m = 0.05
    f = BoundaryDenoiser(Says(), schedule, sigma_min=m)
    t = torch.cat([_times(schedule, m, 0.5 * m), torch.zeros(1, dtype=D)])
    x = X.to(dtype)
    clean = x / schedule.alpha(t)[:, None].to(dtype)
    torch.testing.assert_close(f(x, t).x0, clean, rtol=0, atol=1e-7 if dtype == D else 4e-7)


@pytest.mark.parametrize("schedule", [VP(), Flow(), Cosine()])
def test_a_schedule_is_its_ve_form(schedule):
    """f depends on x_t / alpha and sigma / alpha alone."""
    levels = (0.1, 1.0, 6.0)
    t, over = _times(schedule, *levels), VE()
    a = schedule.alpha(t)[:, None]
    ours = BoundaryDenoiser(Says(), schedule)(a * X, t).x0
    theirs = BoundaryDenoiser(Says(), over)(X, _times(over, *levels)).x0
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [VE(), VP(), Flow(), Cosine()])
def test_times_that_carry_their_levels_give_the_same(schedule):
    net, f = Says(), None
    f = BoundaryDenoiser(net, schedule)
    for time in (0.0, 0.3, 1.0):
        t = torch.full((3,), time, dtype=D)
        plain, told = f(X, t).x0, net.time
        levels = (schedule, float(schedule.alpha(t)[0]), float(schedule.sigma(t)[0]))
        torch.testing.assert_close(f(X, mark_time(t.clone(), time, levels)).x0, plain, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(net.time, told, rtol=1e-9, atol=1e-9)
        assert bool(torch.isfinite(plain).all()) and bool(torch.isfinite(told).all())


@pytest.mark.parametrize("name", ["sigma_data", "sigma_min", "scale"])
def test_settings_that_make_no_function_are_refused(name):
    for value in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=name):
            BoundaryDenoiser(Says(), VE(), **{name: value})
