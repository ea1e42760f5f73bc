"""Grids by name: their formulas, their ends on every schedule, and diffusers' own nodes where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mezzotint.core import (
    GRIDS,
    NAMED_GRIDS,
    VE,
    VP,
    Cosine,
    Discrete,
    Flow,
    Shifted,
    beta,
    beta_levels,
    exponential,
    grid_named,
    karras_own,
    leading,
    linspace,
    resolve_grid,
    trailing,
    uniform_lambda,
    uniform_t,
)
from mezzotint.core.beta_quantile import beta_quantile
from mezzotint.core.grid_levels import own_levels

D = torch.float64
DISCRETE = {
    "linear": Discrete.linear(),
    "scaled linear": Discrete.scaled_linear(),
    "shifted": Shifted(Discrete.linear(), 2.0),
    "few": Discrete.linear(60, 1e-3, 0.2),
}
CONTINUOUS = {"vp": VP(), "cosine": Cosine(), "ve": VE(), "flow": Flow(), "shifted flow": Shifted(Flow(), 3.0)}
INTEGER = {"leading", "leading-1", "leading-solver", "linspace", "linspace-solver"}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("schedule", (DISCRETE | CONTINUOUS).values(), ids=DISCRETE | CONTINUOUS)
def test_every_grid_falls_from_noise_to_zero(name, schedule):
    if name in INTEGER and schedule in CONTINUOUS.values():
        with pytest.raises(ValueError, match="is continuous"):
            GRIDS[name](schedule, 5)
        return
    for steps in (1, 2, 7, 50):
        if (name, steps, getattr(schedule, "steps", 1000)) == ("leading-solver", 50, 60):
            continue  # 60 // 51 is 1: the steps 1 to 50, which is what diffusers has; looked at below
        t = resolve_grid(GRIDS[name], schedule, steps)
        assert t.dtype == D and len(t) == steps + 1 and t[-1] == 0
        if name not in INTEGER:
            assert t[0] == 1


def test_names():
    assert all(entry.name == name and entry.about for name, entry in NAMED_GRIDS.items())
    assert grid_named("trailing") is trailing and GRIDS["uniform-lambda"] is uniform_lambda
    with pytest.raises(ValueError, match=r"unknown time grid 'karas'; expected one of uniform-t, .*karras"):
        grid_named("karas")


@pytest.mark.parametrize("n", [1000, 999, 60])
def test_integer_grids_are_numpys_arithmetic(n):
    """For every number of steps, halves and all."""
    schedule = Discrete.linear(n, 1e-3, 0.02)
    for steps in range(1, n + 1, 1 if n < 100 else 7):
        got = [
            schedule.timestep(grid)[:-1].numpy()
            for grid in (
                trailing(schedule, steps),
                leading(schedule, steps),
                linspace(schedule, steps),
                linspace(schedule, steps, whole=False),
            )
        ]
        expected = [
            np.round(np.arange(n, 0, -n / steps))[:steps] - 1,
            (np.arange(0, steps) * (n // steps))[::-1],
            np.linspace(0, n - 1, steps).round()[::-1],
            np.linspace(0, n - 1, steps)[::-1],
        ]
        for ours, theirs in zip(got, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_leading_takes_an_offset_and_drops_the_last():
    schedule = Discrete.linear()
    assert schedule.timestep(leading(schedule, 4, offset=1))[:-1].round().tolist() == [751, 501, 251, 1]
    assert schedule.timestep(leading(schedule, 3, drop_last=True))[:-1].round().tolist() == [750, 500, 250]
    assert schedule.timestep(linspace(schedule, 3, drop_last=True))[:-1].round().tolist() == [999, 666, 333]


@pytest.mark.parametrize("schedule", (DISCRETE | CONTINUOUS).values(), ids=DISCRETE | CONTINUOUS)
def test_levels_are_their_formulas(schedule):
    low, high = own_levels(schedule)
    n, rho = 9, 7.0
    ramp = torch.linspace(0, 1, n, dtype=D)
    expected = {
        exponential: torch.exp(math.log(high) + ramp * (math.log(low) - math.log(high))),
        karras_own: (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho,
        beta_levels: low + torch.from_numpy(beta_quantile(1 - ramp.numpy(), 0.6, 0.6)) * (high - low),
    }
    whole = math.isinf(float(schedule.half_log_snr(torch.ones((), dtype=D))))
    for grid, levels in expected.items():
        got = schedule.half_log_snr(grid(schedule, n)[:-1]).neg().exp()
        first = 1 if whole else 0  # where sigma/alpha is infinite at t = 1 the first node is moved there
        torch.testing.assert_close(got[first:], levels[first:], rtol=1e-7, atol=0)
    given = exponential(VP(), 5, sigma_min=0.01, sigma_max=4.0)
    steps = VP().half_log_snr(given[:-1]).diff()
    torch.testing.assert_close(steps, torch.full_like(steps, math.log(400) / 4), rtol=1e-9, atol=0)
    assert given[0] < 1


def test_own_levels_of_a_table_are_its_first_and_last():
    table = torch.cumprod(1 - torch.tensor(Discrete.scaled_linear().betas, dtype=D), 0)
    sigmas = ((1 - table) / table).sqrt()
    assert own_levels(Discrete.scaled_linear()) == pytest.approx((float(sigmas[0]), float(sigmas[-1])), rel=1e-9)
    assert own_levels(Shifted(Discrete.linear(), 2.0))[0] == pytest.approx(2 * own_levels(Discrete.linear())[0])


def test_quantiles_of_the_beta_distribution():
    """Closed forms: arcsine, powers, uniform; mirror symmetry; and the paper's grid is symmetric for a = b."""
    p = np.linspace(0, 1, 33)
    np.testing.assert_allclose(beta_quantile(p, 0.5, 0.5), np.sin(0.5 * np.pi * p) ** 2, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(beta_quantile(p, 1.0, 3.0), 1 - (1 - p) ** (1 / 3), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(beta_quantile(p, 2.5, 1.0), p ** (1 / 2.5), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(beta_quantile(p, 1.0, 1.0), p, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(beta_quantile(p, 0.3, 4.0), 1 - beta_quantile(1 - p, 4.0, 0.3), rtol=0, atol=1e-14)
    small = beta_quantile(np.array([1e-6]), 0.5, 0.5)
    np.testing.assert_allclose(small, np.sin(0.5e-6 * np.pi) ** 2, rtol=1e-9)
    t = beta(VP(), 10)
    torch.testing.assert_close(t, 1 - t.flip(0), rtol=0, atol=1e-14)
    torch.testing.assert_close(beta(VP(), 10, a=1.0, b=1.0), uniform_t(VP(), 10), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: leading(Discrete.linear(), 1001), "steps=1001"),
        (lambda: linspace(Discrete.linear(), 0), "steps=0"),
        (lambda: leading(Discrete.linear(), 4, offset=250), "first step would be 1000"),
        (lambda: leading(Discrete.linear(), 1000, drop_last=True), "fewer steps"),
        (lambda: leading(Discrete.linear(), 4, offset=-1), "offset=-1"),
        (lambda: exponential(VP(), 4, sigma_min=2.0, sigma_max=1.0), "sigma_min < sigma_max"),
        (lambda: karras_own(VE(), 4, sigma_max=81.0), "reaches"),
        (lambda: karras_own(VP(), 4, rho=0.0), "rho=0"),
        (lambda: beta(VP(), 4, a=0.0), "a=0"),
        (lambda: beta_quantile(np.array([1.5]), 1.0, 1.0), "outside"),
    ],
)
def test_wrong_grids_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# What diffusers' schedulers place, beside ours.
TABLES = {"linear": {}, "scaled_linear": {"beta_start": 0.00085, "beta_end": 0.012}}
SETTINGS = {
    "leading": {"timestep_spacing": "leading"},
    "leading, offset": {"timestep_spacing": "leading", "steps_offset": 1},
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"timestep_spacing": "linspace", "use_karras_sigmas": True},
    "exponential": {"timestep_spacing": "linspace", "use_exponential_sigmas": True},
    "lu": {"timestep_spacing": "linspace", "use_lu_lambdas": True},
    "beta": {"timestep_spacing": "linspace", "use_beta_sigmas": True},
}


def ours(setting: str, scheduler: str, schedule: Discrete, steps: int, low: float) -> torch.Tensor:
    solver = scheduler == "DPMSolverMultistepScheduler"
    if setting.startswith("leading"):
        return leading(schedule, steps, offset=int("offset" in setting), drop_last=solver)
    if setting == "linspace":
        return linspace(schedule, steps, drop_last=solver, whole=scheduler != "EulerDiscreteScheduler")
    by_name = {"trailing": trailing, "karras": karras_own, "exponential": exponential, "lu": exponential}
    grid = by_name.get(setting, beta_levels)
    return grid(schedule, steps) if grid is trailing else grid(schedule, steps, sigma_min=low)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"])
def test_nodes_of_diffusers(scheduler, setting, table):
    diffusers = pytest.importorskip("diffusers")
    if setting == "beta":
        pytest.importorskip("scipy")
    by_level = setting in ("karras", "exponential", "lu", "beta")
    if (by_level and scheduler == "DDIMScheduler") or (setting == "lu" and scheduler == "EulerDiscreteScheduler"):
        pytest.skip("it has no such setting")
    make = getattr(diffusers, scheduler)
    schedule = Discrete.linear() if table == "linear" else Discrete.scaled_linear()
    for steps in (2, 10, 25, 48):
        theirs = make.from_config({"beta_schedule": table, **TABLES[table], **SETTINGS[setting]})
        theirs.set_timesteps(steps)
        # 1 - alpha^2 in float32 costs their lowest level four digits; all others follow from it
        low = float(((1 - theirs.alphas_cumprod[0]) / theirs.alphas_cumprod[0]) ** 0.5)
        assert low == pytest.approx(own_levels(schedule)[0], rel=3e-4)
        times = ours(setting, scheduler, schedule, steps, low)
        if scheduler != "DDIMScheduler":
            levels = schedule.half_log_snr(times).neg().exp()
            # between integer steps their Euler has another interpolation, and at its lowest two it shows
            rtol = 2e-3 if (scheduler, setting) == ("EulerDiscreteScheduler", "linspace") else 5e-5
            torch.testing.assert_close(levels, theirs.sigmas.double(), rtol=rtol, atol=1e-6)
        if not by_level:
            expected = theirs.timesteps[: len(times) - 1].double()
            torch.testing.assert_close(schedule.timestep(times)[:-1], expected, rtol=0, atol=1e-4)
