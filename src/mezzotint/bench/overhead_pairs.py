"""The same run by a peer and by us: one network, one grid, one start, so that outputs can be compared and then timed.

Each library runs in the variables it was written for: diffusers on integer steps of its own beta table, k-diffusion at
alpha = 1, azula on its own schedule; and we on the same levels as it. The network predicts the data everywhere, which
no library has to convert.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mezzotint.bench.peers import load_peer
from mezzotint.core import VE, Discrete, Schedule, X0Denoiser
from mezzotint.sample import DDIM, DPMSolverPP, Euler, Sampler

__all__ = ["PAIRS", "SOLVERS", "Pair", "our_run"]

Net = Callable[[Tensor], Tensor]  # what it is given -> the data
Run = Callable[[Net], Tensor]

SOLVERS: dict[str, Sampler] = {"dpmpp-2m": DPMSolverPP(order=2), "ddim": DDIM(), "euler": Euler()}
_STEPS_OF_TABLE = 1000


@dataclass(frozen=True)
class Pair:
    """A peer's run and ours, each a function of the network."""

    theirs: Run
    ours: Run


def our_run(sampler: Sampler, schedule: Schedule, grid: Tensor, x_T: Tensor) -> Run:
    """Our run as a user calls it."""
    nets: list[Net] = []
    denoiser = X0Denoiser(lambda x, t, c: nets[-1](x), schedule)

    def run(net: Net) -> Tensor:
        nets[:] = [net]
        with torch.no_grad():
            return sampler(denoiser, x_T, grid=grid)

    return run


def diffusers_pair(solver: str, x: Tensor, steps: int) -> Pair:
    """Schedulers of diffusers on the linear beta table, `trailing` spacing."""
    diffusers = load_peer("diffusers")
    options: dict[str, Any] = {"beta_schedule": "linear", "timestep_spacing": "trailing", "prediction_type": "sample"}
    if solver == "ddim":
        make, options = diffusers.DDIMScheduler, {**options, "clip_sample": False}
    elif solver == "euler":
        make = diffusers.EulerDiscreteScheduler
    else:
        make, options = diffusers.DPMSolverMultistepScheduler, {**options, "final_sigmas_type": "zero"}
    scheduler = make(num_train_timesteps=_STEPS_OF_TABLE, **options)
    scheduler.set_timesteps(steps)
    times = (scheduler.timesteps.to(torch.float64) + 1) / _STEPS_OF_TABLE
    grid = torch.cat([times, times.new_zeros(1)])
    schedule = Discrete.linear(_STEPS_OF_TABLE)
    # Euler's scheduler keeps x / alpha
    start = x / float(schedule.alpha(grid[0])) if solver == "euler" else x

    @torch.no_grad()
    def theirs(net: Net) -> Tensor:
        scheduler.set_timesteps(steps)
        state = start
        for t in scheduler.timesteps:
            state = scheduler.step(net(scheduler.scale_model_input(state, t)), t, state, return_dict=False)[0]
        return state

    return Pair(theirs, our_run(SOLVERS[solver], schedule, grid, x))


def k_diffusion_pair(solver: str, x: Tensor, steps: int) -> Pair:
    """Functions of k-diffusion on noise levels made beforehand, the last one zero."""
    module = load_peer("k-diffusion")
    if solver == "ddim":
        raise NotImplementedError("k-diffusion has no DDIM of its own: at alpha = 1 it is Euler's method")
    function = module.sample_euler if solver == "euler" else module.sample_dpmpp_2m
    schedule, grid = VE(), torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    sigmas = schedule.sigma(grid).to(x.dtype)
    start = x * float(sigmas[0])
    return Pair(
        lambda net: function(lambda y, sigma: net(y), start, sigmas, disable=True),
        our_run(SOLVERS[solver], schedule, grid, start),
    )


@dataclass(frozen=True)
class _AzulaVP:
    """azula's VPSchedule as one of ours: alpha = alpha_min^(t^2), sigma = sqrt(1 - alpha^2 + sigma_min^2)."""

    alpha_min: float
    sigma_min: float
    curve: str = "variance"

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(math.log(self.alpha_min) * t**2)

    def sigma(self, t: Tensor) -> Tensor:
        return (1 - self.alpha(t) ** 2 + self.sigma_min**2).sqrt()

    def half_log_snr(self, t: Tensor) -> Tensor:
        return self.alpha(t).log() - self.sigma(t).log()

    def t_of(self, lam: Tensor) -> Tensor:
        raise NotImplementedError


def azula_pair(solver: str, x: Tensor, steps: int) -> Pair:
    """Samplers of azula on its VP schedule; second order is its exponential Adams-Bashforth, our 2M in Taylor form."""
    module = load_peer("azula")
    from azula.denoise import Denoiser, DiracPosterior  # pyright: ignore[reportMissingImports]
    from azula.noise import VPSchedule  # pyright: ignore[reportMissingImports]

    schedule = VPSchedule()

    class Null(Denoiser):
        def __init__(self, net: Net) -> None:
            super().__init__()
            self.net, self.schedule = net, schedule

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            return DiracPosterior(self.net(x_t))

    def theirs(net: Net) -> Tensor:
        options = {"steps": steps, "silent": True}
        if solver == "dpmpp-2m":
            return module.xEABSampler(Null(net), order=2, **options)(x)
        return (module.DDIMSampler if solver == "ddim" else module.EulerSampler)(Null(net), **options)(x)

    sampler = SOLVERS[solver]
    if isinstance(sampler, DPMSolverPP):
        sampler = replace(sampler, form="taylor", lower_order_final=False)
    same = _AzulaVP(schedule.alpha_min, schedule.sigma_min)
    grid = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return Pair(theirs, our_run(sampler, same, grid, x))  # type: ignore[arg-type]


PAIRS: dict[str, Callable[[str, Tensor, int], Pair]] = {
    "diffusers": diffusers_pair,
    "k-diffusion": k_diffusion_pair,
    "azula": azula_pair,
}
