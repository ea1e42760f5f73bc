"""The order of every deterministic sampler, measured against solutions that are known without a solver."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mezzotint.core import VE, VP, Cosine, Discrete, Flow, Shifted
from mezzotint.core.schedule import Schedule
from mezzotint.sample import DDIM, DPMSolverPP, Euler, Heun, Sampler

OFF = {"lower_order_final": False}
SAMPLERS: dict[str, tuple[Sampler, int]] = {
    "ddim": (DDIM(), 1),
    "euler": (Euler(), 1),
    "heun": (Heun(), 2),
    "dpmpp-1": (DPMSolverPP(order=1, **OFF), 1),
    "dpmpp-2m midpoint": (DPMSolverPP(order=2, **OFF), 2),
    "dpmpp-2m taylor": (DPMSolverPP(order=2, form="taylor", **OFF), 2),
    "dpmpp-3m exact": (DPMSolverPP(order=3, **OFF), 3),
    "dpmpp-3m published": (DPMSolverPP(order=3, third="published", **OFF), 2),
}
# The sheet of arXiv 2211.01095, section 6: root mean square errors at 80, 160 and 320 steps.
SHEET = {
    "dpmpp-1": (2.0e-2, 1.0e-2, 5.1e-3),
    "dpmpp-2m midpoint": (5.7e-4, 1.4e-4, 3.6e-5),
    "dpmpp-2m taylor": (9.2e-4, 2.3e-4, 5.7e-5),
    "dpmpp-3m published": (1.9e-4, 4.5e-5, 1.1e-5),
    "dpmpp-3m exact": (3.5e-5, 4.3e-6, 5.3e-7),
}


@pytest.mark.parametrize("on", ["gaussian", "mixture"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_order_on_vp(name: str, on: str, rmse) -> None:
    sampler, order = SAMPLERS[name]
    # a Gaussian's leading error of third order is small: its asymptote is reached a little later
    steps = (320, 640) if (order, on) == (3, "gaussian") else (160, 320)
    coarse, fine = (rmse(sampler, on, VP(), n) for n in steps)
    assert abs(math.log2(coarse / fine) - order) < 0.15, (coarse, fine)
    if name != "dpmpp-3m published":
        assert sampler.order == order


@pytest.mark.parametrize("name", SHEET)
def test_errors_of_the_sheet(name: str, rmse) -> None:
    """Other draws than the sheet's, hence a factor of 1.5 either way."""
    for steps, expected in zip((80, 160, 320), SHEET[name], strict=True):
        assert expected / 1.5 < rmse(SAMPLERS[name][0], "mixture", VP(), steps) < expected * 1.5


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp-2m midpoint", "dpmpp-2m taylor"])
@pytest.mark.parametrize("schedule", [Flow(), Shifted(Cosine(), 2.0)], ids=["flow", "shifted cosine"])
def test_order_from_alpha_zero(name: str, schedule: Schedule, rmse) -> None:
    """Uniform t from alpha = 0: the first step is infinite in lambda and must not cost an order."""
    sampler, order = SAMPLERS[name]
    coarse, fine = (rmse(sampler, "gaussian", schedule, n, uniform="t") for n in (160, 320))
    assert abs(math.log2(coarse / fine) - order) < 0.15, (coarse, fine)


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmpp-2m midpoint"])
@pytest.mark.parametrize("schedule", [VE(0.02, 20.0), Discrete.linear()], ids=["ve", "discrete"])
def test_order_on_other_schedules(name: str, schedule: Schedule, rmse) -> None:
    sampler, order = SAMPLERS[name]
    coarse, fine = (rmse(sampler, "gaussian", schedule, n) for n in (80, 160))
    assert abs(math.log2(coarse / fine) - order) < 0.15, (coarse, fine)


@pytest.mark.parametrize(("start", "on", "order"), [("plain", "gaussian", 2), ("auto", "mixture", 3)])
def test_the_start_of_3m_counts_where_little_noise_does_not_hide_it(start: Any, on: str, order: int, rmse) -> None:
    """The one first-order step is of second order where D moves already: at sigma = 20, not at VP's t = 1."""
    sampler = DPMSolverPP(order=3, start=start, **OFF)
    coarse, fine = (rmse(sampler, on, VE(0.02, 20.0), n) for n in (160, 320))
    assert abs(math.log2(coarse / fine) - order) < 0.15, (coarse, fine)
