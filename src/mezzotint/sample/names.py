"""Samplers by the names that people type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mezzotint.sample.adaptive import Adaptive
from mezzotint.sample.ancestral import DPMSolverPP2SAncestral, DPMSolverPPSDE, EulerAncestral
from mezzotint.sample.consistency import Consistency
from mezzotint.sample.ddim import DDIM
from mezzotint.sample.ddpm import DDPM
from mezzotint.sample.deis import DEIS
from mezzotint.sample.distilled import DistilledDDIM, DistilledStochastic
from mezzotint.sample.dpm import DPMSolver, DPMSolverSingle
from mezzotint.sample.dpmpp import DPMSolverPP
from mezzotint.sample.dpmv3 import DPMSolverV3
from mezzotint.sample.dualfast import DualFast
from mezzotint.sample.ems import EMS
from mezzotint.sample.euler import Euler
from mezzotint.sample.heun import Heun
from mezzotint.sample.loop import Sampler
from mezzotint.sample.restart import Restart
from mezzotint.sample.rungekutta import RungeKutta
from mezzotint.sample.sde import SDEDPMSolverPP
from mezzotint.sample.singlestep import DPMSolverPPSingle
from mezzotint.sample.unipc import UniPC

__all__ = ["NAMED", "NamedSampler", "sampler_named"]


@dataclass(frozen=True)
class NamedSampler:
    """One line of the list of samplers: its name, how to make it, its network evaluations, its paper, what it is.

    `reaches` is the order of accuracy where that is less than the `order` of the formula it was made with.
    """

    name: str
    make: Callable[[], Sampler]
    nfe: str
    paper: str
    about: str
    reaches: int | None = None

    @property
    def order(self) -> int:
        """Order of accuracy."""
        return self.make().order if self.reaches is None else self.reaches

    @property
    def stochastic(self) -> bool:
        """Whether it draws noise during the run."""
        return self.make().stochastic


NAMED: dict[str, NamedSampler] = {
    entry.name: entry
    for entry in (
        NamedSampler("ddim", DDIM, "steps", "2010.02502", "deterministic, first order"),
        NamedSampler("ddpm", DDPM, "steps", "2006.11239", "ancestral sampling, posterior variance"),
        NamedSampler("euler", Euler, "steps", "2206.00364", "Euler in the noise level"),
        NamedSampler("heun", Heun, "2 steps - 1", "2206.00364", "Heun in the noise level"),
        NamedSampler("dpmpp-1", partial(DPMSolverPP, order=1), "steps", "2211.01095", "DPM-Solver++ of order 1"),
        NamedSampler("dpmpp-2m", partial(DPMSolverPP, order=2), "steps", "2211.01095", "DPM-Solver++ 2M, midpoint"),
        NamedSampler(
            "dpmpp-2m-taylor",
            partial(DPMSolverPP, order=2, form="taylor"),
            "steps",
            "2211.01095",
            "DPM-Solver++ 2M, Taylor",
        ),
        NamedSampler("dpmpp-3m", partial(DPMSolverPP, order=3), "steps", "2211.01095", "DPM-Solver++ 3M, exact"),
        NamedSampler("dpmpp-2s", partial(DPMSolverPPSingle, order=2), "steps", "2211.01095", "DPM-Solver++ 2S"),
        NamedSampler("dpmpp-3s", partial(DPMSolverPPSingle, order=3), "steps", "2211.01095", "DPM-Solver++ 3S"),
        NamedSampler("dpm-2m", partial(DPMSolver, order=2), "steps", "2206.00927", "noise-form DPM-Solver 2M"),
        NamedSampler("dpm-2s", partial(DPMSolverSingle, order=2), "steps", "2206.00927", "noise-form DPM-Solver-2"),
        NamedSampler("dpm-3s", partial(DPMSolverSingle, order=3), "steps", "2206.00927", "noise-form DPM-Solver-3"),
        NamedSampler("unipc-1", partial(UniPC, order=1), "steps", "2302.04867", "UniPC-1, bh2: order 2, corrected"),
        NamedSampler("unipc-2", partial(UniPC, order=2), "steps", "2302.04867", "UniPC-2, bh2: order 3, corrected"),
        NamedSampler("unipc-3", partial(UniPC, order=3), "steps", "2302.04867", "UniPC-3, bh2: order 4, corrected"),
        NamedSampler("deis-2", partial(DEIS, order=2), "steps", "2204.13902", "DEIS in log rho: dpm-2m, exact weights"),
        NamedSampler("deis-3", partial(DEIS, order=3), "steps", "2204.13902", "DEIS in log rho: dpm-3m, exact weights"),
        NamedSampler("dpm-adaptive", Adaptive, "by tolerance", "2206.00927", "steps chosen by an error estimate"),
        NamedSampler(
            "dpmpp-3m-published",
            partial(DPMSolverPP, order=3, third="published"),
            "steps",
            "2211.01095",
            "DPM-Solver++ 3M as other libraries have it: second order",
            reaches=2,
        ),
        NamedSampler(
            "midpoint",
            partial(RungeKutta, "midpoint"),
            "2 steps - 1",
            "2210.02747",
            "midpoint in sigma / (alpha + sigma)",
        ),
        NamedSampler(
            "heun3", partial(RungeKutta, "heun3"), "3 steps - 2", "2210.02747", "Heun's third order in the same"
        ),
        NamedSampler(
            "rk4", partial(RungeKutta, "rk4"), "4 steps - 3", "2210.02747", "Kutta's fourth order in the same"
        ),
        NamedSampler("euler-a", EulerAncestral, "steps", "2206.00364", "Euler ancestral: ddpm by another name"),
        NamedSampler(
            "dpmpp-2s-a", DPMSolverPP2SAncestral, "2 steps - 1", "2211.01095", "2S to less noise, then noise added"
        ),
        NamedSampler("dpmpp-sde", DPMSolverPPSDE, "2 steps - 1", "2211.01095", "two ancestral steps on one path"),
        NamedSampler("dpmpp-2m-sde", SDEDPMSolverPP, "steps", "2211.01095", "the SDE's 2M: the law of order 2"),
        NamedSampler(
            "dpmpp-3m-sde",
            partial(SDEDPMSolverPP, order=3),
            "steps",
            "2211.01095",
            "the SDE's 3M: the mean of order 3, the variance of 2",
        ),
        NamedSampler(
            "dpmpp-3m-sde-published",
            partial(SDEDPMSolverPP, order=3, form="taylor", third="published", lower_order_final=False),
            "steps",
            "2211.01095",
            "the SDE's 3M as other libraries have it: second order",
            reaches=2,
        ),
        NamedSampler("lcm", Consistency, "steps", "2310.04378", "for consistency models alone"),
        NamedSampler("distilled", DistilledDDIM, "steps", "2210.03142", "DDIM, in the steps a student has learned"),
        NamedSampler(
            "distilled-stochastic",
            DistilledStochastic,
            "steps",
            "2210.03142",
            "double steps, half of each back by noise",
        ),
        NamedSampler("restart", Restart, "2 steps + 7", "2306.14878", "Heun, and twice back from 0.06 to 0.30"),
        NamedSampler("dualfast-ddim", partial(DualFast, DDIM()), "steps", "2506.13058", "DDIM, more contrast"),
        NamedSampler("dualfast-dpmpp-2m", partial(DualFast, DPMSolverPP()), "steps", "2506.13058", "2M, more contrast"),
    )
}


def sampler_named(name: str) -> Sampler:
    """The sampler of that name, with its defaults; "dpm-v3:FILE" is DPM-Solver-v3 with the EMS of that file.

    Raises:
        ValueError: for an unknown name; lists the known ones. For a file that holds no EMS.

    >>> sampler_named("dpmpp-2m").order
    2
    """
    method, _, file = name.partition(":")
    if method == "dpm-v3":
        if not file:
            raise ValueError("dpm-v3 needs the model's statistics: dpm-v3:FILE (mezzotint calibrate makes the file)")
        return DPMSolverV3(EMS.load(file))
    if name not in NAMED:
        raise ValueError(f"unknown sampler {name!r}; expected one of {', '.join(NAMED)}, or dpm-v3:FILE")
    return NAMED[name].make()
