"""The peers' solvers on a problem of the comparison: each library driven by its own public interface.

Every function takes (problem, noise levels) and returns y at the last level. Where a library fixes its levels itself
they are put into its scheduler after it was set up, so that all solve the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mezzotint.bench.peers import load_peer
from mezzotint.bench.problem import Problem

__all__ = ["THEIRS", "PeerSolver"]

Solve = Callable[[Problem, Sequence[float]], Tensor]


@dataclass(frozen=True)
class PeerSolver:
    """One solver of another library.

    Args:
        library, solver: their names.
        solve: (problem, levels) -> y at the last level.
        calls: evaluations a step.
        equals: our sampler that computes the same numbers, or "" where there is none.
    """

    library: str
    solver: str
    solve: Solve
    calls: int = 1
    equals: str = ""


def _diffusers(scheduler: str, **options: Any) -> Solve:
    def solve(problem: Problem, levels: Sequence[float]) -> Tensor:
        library = load_peer("diffusers")
        steps, single = len(levels) - 1, scheduler == "HeunDiscreteScheduler"
        made = getattr(library, scheduler)(**options)
        made.set_timesteps(steps)
        nodes = [levels[0], *(s for s in levels[1:] for _ in range(1 + single))]
        made.sigmas = torch.tensor(nodes, dtype=torch.float64)
        made.timesteps = torch.arange(float(steps * (1 + single)), 0, -1)
        made.set_begin_index(0)
        scaled = not hasattr(made, "_sigma_to_alpha_sigma_t")  # the k-diffusion family keeps y itself
        first = 1.0 if scaled else math.hypot(1.0, levels[0])
        x = problem.start / first
        # a two-stage scheduler evaluates at both ends of every step
        at = [s for pair in zip(levels, levels[1:]) for s in pair] if single else levels[:-1]
        for s, t in zip(at, made.timesteps):
            made.is_scale_input_called = True
            y = x if scaled else x * math.hypot(1.0, s)
            eps = (y - problem.data(y, s)) / s
            x = made.step(eps, t, x, return_dict=False)[0]
        return x if scaled else x * math.hypot(1.0, levels[-1])

    return solve


def _k_diffusion(name: str) -> Solve:
    def solve(problem: Problem, levels: Sequence[float]) -> Tensor:
        sample = getattr(load_peer("k-diffusion"), f"sample_{name}")
        sigmas = torch.tensor(levels, dtype=torch.float64)
        return sample(lambda y, s: problem.data(y, float(s[0])), problem.start, sigmas, disable=True)

    return solve


def _azula(name: str, **options: Any) -> Solve:
    def solve(problem: Problem, levels: Sequence[float]) -> Tensor:
        library = load_peer("azula")
        from azula.denoise import Denoiser as Theirs  # type: ignore[import-not-found]
        from azula.denoise import DiracPosterior
        from azula.noise import VESchedule  # type: ignore[import-not-found]

        class Given(Theirs):
            schedule = VESchedule(levels[-1], levels[0])

            def forward(self, x_t: Tensor, t: Tensor, **kwargs: Any) -> Any:
                return DiracPosterior(mean=problem.data(x_t, float(self.schedule(t)[1])))

        # its uniform times on this schedule are the levels, uniform in log s
        made = getattr(library, name)(Given(), steps=len(levels) - 1, silent=True, dtype=torch.float64, **options)
        return made(problem.start)

    return solve


def _smalldiffusion(gam: float) -> Solve:
    def solve(problem: Problem, levels: Sequence[float]) -> Tensor:
        library = load_peer("smalldiffusion")

        class Given(torch.nn.Module):
            def rand_input(self, count: int) -> Tensor:
                return torch.zeros_like(problem.start)

            def predict_eps_cfg(self, y: Tensor, s: Tensor, cond: Any, scale: Any) -> Tensor:
                return (y - problem.data(y, float(s))) / s

        sigmas = torch.tensor(levels, dtype=torch.float64)
        given = Given()
        # its accelerator is asked for a device only
        *_, last = library.samples(given, sigmas, gam=gam, xt=problem.start, accelerator=_NoAccelerator())
        return last

    return solve


class _NoAccelerator:
    device = torch.device("cpu")


def _flow_matching(method: str) -> Solve:
    def solve(problem: Problem, levels: Sequence[float]) -> Tensor:
        library = load_peer("flow_matching")

        def velocity(x: Tensor, t: Tensor) -> Tensor:  # time from noise (0) to data (1): u = x0 - eps
            tau = 1 - float(t)
            y, s = x / (1 - tau), tau / (1 - tau)
            data = problem.data(y, s)
            return data - (y - data) / s

        times = torch.tensor([1 - s / (1 + s) for s in levels], dtype=torch.float64)
        x = library.ODESolver(velocity).sample(
            problem.start / (1 + levels[0]), step_size=None, method=method, time_grid=times
        )
        return x * (1 + levels[-1])

    return solve


_multistep = partial(_diffusers, "DPMSolverMultistepScheduler", lower_order_final=False, final_sigmas_type="sigma_min")
_unipc = partial(_diffusers, "UniPCMultistepScheduler", lower_order_final=False, final_sigmas_type="sigma_min")
_deis = partial(_diffusers, "DEISMultistepScheduler", lower_order_final=False)
THEIRS: tuple[PeerSolver, ...] = (
    PeerSolver("diffusers", "Euler", _diffusers("EulerDiscreteScheduler"), equals="euler"),
    PeerSolver("diffusers", "Heun", _diffusers("HeunDiscreteScheduler"), 2, equals="heun"),
    PeerSolver("diffusers", "DPM++ 1", _multistep(solver_order=1), equals="ddim"),
    PeerSolver("diffusers", "DPM++ 2M", _multistep(), equals="dpmpp-2m"),
    PeerSolver("diffusers", "DPM++ 2M heun", _multistep(solver_type="heun"), equals="dpmpp-2m-taylor"),
    PeerSolver("diffusers", "DPM++ 3M", _multistep(solver_order=3), equals="dpmpp-3m-published"),
    PeerSolver("diffusers", "UniPC 2", _unipc(), equals="unipc-2"),
    PeerSolver("diffusers", "UniPC 3", _unipc(solver_order=3), equals="unipc-3"),
    PeerSolver("diffusers", "DEIS 2", _deis(), equals="deis-2"),
    PeerSolver("diffusers", "DEIS 3", _deis(solver_order=3), equals="deis-3"),
    PeerSolver("k-diffusion", "Euler", _k_diffusion("euler"), equals="euler"),
    PeerSolver("k-diffusion", "Heun", _k_diffusion("heun"), 2, equals="heun"),
    PeerSolver("k-diffusion", "DPM-2", _k_diffusion("dpm_2"), 2),
    PeerSolver("k-diffusion", "DPM++ 2M", _k_diffusion("dpmpp_2m"), equals="dpmpp-2m"),
    PeerSolver("k-diffusion", "LMS 4", _k_diffusion("lms")),
    PeerSolver("azula", "DDIM", _azula("DDIMSampler"), equals="ddim"),
    PeerSolver("azula", "Euler", _azula("EulerSampler"), equals="euler"),
    PeerSolver("azula", "Heun", _azula("HeunSampler"), 2, equals="heun"),
    PeerSolver("azula", "zEAB 2", _azula("zEABSampler", order=2)),
    PeerSolver("azula", "xEAB 2", _azula("xEABSampler", order=2), equals="dpmpp-2m-taylor"),
    PeerSolver("azula", "xEAB 3", _azula("xEABSampler", order=3)),
    PeerSolver("smalldiffusion", "DDIM", _smalldiffusion(1.0), equals="ddim"),
    PeerSolver("smalldiffusion", "accelerated", _smalldiffusion(2.0)),
    PeerSolver("flow_matching", "euler", _flow_matching("euler"), equals="euler"),
    PeerSolver("flow_matching", "midpoint", _flow_matching("midpoint"), 2, equals="midpoint"),
    PeerSolver("flow_matching", "heun3", _flow_matching("heun3"), 3, equals="heun3"),
)  # fmt: skip
